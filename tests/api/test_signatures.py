"""One parcel's series: the same rows as the view of analysts, in every format."""

import io
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests import extraction
from tests.api.stored import STATISTICS, add_row, change_scene, numbers, random_rows
from tests.extraction import World, inside, statistics, texture
from tests.factories import add_dataset, add_parcels, add_product, add_scene, sql, square

pytestmark = pytest.mark.postgis

LEFT, TOP = 600_000.0, 5_300_000.0
NOON = datetime(2024, 5, 1, 10, 30, tzinfo=UTC)
PATH = "/v1/collections/tt_2024/items/p0/signatures"


@pytest.fixture
def world(db):
    """A dataset with two parcels, and product s2 of two bands: (dataset, geometries, product)."""
    dataset = add_dataset(db)
    geometries = add_parcels(db, dataset, [square(LEFT, TOP), square(LEFT + 200, TOP)])
    return dataset, geometries, add_product(db, variables=("B04", "B08"))


def scene(db, day=0, **given):
    obstime = NOON + timedelta(days=day)
    return add_scene(db, {}, reference=f"scene{day}", obstime=obstime, **given)


def test_a_parcels_series_with_all_its_numbers(db, asking, world):
    dataset, (first, second), product = world
    clear, clouded = scene(db), scene(db, 5)
    add_row(
        db, dataset, first, clear, product, numbers(100, 200.5), imaged=21, classes={4: 3, 9: 1}
    )
    add_row(db, dataset, first, clouded, product, None, imaged=20, classes={9: 5})
    add_row(db, dataset, second, clear, product, numbers(7, 8))
    found = asking("anna", dataset).get(PATH)
    assert found.status_code == 200
    body = found.json
    assert (body["collection"], body["pid"], body["rows"]) == ("tt_2024", "p0", 2)
    assert body["product"] == {
        "name": "s2", "revision": 1, "card": "s2", "unit": "reflectance x 10000"
    }  # fmt: skip
    columns = body["columns"]
    assert columns["obstime"] == ["2024-05-01T10:30:00.000000Z", "2024-05-06T10:30:00.000000Z"]
    assert columns["reference"] == ["scene0", "scene5"]
    assert columns["px_imaged"] == [21, 20]
    assert columns["px_clear"] == [21, 0]
    assert columns["clouded"] == [0.25, 1]
    for place, name in enumerate(STATISTICS):
        absent = 0 if name == "count" else None
        assert columns[f"B04_{name}"] == [100 + place, absent]
        assert columns[f"B08_{name}"] == [int(200.5) if name == "count" else 200.5 + place, absent]


def test_from_the_image_to_the_answer(db, asking, tmp_path):
    """Extracted as in operation: the numbers are those that numpy takes of the pixels."""
    world = World.make(db, tmp_path)
    shape = square(extraction.LEFT + 103, extraction.TOP - 411, 150)
    world.parcels([shape])
    red, infrared = texture(seed=1), texture(seed=2)
    scl = np.full(red.shape, 4, dtype="uint8")
    scl[: extraction.ROWS // 2] = 9
    world.scene({"B04": red, "B08": infrared, "SCL": scl}, obstime=NOON)
    world.extract({"name": "s2", "card": "s2", "bands": ["B04", "B08"], "indices": ["NDVI"]})
    columns = asking("anna", world.dataset).get(PATH).json["columns"]
    pixels = inside(shape, tmp_path / "scene_B04.tif")
    a, b = red[pixels].astype(float), infrared[pixels].astype(float)
    ndvi = (b - a) / (b + a)
    for name, values in (("B04", a), ("B08", b), ("NDVI", ndvi)):
        found = [columns[f"{name}_{statistic}"][0] for statistic in STATISTICS]
        np.testing.assert_allclose(found, statistics(values), rtol=1e-6)
    assert columns["px_clear"] == [pixels.sum()]
    assert columns["clouded"] == [pytest.approx((scl[pixels] == 9).mean())]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_rows_are_those_of_the_view(db, asking, world, seed):
    """Overlapping tiles, slices of one pass, superseded scenes: random ones of all of them."""
    dataset, geometries, product = world
    random = np.random.default_rng(seed)
    scenes = []
    for number in range(40):
        minutes = int(random.integers(0, 8)) * 25 + int(random.integers(0, 3)) * 1440
        obstime = datetime(2024, 4, 30, 22, 30, tzinfo=UTC) + timedelta(minutes=minutes)
        made = add_scene(
            db, {}, reference=f"r{number}", tile=["", "32TMT", "32TNT"][random.integers(0, 3)],
            obstime=obstime, datatake=obstime - timedelta(seconds=int(random.integers(0, 2))),
        )  # fmt: skip
        orbit = [None, 7, 8][random.integers(0, 3)]
        change_scene(
            db, made, relative_orbit=[None, 7, 8][random.integers(0, 3)], absolute_orbit=orbit,
            platform=["S1A", "S1B"][int(random.integers(0, 4)) == 0],
            state=["superseded", "active"][int(random.integers(0, 5)) > 0],
        )  # fmt: skip
        scenes.append(made)
    random_rows(db, dataset, geometries, product, scenes, seed)
    anna = asking("anna", dataset)
    for given, condition in (
        ({}, "true"),
        ({"datetime": "2024-05-01"}, "obstime >= '2024-05-01' AND obstime < '2024-05-02'"),
        ({"datetime": "../2024-04-30T23:59:59Z"}, "obstime < '2024-05-01'"),
    ):
        expected = sql(
            db,
            f"""SELECT obstime, reference, band, count, mean, std, p50, max, px_imaged
                FROM cbm.signature_long WHERE pid = 'p0' AND {condition}
                ORDER BY obstime, reference""",
        )
        columns = anna.get(PATH, **given).json["columns"]
        assert len(columns["obstime"]) == len(expected) / 2
        assert sorted(columns["obstime"]) == columns["obstime"]
        found = {name: place for place, name in enumerate(columns["reference"])}
        assert len(found) == len(columns["reference"])
        for _, reference, band, *values, imaged in expected:
            place = found[reference]
            names = ("count", "mean", "std", "p50", "max")
            got = [columns[f"{band}_{name}"][place] for name in names]
            # The shortest spelling of a 32-bit number is read back as the same.
            assert [None if one is None else np.float32(one) for one in got] == [
                None if one is None else np.float32(one) for one in values
            ]
            assert columns["px_imaged"][place] == imaged


def test_a_parcel_is_shown_while_it_was_valid_and_with_the_geometry_of_then(db, asking, world):
    dataset, (first, second), product = world
    sql(db, "UPDATE cbm.parcel SET valid_to = '2024-05-04' WHERE pid = 'p0'")
    sql(
        db,
        """UPDATE cbm.parcel SET pid = 'p0', valid_from = '2024-05-04'
           WHERE pid = 'p1' AND dataset_id = %s""",
        dataset,
    )
    for day in (0, 5):
        made = scene(db, day)
        for value, geometry in ((100, first), (200, second)):
            add_row(db, dataset, geometry, made, product, numbers(value, 0))
    columns = asking("anna", dataset).get(PATH, bands="B04", statistics="count").json["columns"]
    assert columns["B04_count"] == [100, 200]
    assert columns["obstime"] == ["2024-05-01T10:30:00.000000Z", "2024-05-06T10:30:00.000000Z"]


def test_bands_and_statistics_are_chosen(db, asking, world):
    dataset, (first, _), product = world
    add_row(db, dataset, first, scene(db), product, numbers(100, 200))
    anna = asking("anna", dataset)
    columns = anna.get(PATH, bands="B8,B04", statistics="p50,mean").json["columns"]
    chosen = {name: values for name, values in columns.items() if name.startswith("B")}
    assert chosen == {
        "B08_p50": [206], "B08_mean": [201], "B04_p50": [106], "B04_mean": [101]
    }  # fmt: skip
    assert list(chosen) == ["B08_p50", "B08_mean", "B04_p50", "B04_mean"]
    repeated = anna.get(PATH, bands=["B08", "B04"], statistics=["p50", "mean"]).json
    assert repeated["columns"] == columns
    unknown = anna.get(PATH, bands="B99")
    assert (unknown.status_code, unknown.json["code"]) == (400, "bad_parameter")
    assert "B04, B08" in unknown.json["detail"]


def test_cloud_and_orbit(db, asking, world):
    dataset, (first, _), product = world
    given = [({4: 9, 8: 1}, "ascending", 88), ({4: 5, 3: 5}, "descending", 37), (None, None, None)]
    for day, (classes, direction, orbit) in enumerate(given):
        made = scene(db, day)
        change_scene(db, made, orbit_direction=direction, relative_orbit=orbit)
        add_row(db, dataset, first, made, product, numbers(day, 0), classes=classes)
    anna = asking("anna", dataset)

    def references(**query):
        return anna.get(PATH, **query).json["columns"]["reference"]

    assert references() == ["scene0", "scene1", "scene2"]
    assert references(max_cloud="0.1") == ["scene0"]
    assert references(max_cloud="1") == ["scene0", "scene1"]
    assert references(orbit="descending") == ["scene1"]
    assert references(orbit="88") == ["scene0"]
    columns = anna.get(PATH, classes="true").json["columns"]
    assert columns["class_3"] == [0, 5, 0]
    assert columns["class_4"] == [9, 5, 0]


def test_a_cloudy_row_hides_its_rival_even_when_it_is_left_out(db, asking, world):
    """Filters choose among preferred rows: they never bring back one that was not."""
    dataset, (first, _), product = world
    best, other = scene(db), add_scene(db, {}, reference="other", tile="32TNT", obstime=NOON)
    add_row(db, dataset, first, best, product, numbers(1, 1), rank=0, classes={9: 9})
    add_row(db, dataset, first, other, product, numbers(2, 2), rank=1, classes={4: 9})
    assert asking("anna", dataset).get(PATH, max_cloud="0.5").json["rows"] == 0


def test_decibels_are_of_the_mean_power(db, asking, world):
    dataset, (first, _), _ = world
    product = add_product(db, "bs", "bs", ("VV", "VH"))
    made = scene(db, card="bs")
    add_row(db, dataset, first, made, product, numbers(0.0631 - 1, -5))
    anna = asking("anna", dataset)
    given = {"card": "bs", "bands": "VVb,VHb", "statistics": "mean", "decibels": "true"}
    columns = anna.get(PATH, **given).json["columns"]
    assert columns["VV_mean"][0] == pytest.approx(0.0631, rel=1e-5)
    assert columns["VV_mean_db"][0] == pytest.approx(10 * math.log10(0.0631), abs=1e-4)
    assert columns["VH_mean_db"] == [None]
    add_row(db, dataset, first, scene(db, 1), add_product(db, "s2b"), numbers(1))
    assert anna.get(PATH, product="s2b", decibels="true").json["code"] == "bad_parameter"


def test_the_formats_say_the_same(db, asking, world):
    dataset, geometries, product = world
    random_rows(db, dataset, geometries, product, [scene(db, day) for day in range(9)])
    anna = asking("anna", dataset)
    expected = anna.get(PATH).json["columns"]

    parquet = anna.get(PATH, f="parquet")
    assert parquet.content_type == "application/vnd.apache.parquet"
    table = pq.read_table(io.BytesIO(parquet.data))
    arrow = anna.get(PATH, f="arrow")
    assert pa.ipc.open_stream(arrow.data).read_all().equals(table)
    assert table["pid"].to_pylist() == ["p0"] * len(expected["obstime"])
    assert table.schema.field("obstime").type == pa.timestamp("us", tz="UTC")
    for name, values in expected.items():
        got = table[name].to_pylist()
        if name == "obstime":
            got = [f"{time:%Y-%m-%dT%H:%M:%S.%fZ}" for time in got]
        if table.schema.field(name).type == pa.float32():
            assert [None if one is None else float(np.float32(one)) for one in values] == got
        else:
            assert values == got, name

    csv = anna.get(PATH, f="csv")
    assert csv.content_type.startswith("text/csv")
    back = pa.csv.read_csv(io.BytesIO(csv.data))
    assert back.column_names == table.column_names
    assert back["B04_mean"].cast(pa.float32()).equals(table["B04_mean"])
    accepted = anna.client.get(PATH, headers={**anna.headers, "Accept": "text/csv"})
    assert accepted.data == csv.data


def test_which_product_is_meant(db, asking, world):
    dataset, (first, _), product = world
    anna = asking("anna", dataset)
    nothing = anna.get(PATH)
    assert (nothing.status_code, nothing.json["code"]) == (404, "product_unknown")
    clear = add_product(db, "s2_clear", variables=("B04",))
    made = scene(db)
    add_row(db, dataset, first, made, clear, numbers(5))
    assert anna.get(PATH).json["product"]["name"] == "s2_clear"
    add_row(db, dataset, first, made, product, numbers(1, 2))
    assert anna.get(PATH).json["product"]["name"] == "s2"
    assert anna.get(PATH, product="s2_clear").json["product"]["name"] == "s2_clear"
    assert anna.get(PATH, product="s2_clear@2").status_code == 404
    assert anna.get(PATH, card="bs").json["code"] == "product_unknown"


def test_who_may_not_read_it_finds_nothing(db, app, asking, world):
    dataset, (first, _), product = world
    add_row(db, dataset, first, scene(db), product, numbers(1, 2))
    other = add_dataset(db, aoi="zz")
    bert = asking("bert", other)
    refused = bert.get(PATH)
    missing = bert.get(PATH.replace("tt_2024", "xx_2024"))
    assert refused.status_code == missing.status_code == 404
    assert refused.json["code"] == missing.json["code"] == "dataset_unknown"
    assert refused.json["detail"] == missing.json["detail"]
    assert app.test_client().get(PATH).status_code == 401
    unknown = asking("anna", dataset).get(PATH.replace("p0", "p9"))
    assert (unknown.status_code, unknown.json["code"]) == (404, "parcel_unknown")


def test_ids_with_slashes(db, asking, world):
    dataset, (first, _), product = world
    sql(db, "UPDATE cbm.parcel SET pid = 'a/b c' WHERE pid = 'p0'")
    add_row(db, dataset, first, scene(db), product, numbers(1, 2))
    found = asking("anna", dataset).get(PATH.replace("p0", "a%2Fb%20c"))
    assert (found.json["pid"], found.json["rows"]) == ("a/b c", 1)


def test_the_reading_is_logged(db, asking, world):
    dataset, (first, _), product = world
    add_row(db, dataset, first, scene(db), product, numbers(1, 2))
    asking("anna", dataset).get(PATH)
    asking("bert").get(PATH)
    admin = replace(db, database=db.connection("owner"))
    rows = sql(admin, "SELECT who, detail FROM cbm.audit WHERE action = 'read'")
    assert [(who, detail["dataset"], detail["parcels"]) for who, detail in rows] == [
        ("api:anna", "tt_2024", ["p0"])
    ]


BAD = [
    "product=S2';--", "product=%00", "card=a%00", "bands=%00", "bands=B04'", "bands=,",
    "statistics=median", "datetime=2024-13-01", "datetime=2024-05-02/2024-05-01",
    "datetime=..%2F..", "datetime=0001-01-01", "datetime=9999-12-31", "datetime=x%00",
    "datetime=2024-05-01T10:00:00%2B99:00", "orbit=up", "orbit=1234", "max_cloud=nan",
    "max_cloud=1.1", "max_cloud=1e999", "classes=perhaps", "f=xml", "surprise=1",
]  # fmt: skip


def test_bad_parameters(asking, world):
    anna = asking("anna", world[0])
    for query in BAD:
        found = anna.client.get(f"{PATH}?{query}", headers=anna.headers)
        assert (found.status_code, found.json["code"]) == (400, "bad_parameter"), query


def test_bad_parcels(db, asking, world):
    dataset, (first, _), product = world
    add_row(db, dataset, first, scene(db), product, numbers(1, 2))
    anna = asking("anna", dataset)
    for pid in ("p0%00", "'%20OR%201=1", "%ff", "x" * 300, "..%2f..%2fetc"):
        found = anna.get(f"/v1/collections/tt_2024/items/{pid}/signatures")
        assert found.status_code in (400, 404), pid
