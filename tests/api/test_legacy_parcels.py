"""The predecessor's routes to parcels: by id, by place, alike nearby."""

import json
import math
from dataclasses import replace

import pyproj
import pytest
import shapely

from tests.factories import add_dataset, add_parcels, sql, square, transformed

pytestmark = pytest.mark.postgis

LEFT, TOP = 600_000.0, 5_300_000.0
PLACE = {"aoi": "tt", "year": 2024}


def at(x, y, crs="EPSG:32632") -> tuple[float, float]:
    return pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)


@pytest.fixture
def dataset(db) -> int:
    """Parcels 100, 101, ... in a row, 200 m wide and 100 m apart, all of one crop."""
    made = add_dataset(db)
    add_parcels(db, made, [square(LEFT + 300 * n, TOP, 200) for n in range(4)])
    sql(
        db,
        """UPDATE cbm.parcel SET pid = 100 + replace(pid, 'p', '')::integer, crop_name = 'wheat',
             crop_code = 'W1' WHERE dataset_id = %s""",
        made,
    )
    sql(db, "UPDATE cbm.parcel_geometry SET area_m2 = 40000.4")
    return made


@pytest.mark.parametrize("route", ["parcelByID", "parcelById"])
def test_a_parcel_by_its_id(asking, dataset, route):
    found = asking("anna", dataset).get(f"/query/{route}", pid="101", **PLACE)
    assert found.status_code == 200
    lon, lat = at(LEFT + 400, TOP + 100)
    assert found.json == {
        "pid": [101], "cropname": ["wheat"], "cropcode": ["W1"], "srid": [32632], "area": [40000],
        "clon": [pytest.approx(lon, abs=1e-6)], "clat": [pytest.approx(lat, abs=1e-6)],
        "ogc_fid": [101],
    }  # fmt: skip
    assert isinstance(found.json["area"][0], int)


def test_geometry_in_the_legal_system_or_in_degrees(asking, dataset):
    anna = asking("anna", dataset)
    legal = anna.get("/query/parcelByID", pid="100", withGeometry="True", **PLACE).json
    shape = shapely.geometry.shape(json.loads(legal["geom"][0]))
    assert shape.equals(square(LEFT, TOP, 200))
    given = {"pid": "100", "withGeometry": "True", "wgs84": "True", **PLACE}
    degrees = anna.get("/query/parcelByID", **given).json
    shape = shapely.geometry.shape(json.loads(degrees["geom"][0]))
    assert shape.equals_exact(
        shapely.MultiPolygon([transformed(square(LEFT, TOP, 200), "EPSG:32632")]), 1e-8
    )


def test_ids_are_text_where_one_is_no_number(asking, db, dataset):
    add_parcels(db, dataset, [square(LEFT, TOP + 1000)], layer="m")
    anna = asking("anna", dataset)
    assert anna.get("/query/parcelByID", pid="101", **PLACE).json["pid"] == ["101"]
    assert anna.get("/query/parcelByID", pid="p0", ptype="M", **PLACE).json["pid"] == ["p0"]
    assert anna.get("/query/parcelByID", pid="p0", ptype="", **PLACE).json == {}


def test_of_several_periods_the_latest_stands(asking, db, dataset):
    add_parcels(db, dataset, [square(LEFT, TOP - 500)], layer="later")
    sql(
        db,
        """UPDATE cbm.parcel SET layer = '', pid = '100', valid_from = '2024-06-01',
             crop_name = 'maize' WHERE layer = 'later'""",
    )
    anna = asking("anna", dataset)
    assert anna.get("/query/parcelByID", pid="100", **PLACE).json["cropname"] == ["maize"]
    before, now = at(LEFT + 100, TOP + 100), at(LEFT + 50, TOP - 450)
    assert anna.get("/query/parcelByLocation", lon=before[0], lat=before[1], **PLACE).json == {}
    found = anna.get("/query/parcelByLocation", lon=now[0], lat=now[1], **PLACE).json
    assert found["pid"] == [100]


def test_parcels_at_a_place(asking, dataset):
    anna = asking("anna", dataset)
    lon, lat = at(LEFT + 650, TOP + 50)
    assert anna.get("/query/parcelByLocation", lon=lon, lat=lat, **PLACE).json["pid"] == [102]
    lon, lat = at(LEFT + 250, TOP + 50)
    assert anna.get("/query/parcelByLocation", lon=lon, lat=lat, **PLACE).json == {}


def polygon(*points) -> str:
    return "-".join(f"{lon}_{lat}" for lon, lat in points)


def test_parcels_in_a_polygon(asking, dataset):
    anna = asking("anna", dataset)
    corners = [at(LEFT + x, TOP + y) for x, y in [(250, -50), (750, -50), (750, 250), (250, 250)]]
    for ring in (corners, [*corners, corners[0]], corners[::-1]):
        found = anna.get("/query/parcelsByPolygon", polygon=polygon(*ring), **PLACE)
        assert found.json == {"pid": [101, 102], "ogc_fid": [101, 102]}
    given = {"polygon": polygon(*corners), "only_ids": "False", "withGeometry": "True", **PLACE}
    found = anna.get("/query/parcelsByPolygon", **given).json
    assert list(found) == [
        "pid", "cropname", "cropcode", "srid", "geom", "area", "clon", "clat", "ogc_fid"
    ]  # fmt: skip
    bow = [corners[0], corners[2], corners[1], corners[3]]
    found = anna.get("/query/parcelsByPolygon", polygon=polygon(*bow), **PLACE)
    assert found.json["pid"] == [101, 102]


def test_a_polygon_in_the_west(asking, db):
    """Longitudes are negative in Ireland, Portugal and Spain: the sign is the separator, too."""
    ireland = add_dataset(db, aoi="ie")
    box = shapely.box(-8.01, 52.2, -8.0, 52.21)
    add_parcels(db, ireland, [box, shapely.box(0.0, 52.2, 0.01, 52.21)], crs="EPSG:4326")
    anna = asking("anna", ireland)
    given = {"aoi": "ie", "year": 2024}
    west = "-8.02_52.1--7.9_52.1--7.9_52.3--8.02_52.3--8.02_52.1"
    assert anna.get("/query/parcelsByPolygon", polygon=west, **given).json["pid"] == ["p0"]
    # How Python writes a longitude near Greenwich.
    near = "-1e-05_52.1-2e-05_52.1-2e-05_52.3"
    assert anna.get("/query/parcelsByPolygon", polygon=near, **given).json["pid"] == ["p1"]


def test_a_polygon_gives_a_hundred_parcels_at_most(asking, db):
    made = add_dataset(db)
    add_parcels(
        db, made, [square(LEFT + 110 * (n % 20), TOP + 110 * (n // 20)) for n in range(120)]
    )
    corners = [at(LEFT + x, TOP + y) for x, y in [(-9, -9), (3000, -9), (3000, 3000), (-9, 3000)]]
    found = asking("anna", made).get("/query/parcelsByPolygon", polygon=polygon(*corners), **PLACE)
    assert len(found.json["pid"]) == 100


def test_a_few_parcels_among_many_of_another_layer(asking, db, dataset):
    places = [(LEFT + 10 * (n % 100), TOP + 10 * (n // 100)) for n in range(500)]
    add_parcels(db, dataset, [square(*place, 9) for place in places], layer="x")
    add_parcels(db, dataset, [square(LEFT, TOP, 50), square(LEFT + 60, TOP, 50)], layer="y")
    corners = [at(LEFT + x, TOP + y) for x, y in [(-9, -9), (3000, -9), (3000, 3000), (-9, 3000)]]
    given = {**PLACE, "ptype": "y", "polygon": polygon(*corners)}
    found = asking("anna", dataset).get("/query/parcelsByPolygon", **given)
    assert found.json["pid"] == ["p0", "p1"]


def test_peers_are_of_the_same_crop_and_the_nearest_first(asking, db, dataset):
    sql(db, "UPDATE cbm.parcel SET crop_name = 'maize' WHERE pid = '102'")
    anna = asking("anna", dataset)
    found = anna.get("/query/parcelPeers", pid="100", **PLACE).json

    # Along the border that faces the other parcel, by PROJ's geodesics.
    def apart(x, other):
        geod = pyproj.Geod(ellps="WGS84")
        return geod.inv(*at(LEFT + x, TOP + 100), *at(LEFT + other, TOP + 100))[2]

    assert found["pids"] == [101, 103]
    assert found["distance"] == pytest.approx([apart(200, 300), apart(200, 900)], abs=0.05)
    assert anna.get("/query/parcelPeers", pid="100", max=1, **PLACE).json["pids"] == [101]
    near = anna.get("/query/parcelPeers", pid="100", distance=99, **PLACE).json
    assert near == {"pids": [], "distance": []}
    sql(db, "UPDATE cbm.parcel_geometry SET area_m2 = 2999 WHERE id <> %s", 0)
    assert anna.get("/query/parcelPeers", pid="100", **PLACE).json["pids"] == []
    assert anna.get("/query/parcelPeers", pid="999", **PLACE).json == {}


def test_peers_far_in_the_north(asking, db):
    """Degrees of longitude are short there: the box that is searched must be wide."""
    made = add_dataset(db)
    x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32635", always_xy=True).transform(27, 70)
    add_parcels(
        db, made, [square(x, y, 100), square(x + 5000, y, 100), square(x + 5200, y, 100)],
        crs="EPSG:32635",
    )  # fmt: skip
    sql(db, "UPDATE cbm.parcel SET crop_name = 'grass'")
    sql(db, "UPDATE cbm.parcel_geometry SET area_m2 = 10000")
    found = asking("anna", made).get("/query/parcelPeers", pid="p0", distance=5000, **PLACE).json
    assert found["pids"] == ["p1"]
    assert math.isclose(found["distance"][0], 4900, rel_tol=2e-3)


def test_what_is_not_granted_is_not_found(asking, db, dataset):
    bob = asking("bob")
    lon, lat = at(LEFT + 50, TOP + 50)
    ring = polygon(*[at(LEFT + a, TOP + b) for a, b in [(0, 0), (500, 0), (500, 500)]])
    for route, given in {
        "parcelByID": {"pid": "100"},
        "parcelByLocation": {"lon": lon, "lat": lat},
        "parcelsByPolygon": {"polygon": ring},
        "parcelPeers": {"pid": "100"},
    }.items():
        found = bob.get(f"/query/{route}", **given, **PLACE)
        assert (found.status_code, found.json) == (200, {})
        assert asking(f"anna{route}", dataset).get(f"/query/{route}", **given, **PLACE).json


def test_reads_are_logged(asking, db, dataset):
    anna = asking("anna", dataset)
    anna.get("/query/parcelByID", pid="101", **PLACE)
    lon, lat = at(LEFT + 50, TOP + 50)
    anna.get("/query/parcelByLocation", lon=lon, lat=lat, **PLACE)
    logged = sql(
        replace(db, database=db.connection("owner")),
        """SELECT who, detail ->> 'dataset', detail -> 'parcels', detail ->> 'route'
           FROM cbm.audit WHERE action = 'read' ORDER BY id""",
    )
    assert logged == [
        ("api:anna", "tt_2024", ["101"], "/query/parcelByID"),
        ("api:anna", "tt_2024", ["100"], "/query/parcelByLocation"),
    ]


BAD = [
    ("parcelByID", {}),
    ("parcelByID", {"pid": "a\x00b"}),
    ("parcelByID", {"pid": "1", "year": "two"}),
    ("parcelByID", {"pid": "1", "year": 10**12}),
    ("parcelByID", {"pid": "x" * 300}),
    ("parcelByID", {"pid": "1", "withGeometry": "perhaps"}),
    ("parcelByLocation", {"lon": "NaN", "lat": 1}),
    ("parcelByLocation", {"lon": "inf", "lat": 1}),
    ("parcelByLocation", {"lon": 181, "lat": 1}),
    ("parcelByLocation", {"lon": "1); DROP TABLE cbm.parcel; --", "lat": 1}),
    ("parcelsByPolygon", {"polygon": ""}),
    ("parcelsByPolygon", {"polygon": "5_50-6_50"}),
    ("parcelsByPolygon", {"polygon": "5_50-5_50-5_50"}),
    ("parcelsByPolygon", {"polygon": "5_50-6_50-6_51-"}),
    ("parcelsByPolygon", {"polygon": "5_50-6_50-6_95"}),
    ("parcelsByPolygon", {"polygon": "5 50,6 50,6 51"}),
    ("parcelsByPolygon", {"polygon": "-".join(["5.1_50.1"] * 5000)}),
    ("parcelPeers", {"pid": "1", "distance": "NaN"}),
    ("parcelPeers", {"pid": "1", "max": -1}),
    ("parcelPeers", {"pid": "1", "max": "10; DELETE"}),
]


def test_bad_parameters(asking):
    anna = asking("anna")
    for route, given in BAD:
        found = anna.get(f"/query/{route}", **{**PLACE, **given})
        assert (found.status_code, found.json["code"]) == (400, "bad_parameter"), (route, given)


def test_quotes_are_text(asking, db, dataset):
    given = {**PLACE, "pid": "1' OR '1'='1", "ptype": "'; DROP TABLE cbm.parcel; --"}
    anna = asking("anna", dataset)
    assert anna.get("/query/parcelByID", **given).json == {}
    assert anna.get("/query/parcelByID", **{**given, "ptype": ""}).json == {}
    assert anna.get("/query/parcelByID", pid="100", **{**PLACE, "aoi": "tt' --"}).json == {}
    assert anna.get("/query/parcelByID", pid="100", **PLACE).json["pid"] == [100]


def test_without_a_login(app):
    found = app.test_client().get("/query/parcelByID", query_string={"pid": "1", **PLACE})
    assert (found.status_code, found.json["code"]) == (401, "login_required")
