"""Parcels of a collection: pages, boxes, crops, reference systems."""

import itertools
import json
from urllib.parse import quote

import numpy as np
import pytest
import shapely
from pyproj import CRS, Transformer

from cbm_api.queries import parcels
from tests import postgis
from tests.api.conftest import owner
from tests.factories import add_dataset, add_parcels, sql, square, transformed

pytestmark = pytest.mark.postgis

LEFT, TOP = 600_000.0, 5_300_000.0
PATH = "/v1/collections/tt_2024/items"
CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
EPSG = "http://www.opengis.net/def/crs/EPSG/0/"
SHAPES = [
    square(LEFT + 150 * column, TOP + 150 * row)
    for row, column in itertools.product(range(5), range(5))
]


@pytest.fixture(scope="module")
def filled(pg_server, migrated_template):
    """A database to be copied, and its dataset.

    Twenty-five parcels in a grid, of crop 100 and, every third, 200; one in another layer.
    """
    template = postgis.new_database(pg_server, migrated_template)
    db = pg_server.settings(template)
    number = add_dataset(db)
    add_parcels(db, number, SHAPES)
    add_parcels(db, number, SHAPES[:1], layer="mowing")
    sql(db, "UPDATE cbm.parcel SET crop_code = '100', crop_name = 'wheat' WHERE layer = ''")
    sql(
        db,
        """UPDATE cbm.parcel SET crop_code = '200', crop_name = 'rye'
           WHERE layer = '' AND substr(pid, 2)::integer % 3 = 0""",
    )
    return template, number


@pytest.fixture
def db(pg_server, filled):
    with postgis.copied(pg_server, filled[0]) as settings:
        yield settings


@pytest.fixture
def dataset(filled):
    return filled[1]


@pytest.fixture
def anna(asking, dataset):
    return asking("anna", dataset)


def pages(asking, **query):
    """All pages, by their links."""
    answer = asking.get(PATH, **query)
    while True:
        assert answer.status_code == 200, answer.json
        page = json.loads(answer.data)
        yield page
        onward = [one["href"] for one in page["links"] if one["rel"] == "next"]
        if not onward:
            return
        answer = asking.client.get(onward[0], headers=asking.headers)


def ids(page) -> list[str]:
    return [one["id"] for one in page["features"]]


def of(numbers) -> set[str]:
    return {f"p{number}" for number in numbers}


def test_a_page_is_geojson(anna):
    answer = anna.get(PATH, limit=2)
    assert answer.content_type == "application/geo+json"
    assert answer.headers["Content-Crs"] == f"<{CRS84}>"
    page = json.loads(answer.data)
    assert page["type"] == "FeatureCollection"
    assert (page["numberReturned"], page["numberMatched"]) == (2, 25)
    feature = page["features"][0]
    assert (feature["type"], feature["id"]) == ("Feature", "p0")
    assert feature["properties"] == {
        "pid": "p0", "crop_code": "200", "crop_name": "rye", "area_m2": 1,
        "valid_from": "2024-01-01", "valid_to": None,
    }  # fmt: skip
    expected = transformed(SHAPES[0], "EPSG:32632")
    found = shapely.geometry.shape(feature["geometry"])
    assert found.geom_type == "MultiPolygon"
    # A millimetre.
    assert shapely.hausdorff_distance(found, shapely.MultiPolygon([expected])) < 1e-8


@pytest.mark.parametrize("limit", [1, 7, 25, 26, 10**30])
def test_pages_give_every_parcel_once(anna, limit):
    found = list(pages(anna, limit=limit))
    assert [pid for page in found for pid in ids(page)] == [f"p{n}" for n in range(25)]
    assert all(page["numberReturned"] <= limit for page in found)
    assert all(page["numberMatched"] == 25 for page in found)
    assert len(found) == -(-25 // limit)


def test_parcels_that_share_a_geometry_are_on_different_pages(anna, db, dataset):
    sql(
        db,
        """INSERT INTO cbm.parcel (dataset_id, layer, pid, geometry_id, parcel_set_id, valid_from)
           SELECT dataset_id, layer, pid || 'b', geometry_id, parcel_set_id, valid_from
           FROM cbm.parcel WHERE layer = '' AND pid IN ('p3', 'p24')""",
    )
    found = [pid for page in pages(anna, limit=1) for pid in ids(page)]
    assert sorted(found) == sorted([*of(range(25)), "p3b", "p24b"])


def test_many_more_geometries_than_are_looked_at_at_once(anna, db, dataset):
    """A crop that only the last of several hundred parcels has is found, on one page."""
    shapes = [square(LEFT + 150 * n, TOP + 5000) for n in range(450)]
    add_parcels(db, dataset, shapes, layer="many")
    sql(
        db,
        """UPDATE cbm.parcel SET crop_code = 'rare', pid = 'last'
           WHERE id = (SELECT max(id) FROM cbm.parcel)""",
    )
    found = anna.get("/v1/collections/tt_2024.many/items", crop_code="rare", limit=3)
    page = json.loads(found.data)
    assert (ids(page), page["numberMatched"]) == (["last"], 1)


def test_by_crop(anna):
    rye = of(range(0, 25, 3))
    assert set(ids(json.loads(anna.get(PATH, crop_code="200").data))) == rye
    assert set(ids(json.loads(anna.get(PATH, crop_name="rye").data))) == rye
    assert [set(ids(page)) for page in pages(anna, crop_code="200", crop_name="wheat")] == [set()]
    one_by_one = [ids(page) for page in pages(anna, crop_code="200", limit=1)]
    assert set(itertools.chain(*one_by_one)) == rye


BOX = "5,40,20,60"


@pytest.mark.parametrize("where", [{}, {"bbox": BOX}], ids=["everywhere", "box"])
def test_a_search_that_takes_long_gives_what_it_found_and_a_link(anna, monkeypatch, where):
    """Every parcel comes once all the same; pages are only shorter."""
    expected = [f"p{n}" for n in range(0, 25, 3)]
    monkeypatch.setattr(parcels, "PAGE_SECONDS", -1.0)
    monkeypatch.setattr(parcels, "_FIRST_LOOK", 1)
    found = [ids(page) for page in pages(anna, **where, crop_code="200", limit=3)]
    assert list(itertools.chain(*found)) == expected
    assert all(found) and max(map(len, found)) <= 3 and len(found) > 3


@pytest.mark.parametrize("where", [{}, {"bbox": BOX}], ids=["everywhere", "box"])
def test_a_search_that_finds_nothing_in_time_says_where_to_go_on(anna, db, monkeypatch, where):
    sql(db, "UPDATE cbm.parcel SET crop_code = '300' WHERE pid = 'p20'")
    asked = {**where, "crop_code": "300", "limit": 1}
    assert ids(next(pages(anna, **asked))) == ["p20"]
    monkeypatch.setattr(parcels, "PAGE_SECONDS", -1.0)
    monkeypatch.setattr(parcels, "_FIRST_LOOK", 1)
    refused = 0
    while (answer := anna.get(PATH, **asked)).status_code != 200:
        assert (answer.status_code, answer.json["code"]) == (422, "search_too_wide")
        asked["cursor"] = answer.json["cursor"]
        assert answer.json["detail"].endswith(f"cursor={asked['cursor']}.")
        refused += 1
    assert (ids(json.loads(answer.data)), refused) == (["p20"], 5)
    # At the end it is known that there is nothing.
    sql(db, "UPDATE cbm.parcel SET crop_code = '400' WHERE pid = 'p20'")
    monkeypatch.setattr(parcels, "_FIRST_LOOK", 100)
    assert anna.get(PATH, **where, crop_code="300", limit=1).json["features"] == []


def test_a_box_gives_what_meets_it(anna):
    """Against shapely, over random boxes, some of which touch nothing."""
    lonlat = [transformed(shape, "EPSG:32632") for shape in SHAPES]
    west, south, east, north = shapely.union_all(lonlat).bounds
    random = np.random.default_rng(3)
    sizes = []
    for _ in range(12):
        x = np.sort(random.uniform(west - 0.001, east + 0.001, 2))
        y = np.sort(random.uniform(south - 0.001, north + 0.001, 2))
        box = shapely.box(x[0], y[0], x[1], y[1])
        expected = of(n for n, shape in enumerate(lonlat) if shape.intersects(box))
        text = ",".join(repr(float(v)) for v in (x[0], y[0], x[1], y[1]))
        found = list(pages(anna, bbox=text, limit=4))
        assert {pid for page in found for pid in ids(page)} == expected
        assert found[-1].get("numberMatched") == (len(expected) if len(expected) <= 4 else None)
        sizes.append(len(expected))
    assert min(sizes) < 4 < max(sizes)


def test_a_box_without_extent_or_with_heights(anna):
    point = transformed(SHAPES[7], "EPSG:32632").centroid
    assert ids(
        json.loads(anna.get(PATH, bbox=f"{point.x},{point.y},{point.x},{point.y}").data)
    ) == ["p7"]
    flat = f"{point.x},{point.y},-10,{point.x},{point.y},900"
    assert ids(json.loads(anna.get(PATH, bbox=flat).data)) == ["p7"]


def test_a_box_across_the_antimeridian(anna):
    lon, lat = transformed(SHAPES[0], "EPSG:32632").centroid.coords[0]
    everywhere_but = json.loads(
        anna.get(PATH, bbox=f"{lon + 1},{lat - 1},{lon - 1},{lat + 1}").data
    )
    assert ids(everywhere_but) == []
    around = json.loads(anna.get(PATH, bbox=f"170,{lat - 1},{lon + 1},{lat + 1}").data)
    assert len(ids(around)) == 25


SYSTEMS = [4326, 3857, 32632]


@pytest.mark.parametrize("code", SYSTEMS)
def test_coordinates_come_in_the_order_of_the_systems_axes(anna, code):
    """Against pyproj without always_xy, which keeps each system's own order of axes."""
    answer = anna.get(PATH, crs=f"{EPSG}{code}", limit=1)
    assert answer.headers["Content-Crs"] == f"<{EPSG}{code}>"
    found = shapely.geometry.shape(json.loads(answer.data)["features"][0]["geometry"])
    to = Transformer.from_crs("EPSG:32632", CRS.from_epsg(code))
    expected = shapely.transform(SHAPES[0], to.transform, interleaved=False)
    tolerance = 1e-8 if code == 4326 else 1e-3
    assert shapely.hausdorff_distance(found, shapely.MultiPolygon([expected])) < tolerance


@pytest.mark.parametrize("code", SYSTEMS)
def test_a_box_is_in_the_order_of_its_systems_axes(anna, code):
    to = Transformer.from_crs("EPSG:32632", CRS.from_epsg(code))
    bounds = shapely.transform(SHAPES[12].buffer(-10), to.transform, interleaved=False).bounds
    box = ",".join(map(repr, bounds))
    found = anna.get(PATH, **{"bbox": box, "bbox-crs": f"{EPSG}{code}"})
    assert ids(json.loads(found.data)) == ["p12"]


def test_a_file_with_northing_first(asking, db):
    """Coordinates in the file's system are those of the file, in the system's order."""
    shape = square(500_000, 400_000)
    number = add_dataset(db, aoi="pl")
    add_parcels(db, number, [shape], crs="EPSG:2180")
    pole = asking("pole", number)
    answer = pole.get("/v1/collections/pl_2024/items/p0", crs=f"{EPSG}2180")
    found = shapely.geometry.shape(json.loads(answer.data)["geometry"])
    assert found.bounds == (400_000, 500_000, 400_100, 500_100)
    box = {"bbox": "400010,500010,400020,500020", "bbox-crs": f"{EPSG}2180"}
    assert len(json.loads(pole.get("/v1/collections/pl_2024/items", **box).data)["features"]) == 1
    turned = {"bbox": "500010,400010,500020,400020", "bbox-crs": f"{EPSG}2180"}
    assert json.loads(pole.get("/v1/collections/pl_2024/items", **turned).data)["features"] == []


def test_columns_of_the_file_are_properties(anna, db):
    sql(
        db,
        """UPDATE cbm.parcel SET attributes = '{"area_m2": 7, "Betrieb": "ä\\"x", "n": null}'
           WHERE pid = 'p1'""",
    )
    found = json.loads(anna.get(f"{PATH}/p1").data)["properties"]
    assert (found["area_m2"], found["source_area_m2"]) == (1, 7)
    assert (found["Betrieb"], found["n"]) == ('ä"x', None)


def test_one_parcel_and_its_links(anna):
    feature = json.loads(anna.get(f"{PATH}/p5").data)
    assert feature["id"] == "p5"
    listed = next(one for one in json.loads(anna.get(PATH).data)["features"] if one["id"] == "p5")
    links = {one["rel"]: one["href"] for one in feature.pop("links")}
    assert feature == listed
    assert json.loads(anna.get(links["self"]).data)["id"] == "p5"
    assert anna.get(links["collection"]).json["id"] == "tt_2024"
    assert anna.get(links["related"]).status_code == 200


@pytest.mark.parametrize("pid", ["a/b", "12/3 4", "ž'; --", "p%2Fx", "..", "x?y#z"])
def test_ids_may_hold_anything(anna, db, pid):
    sql(db, "UPDATE cbm.parcel SET pid = %s WHERE pid = 'p2' AND layer = ''", pid)
    listed = [one for one in json.loads(anna.get(PATH).data)["features"] if one["id"] == pid]
    assert len(listed) == 1
    feature = json.loads(anna.get(f"{PATH}/{quote(pid, safe='')}").data)
    assert feature["id"] == pid
    own = next(one["href"] for one in feature["links"] if one["rel"] == "self")
    assert json.loads(anna.get(own).data)["id"] == pid


@pytest.mark.parametrize("pid", ["none", "p0 ", "%00", "x" * 300])
def test_an_unknown_parcel(anna, pid):
    answer = anna.get(f"{PATH}/{pid}")
    assert answer.status_code in (400, 404)
    assert answer.json["code"] in ("parcel_unknown", "bad_parameter")


def test_reads_are_logged(anna, db):
    anna.get(PATH, limit=3)
    anna.get(f"{PATH}/p4")
    rows = sql(
        owner(db),
        "SELECT who, detail FROM cbm.audit WHERE action = 'read' ORDER BY id",
    )
    assert [(who, detail["dataset"], detail["parcels"]) for who, detail in rows] == [
        ("api:anna", "tt_2024", 3),
        ("api:anna", "tt_2024", ["p4"]),
    ]


BAD = [
    {"bbox": ""}, {"bbox": "1,2,3"}, {"bbox": "1,2,3,nan"}, {"bbox": "1,2,3,inf"},
    {"bbox": "1,2,3,1e999"}, {"bbox": "5,50,6,49"}, {"bbox": "0,0,181,1"}, {"bbox": "0,0,1,91"},
    {"bbox": "1,2,3,4'"}, {"bbox": "0,0,1,1", "bbox-crs": "EPSG:4326"},
    {"bbox": "9e99,9e99,9.1e99,9.1e99", "bbox-crs": f"{EPSG}32632"},
    {"bbox": "5,5,4,6", "bbox-crs": f"{EPSG}3857"}, {"crs": f"{EPSG}2154"}, {"crs": "x\0"},
    {"limit": "0"}, {"limit": "-1"}, {"limit": "x"}, {"limit": "1.5"}, {"limit": "9" * 5000},
    {"cursor": "x"}, {"cursor": "1"}, {"cursor": "99999999999.1"}, {"cursor": f"1.{2**63}"},
    {"cursor": "1.1; DROP TABLE cbm.parcel"}, {"datetime": "yesterday"}, {"datetime": "2024-13-01"},
    {"datetime": "2024-06-01/2024-05-01"}, {"as_of": "2024-01-01/2024-02-01"}, {"as_of": "x"},
    {"crop_code": ""}, {"crop_code": "a\0"}, {"crop_name": "x" * 300}, {"colour": "red"},
]  # fmt: skip


@pytest.mark.parametrize("query", BAD, ids=str)
def test_bad_parameters_are_refused(anna, query):
    answer = anna.get(PATH, **query)
    assert (answer.status_code, answer.json["code"]) == (400, "bad_parameter")
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize("value", ["' OR '1'='1", "100'--", "\\", "%", "100;"])
def test_quotes_find_nothing(anna, value):
    for name in ("crop_code", "crop_name"):
        assert json.loads(anna.get(PATH, **{name: value}).data)["features"] == []
