"""The predecessor's routes to time series, and its page about what there is."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from tests.factories import (
    add_dataset,
    add_parcels,
    add_product,
    add_scene,
    add_signature,
    sql,
    square,
)

pytestmark = pytest.mark.postgis

PLACE = {"aoi": "tt", "year": 2024, "pid": "101"}
COLUMNS = ["date_part", "band", "count", "mean", "std", "min", "p25", "p50", "p75", "max"]
DAYS = [datetime(2024, 5, day, 10, 30, 21, 24000, tzinfo=UTC) for day in (1, 3, 6)]
SAFE = "S2A_MSIL2A_202405{:02}T103021_N0510_R108_T32TMT_20240501T140000.SAFE"


def stats(seed: int, variables: int = 2, empty: tuple[int, ...] = ()) -> list[list[float]]:
    """count, mean, std, min, max, p25, p50, p75 of each variable; NaN of the empty ones."""
    made = np.random.default_rng(seed).uniform(0, 3000, (variables, 8)).astype(np.float32)
    made[:, 0] = 150
    for number in empty:
        made[number] = [0] + [np.nan] * 7
    return made.tolist()


class World:
    """One parcel, three S2 images with histograms, one backscatter image."""

    def __init__(self, db):
        self.db = db
        self.dataset = add_dataset(db)
        self.geometry = add_parcels(db, self.dataset, [square(600_000, 5_300_000)])[0]
        sql(db, "UPDATE cbm.parcel SET pid = '101'")
        self.s2 = add_product(db, variables=("B04", "B08"))
        self.bs = add_product(db, "bs", "bs", ("VH", "VV"))
        self.scenes = [
            add_scene(db, {}, reference=SAFE.format(day.day), obstime=day) for day in DAYS
        ]
        self.values = [stats(1), stats(2), stats(3, empty=(0,))]
        classes = [{4: 38}, {4: 30, 9: 8}, {4: 38, 0: 300}]
        for scene, day, values, hist in zip(self.scenes, DAYS, self.values, classes, strict=True):
            self.add(self.s2, scene, day, values, classes=hist)
        s1 = add_scene(db, {}, reference="S1A_bs", obstime=DAYS[0], card="bs", tile="")
        self.backscatter = [[1.0, 0.01] + [0.5] * 6, [1.0, 0.1] + [0.6] * 6]
        self.add(self.bs, s1, DAYS[0], self.backscatter)

    def add(self, product, scene, day, values, **given):
        self.work(product, scene)
        add_signature(self.db, self.dataset, self.geometry, scene, product, day, values, **given)

    def work(self, product, scene):
        sql(
            self.db,
            """INSERT INTO cbm.work_item (scene_id, dataset_id, product_id, state)
               VALUES (%s, %s, %s, 'done') ON CONFLICT DO NOTHING""",
            scene, self.dataset, product,
        )  # fmt: skip


@pytest.fixture
def world(db) -> World:
    return World(db)


@pytest.fixture
def ask(asking, world):
    anna = asking("anna", world.dataset)

    def get(**given):
        response = anna.get("/query/parcelTimeSeries", **{**PLACE, **given})
        assert response.status_code == 200
        return response.json

    return get


def test_a_row_per_image_and_band_with_its_histogram(ask, world):
    found = ask()
    assert list(found) == [*COLUMNS, "hist"]
    assert found["band"] == ["B04", "B08", "B04", "B08", "B08"]
    assert found["date_part"] == [
        day.timestamp() for day in (DAYS[0], DAYS[0], DAYS[1], DAYS[1], DAYS[2])
    ]
    assert found["date_part"][0] == 1714559421.024
    assert found["count"] == [150] * 5
    place = {"mean": 1, "std": 2, "min": 3, "max": 4, "p25": 5, "p50": 6, "p75": 7}
    stored = [row for values in world.values for row in values if row[0]]
    for name, number in place.items():
        assert [np.float32(value) for value in found[name]] == [row[number] for row in stored]
    assert found["hist"] == [
        {"4": 38}, {"4": 38}, {"4": 30, "9": 8}, {"4": 30, "9": 8}, {"0": 300, "4": 38}
    ]  # fmt: skip


def test_the_numbers_are_those_of_the_view(ask, world):
    found = ask(ref="True")
    rows = sql(
        world.db,
        """SELECT extract(epoch FROM obstime)::float8, band, count, mean, std, min, p25, p50, p75,
             max, classes, reference
           FROM cbm.signature_long WHERE pid = '101' AND product = 's2' AND count > 0
           ORDER BY obstime, band""",
    )
    assert [list(row) for row in zip(*found.values(), strict=True)] == [list(row) for row in rows]


def test_one_band_in_any_spelling_keeps_it(ask):
    for spelling in ("B08", "B8"):
        found = ask(band=spelling)
        assert found["band"] == [spelling] * 3
        assert found["mean"] == ask(band="B08")["mean"]
        assert len(found["hist"]) == 3
    assert ask(band="B11") == {}
    assert ask(band="SC") == {}
    assert ask(band="")["band"] == ask()["band"]


def test_backscatter_in_linear_power_with_its_suffix(ask, world):
    found = ask(tstype="bs")
    assert list(found) == COLUMNS
    assert found["band"] == ["VHb", "VVb"]
    assert found["mean"] == pytest.approx([0.01, 0.1])
    assert ask(tstype="BS", band="VVb")["mean"] == ask(tstype="bs", band="VV")["mean"] == [0.1]
    assert ask(tstype="c6") == {}


def test_without_histograms_and_with_references(ask):
    found = ask(scl="False", ref="True", band="B08")
    assert list(found) == [*COLUMNS, "reference"]
    assert found["reference"] == [SAFE.format(day.day) for day in DAYS]
    # What clients make of it: the UTM zone.
    assert {reference.split("_")[5][1:3] for reference in found["reference"]} == {"32"}


def test_scene_classes_alone(ask, world):
    assert ask(tstype="scl") == {
        "obsid": world.scenes,
        "hist": [{"4": 38}, {"4": 30, "9": 8}, {"0": 300, "4": 38}],
    }


def test_an_image_without_classes_is_never_taken_for_cloud_free(ask, world):
    day = datetime(2024, 6, 1, 10, 30, tzinfo=UTC)
    scene = add_scene(world.db, {}, reference="no SCL", obstime=day)
    world.add(world.s2, scene, day, stats(4))
    assert ask() == ask(scl="True")
    assert day.timestamp() not in ask()["date_part"]
    assert ask(scl="False")["date_part"][-1] == day.timestamp()


def test_a_series_without_any_classes_has_no_histograms(ask, world):
    other = add_product(world.db, "other", variables=("B04",))
    settings = '{"legacy_products": {"s2": "other"}}'
    sql(world.db, "UPDATE cbm.dataset SET settings = %s", settings)
    world.add(other, world.scenes[0], DAYS[0], stats(5, 1))
    found = ask()
    assert list(found) == COLUMNS
    assert found["mean"] == pytest.approx([stats(5, 1)[0][1]])
    assert ask(tstype="scl") == {}


def test_one_row_speaks_for_a_pass(ask, world):
    twin = add_scene(world.db, {}, reference="twin", obstime=DAYS[0], tile="31TGN")
    world.add(world.s2, twin, DAYS[0], stats(6), classes={4: 1}, rank=1)
    old = add_scene(world.db, {}, reference="old", obstime=DAYS[0], part="old")
    sql(world.db, "UPDATE cbm.scene SET state = 'superseded' WHERE id = %s", old)
    world.add(world.s2, old, DAYS[0], stats(7), classes={4: 1})
    assert ask(band="B08", ref="True")["reference"] == [SAFE.format(day.day) for day in DAYS]


def test_which_product_serves(ask, world):
    clear = add_product(world.db, "clear", variables=("B04",))
    world.add(clear, world.scenes[0], DAYS[0], stats(8, 1), classes={4: 38})
    assert ask(band="B04")["mean"] == pytest.approx([row[0][1] for row in world.values[:2]])
    sql(world.db, "UPDATE cbm.dataset SET settings = %s", '{"legacy_products": {"s2": "clear"}}')
    assert ask()["mean"] == pytest.approx([stats(8, 1)[0][1]])
    sql(world.db, "UPDATE cbm.dataset SET settings = %s", '{"legacy_products": {"s2": "gone"}}')
    assert ask() == {}
    # Without s2 itself: the only one of the card.
    sql(world.db, "UPDATE cbm.dataset SET settings = '{}'")
    owner = replace(world.db, database=world.db.connection("owner"))
    sql(owner, "DELETE FROM cbm.work_item WHERE product_id = %s", world.s2)
    assert ask()["mean"] == pytest.approx([stats(8, 1)[0][1]])


def test_as_a_file(asking, world):
    anna = asking("anna", world.dataset)
    given = {**PLACE, "tsformat": "csv", "ref": "True"}
    response = anna.get("/query/parcelTimeSeries", **given)
    assert response.content_type.startswith("text/csv")
    assert response.headers["Content-Disposition"] == (
        "attachment; filename=timeseries_tt2024_101_s2.csv"
    )
    rows = list(csv.DictReader(io.StringIO(response.text)))
    found = anna.get("/query/parcelTimeSeries", ref="True", **PLACE).json
    assert list(rows[0]) == list(found)
    assert [float(row["mean"]) for row in rows] == found["mean"]
    assert [json.loads(row["hist"]) for row in rows] == found["hist"]
    empty = anna.get("/query/parcelTimeSeries", **{**given, "pid": "7"}).text
    assert empty.split("\r\n") == [",".join([*COLUMNS, "reference"]), ""]


def test_any_id_makes_a_name_of_a_file(asking, world):
    pid = 'łä"; x=/../1'
    sql(world.db, "UPDATE cbm.parcel SET pid = %s", pid)
    given = {**PLACE, "pid": pid, "tsformat": "csv"}
    response = asking("anna", world.dataset).get("/query/parcelTimeSeries", **given)
    assert response.text.count("\r\n") == 6
    assert response.headers["Content-Disposition"] == (
        "attachment; filename=timeseries_tt2024_a_x_.._1_s2.csv"
    )


def test_nothing_is_found(asking, ask, world):
    assert ask(pid="999") == {}
    assert ask(year=2023) == {}
    bob = asking("bob").get("/query/parcelTimeSeries", **PLACE)
    assert (bob.status_code, bob.json) == (200, {})
    for route in ("weatherTimeSeries", "markers"):
        response = asking(route, world.dataset).get(f"/query/{route}", **PLACE)
        assert (response.status_code, response.json) == (200, {})


def test_bad_parameters(asking):
    anna = asking("anna")
    for given in (
        {"tstype": "s3"},
        {"tstype": ""},
        {"band": "B\x00"},
        {"scl": "maybe"},
        {"pid": ""},
        {"aoi": "x" * 1000},
        {"year": "2024; DROP TABLE cbm.parcel"},
    ):
        found = anna.get("/query/parcelTimeSeries", **{**PLACE, **given})
        assert (found.status_code, found.json["code"]) == (400, "bad_parameter"), given
    for route in ("weatherTimeSeries", "markers"):
        assert anna.get(f"/query/{route}", aoi="tt", year=2024).status_code == 400


def test_reads_are_logged(ask, world):
    ask()
    owner = replace(world.db, database=world.db.connection("owner"))
    query = "SELECT detail -> 'parcels' FROM cbm.audit WHERE action = 'read'"
    assert sql(owner, query) == [(["101"],)]


def test_what_there_is(asking, app, world):
    older = add_dataset(world.db, year=2023)
    add_parcels(world.db, world.dataset, [square(600_000, 5_400_000)], layer="m")
    hidden = add_dataset(world.db, aoi="xx")
    add_parcels(world.db, hidden, [square(600_000, 5_300_000)])
    anna = asking("anna", world.dataset, older)
    found = anna.get("/query/info").json
    assert found["server"] == {"host": "http://localhost"}
    about = found["aois"]["tt"]
    assert list(found["aois"]) == ["tt"]
    assert about["years"] == ["2023", "2024"]
    assert about["datasets"] == ["m"]
    assert about["time_series"] == ["s2", "bs"]
    assert about["id_examples_2024"] == ["101"]
    # The examples work as they stand.
    assert set(about["request_examples"]) == {
        "parcelByID", "parcelTimeSeries_s2", "parcelTimeSeries_bs", "parcelPeers"
    }  # fmt: skip
    for address in about["request_examples"].values():
        path = address.removeprefix("http://localhost")
        assert app.test_client().get(path, headers=anna.headers).json, address
    assert about["tms"] == []
    background = '{"background": {"source": "/orthos/2024.tif"}}'
    sql(world.db, "UPDATE cbm.dataset SET settings = %s WHERE id = %s", background, world.dataset)
    pictured = anna.get("/query/info", aoi="TT").json["aois"]["tt"]
    assert pictured["tms"] == ["orthophoto"]
    assert "tms=orthophoto" in pictured["request_examples"]["backgroundByParcelID"]
    assert anna.get("/query/info", aoi="xx").json["aois"] == {}
    assert asking("bob").get("/query/info").json["aois"] == {}
