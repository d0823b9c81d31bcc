"""Parcels of the same crop nearby, and how a parcel compares with them."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pyproj import Geod, Transformer

from cbm_api.routes import peers as routes
from tests.api.stored import STATISTICS, add_row, numbers
from tests.factories import add_dataset, add_parcels, add_product, add_scene, sql, square

pytestmark = pytest.mark.postgis

LEFT, TOP = 600_000.0, 5_300_000.0
PATH = "/v1/collections/tt_2024/items/p0/peers"
# Corner to corner along the diagonal, in metres of the grid.
STEPS = [0, 100, 200, 400, 1500, 2500, 25_000]
NOON = datetime(2024, 5, 1, 10, 30, tzinfo=UTC)


@pytest.fixture
def world(db):
    """p0 and parcels away from it along the diagonal, all of crop 100; (dataset, geometries)."""
    dataset = add_dataset(db)
    places = [0.0] + [100 + step / np.sqrt(2) for step in STEPS[1:]]
    geometries = add_parcels(db, dataset, [square(LEFT + far, TOP + far) for far in places])
    sql(db, "UPDATE cbm.parcel SET crop_code = '100', crop_name = 'wheat'")
    sql(db, "UPDATE cbm.parcel_geometry SET area_m2 = 10000")
    return dataset, geometries


def peers(anna, **query) -> dict[str, float]:
    answer = anna.get(PATH, **query)
    assert answer.status_code == 200, answer.json
    features = json.loads(answer.data)["features"]
    return {one["id"]: one["properties"]["distance_m"] for one in features}


def test_the_nearest_first_with_the_distance_on_the_ellipsoid(asking, world):
    """Against pyproj: the corners that face each other are known."""
    found = peers(asking("anna", world[0]))
    to = Transformer.from_crs("EPSG:32632", "EPSG:4326", always_xy=True)
    corner = LEFT + 100, TOP + 100
    expected = {}
    for number, step in enumerate(STEPS[1:5], start=1):
        other = [value + step / np.sqrt(2) for value in corner]
        ends = [*to.transform(*corner), *to.transform(*other)]
        expected[f"p{number}"] = Geod(ellps="WGS84").inv(*ends)[2]
    assert list(found) == list(expected)
    assert list(found.values()) == pytest.approx(list(expected.values()), abs=0.06)


def test_how_far_how_many_and_how_small(asking, db, world):
    anna = asking("anna", world[0])
    assert list(peers(anna, distance=3000)) == ["p1", "p2", "p3", "p4", "p5"]
    assert list(peers(anna, limit=2)) == ["p1", "p2"]
    sql(db, "UPDATE cbm.parcel_geometry SET area_m2 = 2999 WHERE id = %s", world[1][1])
    assert list(peers(anna, limit=2)) == ["p2", "p3"]
    assert list(peers(anna, limit=2, min_area=0)) == ["p1", "p2"]


def test_of_the_same_crop_by_code_else_by_name(asking, db, world):
    anna = asking("anna", world[0])
    sql(db, "UPDATE cbm.parcel SET crop_code = '200' WHERE pid = 'p1'")
    sql(db, "UPDATE cbm.parcel SET crop_name = 'winter wheat' WHERE pid = 'p2'")
    assert list(peers(anna)) == ["p2", "p3", "p4"]
    sql(db, "UPDATE cbm.parcel SET crop_code = NULL WHERE pid = 'p0'")
    assert list(peers(anna)) == ["p1", "p3", "p4"]
    sql(db, "UPDATE cbm.parcel SET crop_name = NULL WHERE pid = 'p0'")
    assert peers(anna) == {}


def test_other_layers_datasets_and_periods_are_no_peers(asking, db, world):
    add_parcels(db, world[0], [square(LEFT + 200, TOP)], layer="mowing")
    other = add_dataset(db, aoi="xx")
    add_parcels(db, other, [square(LEFT + 300, TOP)])
    sql(db, "UPDATE cbm.parcel SET crop_code = '100'")
    sql(db, "UPDATE cbm.parcel SET valid_to = '2024-06-01' WHERE pid = 'p3' AND dataset_id = %s",
        world[0])  # fmt: skip
    anna = asking("anna", world[0], other)
    sql(db, "UPDATE cbm.parcel_geometry SET area_m2 = 10000")
    assert list(peers(anna)) == ["p1", "p2", "p4"]
    assert list(peers(anna, datetime="2024-05-01")) == ["p1", "p2", "p3", "p4"]


def test_an_unknown_parcel_has_no_peers(asking, world):
    anna = asking("anna", world[0])
    for path in (PATH, f"{PATH}/statistics"):
        answer = anna.get(path.replace("p0", "none"))
        assert (answer.status_code, answer.json["code"]) == (404, "parcel_unknown")


@pytest.mark.parametrize(
    "query",
    [{"distance": value} for value in ("0", "-1", "nan", "inf", "20001", "x")]
    + [{"limit": "0"}, {"min_area": "nan"}, {"min_area": "-1"}, {"colour": "red"}],
    ids=str,
)
def test_bad_parameters_are_refused(asking, world, query):
    anna = asking("anna", world[0])
    for path in (PATH, f"{PATH}/statistics"):
        answer = anna.get(path, **query)
        assert (answer.status_code, answer.json["code"]) == (400, "bad_parameter")


def test_a_parcel_beside_its_peers(asking, db, world):
    """Two passes of slightly different times over two tiles; against numpy."""
    dataset, geometries = world
    product = add_product(db, variables=("B04", "B08"))
    values = {}
    for day in (0, 5):
        taken = NOON + timedelta(days=day)
        scenes = [
            add_scene(db, {}, reference=f"{tile}{day}", tile=tile, datatake=taken,
                      obstime=taken + timedelta(seconds=20 * place))
            for place, tile in enumerate(("32TNT", "32TNU"))
        ]  # fmt: skip
        for number, geometry in enumerate(geometries[:5]):
            # The parcel itself was not imaged the second time; a peer was clouded.
            if day == 5 and number == 0:
                continue
            first = None if day == 5 and number == 2 else 1000.0 * (number + 1) ** 2 + day
            values[day, number] = first
            stats = None if first is None else numbers(first, first + 7)
            add_row(db, dataset, geometry, scenes[number % 2], product, stats)
    anna = asking("anna", dataset)
    answer = anna.get(f"{PATH}/statistics", statistics="mean,p50", bands="B08")
    assert answer.status_code == 200, answer.json
    body = answer.json
    assert (body["pid"], body["peers"], body["rows"]) == ("p0", ["p1", "p2", "p3", "p4"], 2)
    columns = body["columns"]
    assert columns["obstime"][0].startswith("2024-05-01T10:30:00")
    assert columns["obstime"][1].startswith("2024-05-06T10:30:00")
    assert columns["px_clear"] == [20, None]
    for name in ("mean", "p50"):
        place = STATISTICS.index(name) + 7
        assert columns[f"B08_{name}"] == [1000.0 + place, None]
        for row, day in enumerate((0, 5)):
            theirs = [
                v + place for (when, number), v in values.items()
                if when == day and number and v is not None
            ]  # fmt: skip
            spread = {
                "count": len(theirs), "mean": np.mean(theirs), "std": np.std(theirs),
                "min": min(theirs), "max": max(theirs),
                **{f"p{q}": np.percentile(theirs, q) for q in (25, 50, 75)},
            }  # fmt: skip
            for kind, expected in spread.items():
                found = columns[f"B08_{name}_peers_{kind}"][row]
                assert found == pytest.approx(expected, rel=1e-6), (name, day, kind)
    assert not any(name.startswith("B04") for name in columns)


def test_no_more_are_compared_with_than_memory_is_for(asking, db, world, monkeypatch):
    """However many are asked for; read a few at a time, and the same comes out."""
    dataset, geometries = world
    product = add_product(db)
    scene = add_scene(db, {})
    for number, geometry in enumerate(geometries):
        add_row(db, dataset, geometry, scene, product, numbers(10 * number))
    anna = asking("anna", dataset)
    at_once = anna.get(f"{PATH}/statistics", distance=3000).json
    read = []
    real = routes.signatures.parcels
    monkeypatch.setattr(
        routes.signatures, "parcels", lambda cursor, ids: read.append(len(ids)) or real(cursor, ids)
    )
    monkeypatch.setattr(routes, "CHUNK", 2)
    assert anna.get(f"{PATH}/statistics", distance=3000).json == at_once
    assert read == [2, 2, 1]
    monkeypatch.setattr(routes, "MOST_COMPARED", 3)
    few = anna.get(f"{PATH}/statistics", distance=3000, limit=1000).json
    assert (few["peers"], read[3:]) == (["p1", "p2", "p3"], [2, 1])
    assert few["columns"]["B04_mean_peers_max"] == [31]


def test_no_session_is_held_while_parcels_are_compared(asking, app, world, db, monkeypatch):
    add_row(db, world[0], world[1][0], add_scene(db, {}), add_product(db), numbers(5))
    free = app.extensions["cbm_database"]._free
    sessions = app.extensions["cbm_settings"].api.pool_size
    held = []
    real = routes.compare

    def comparing(*given):
        held.extend(free.acquire(blocking=False) for _ in range(sessions))
        for _ in held:
            free.release()
        return real(*given)

    monkeypatch.setattr(routes, "compare", comparing)
    assert asking("anna", world[0]).get(f"{PATH}/statistics").status_code == 200
    assert held == [True] * sessions


def test_without_peers_or_images_the_table_is_empty_or_alone(asking, db, world):
    dataset, geometries = world
    product = add_product(db)
    anna = asking("anna", dataset)
    add_row(db, dataset, geometries[0], add_scene(db, {}), product, numbers(5))
    alone = anna.get(f"{PATH}/statistics", distance=1).json
    assert (alone["peers"], alone["rows"]) == ([], 1)
    assert alone["columns"]["B04_mean"] == [6]
    assert alone["columns"]["B04_mean_peers_count"] == [0]
    assert alone["columns"]["B04_mean_peers_p50"] == [None]
    nothing = anna.get(f"{PATH}/statistics", datetime="2023-01-01").json
    assert (len(nothing["peers"]), nothing["rows"]) == (4, 0)
    assert nothing["columns"]["B04_mean"] == []
