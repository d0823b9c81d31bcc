"""Vector tiles, read with GDAL."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely

from cbm_api.queries import tiles
from tests.factories import add_dataset, add_parcels, sql, square, transformed

pytestmark = pytest.mark.postgis
LEFT, TOP = 600_000.0, 5_300_000.0
MAP = "/v1/collections/tt_2024/tiles/WebMercatorQuad"


def address(lon: float, lat: float, z: int) -> tuple[int, int]:
    """Column and row of the tile at a place, from Web Mercator metres."""
    x, y = pyproj.Transformer.from_crs(4326, 3857, always_xy=True).transform(lon, lat)
    half = 20037508.342789244
    return int((x + half) / (2 * half) * 2**z), int((half - y) / (2 * half) * 2**z)


def at(shape, z: int) -> str:
    middle = transformed(shape, "EPSG:32632").centroid
    x, y = address(middle.x, middle.y, z)
    return f"{MAP}/{z}/{y}/{x}"


def read(data: bytes, url: str, folder: Path, layer: str = "parcels"):
    """A tile's features as (records, geometries in EPSG:3857), by GDAL's reader."""
    z, y, x = url.rsplit("/", 3)[1:]
    path = folder / f"{z}-{x}-{y}.pbf"
    path.write_bytes(data)
    frame = pyogrio.raw.read(f"MVT:{path}", layer=layer, X=x, Y=y, Z=z)
    meta, _, geometries, columns = frame
    names = list(meta["fields"])
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)], [
        shapely.from_wkb(one) for one in geometries
    ]


@pytest.fixture
def anna(db, asking):
    """A user of dataset 1 (tt_2024)."""
    return asking("anna", add_dataset(db))


def test_parcels_stand_where_they_are(db, anna, tmp_path):
    shapes = [square(LEFT, TOP), square(LEFT + 200, TOP, 50)]
    add_parcels(db, 1, shapes)
    sql(db, "UPDATE cbm.parcel SET crop_code = '10', crop_name = 'Blé' WHERE pid = 'p0'")
    url = at(shapes[0], 14)
    response = anna.get(url)
    assert response.content_type == "application/vnd.mapbox-vector-tile"
    records, geometries = read(response.data, url, tmp_path)
    found = {one["pid"]: (one, shape) for one, shape in zip(records, geometries, strict=True)}
    assert set(found) == {"p0", "p1"}
    assert (found["p0"][0]["crop_code"], found["p0"][0]["crop_name"]) == ("10", "Blé")
    for pid, shape in zip(("p0", "p1"), shapes, strict=True):
        expected = transformed(shape, "EPSG:32632", "EPSG:3857")
        # A unit of the tile is 0.6 m.
        assert shapely.hausdorff_distance(expected, found[pid][1]) < 1.0


def test_the_edge_belongs_to_both_tiles(db, anna, tmp_path):
    x, y = address(9.0, 47.5, 14)
    half = 20037508.342789244
    edge = (x + 1) / 2**14 * 2 * half - half  # between this tile and the next
    middle = half - (y + 0.5) / 2**14 * 2 * half
    shape = transformed(
        shapely.box(edge - 50, middle, edge + 50, middle + 100), "EPSG:3857", "EPSG:32632"
    )
    add_parcels(db, 1, [shape])
    for column in (x, x + 1):
        url = f"{MAP}/14/{y}/{column}"
        assert len(read(anna.get(url).data, url, tmp_path)[0]) == 1


def test_parcels_that_are_no_more_are_not_shown(db, anna, tmp_path):
    shapes = [square(LEFT, TOP), square(LEFT + 200, TOP), square(LEFT + 400, TOP)]
    add_parcels(db, 1, shapes)
    add_parcels(db, 1, [square(LEFT, TOP + 200)], layer="grass")
    sql(db, "UPDATE cbm.parcel SET known_to = now() WHERE pid = 'p1'")
    sql(db, "UPDATE cbm.parcel SET valid_to = '2024-06-01' WHERE pid = 'p2'")
    url = at(shapes[0], 14)
    assert [one["pid"] for one in read(anna.get(url).data, url, tmp_path)[0]] == ["p0"]
    url = url.replace("tt_2024", "tt_2024.grass")
    _, geometries = read(anna.get(url).data, url, tmp_path)
    assert len(geometries) == 1


@pytest.mark.parametrize("zoom", [0, 5, 11])
def test_counts_below_zoom_12(db, anna, tmp_path, zoom):
    shapes = [square(LEFT + 150 * i, TOP + 90 * i) for i in range(40)]
    add_parcels(db, 1, shapes)
    sql(db, "UPDATE cbm.parcel_geometry SET area_m2 = 10000 + id")
    # An edit of parcels comes with a parcel set, and tiles are made when it is committed.
    sql(
        db,
        """WITH edit AS (
             UPDATE cbm.parcel SET crop_name = 'Name',
               crop_code = CASE WHEN pid < 'p2' THEN 'A' ELSE 'B' END RETURNING 1)
           INSERT INTO cbm.parcel_set (dataset_id, layer, source, checksum, options, crs_id, report,
             parcels, added, changed, removed, software_version)
           SELECT 1, '', 'test', 'd', '{}', 32632, '{}', 40, 0, count(*), 0, '0' FROM edit""",
    )
    middles = [transformed(one, "EPSG:32632").envelope.centroid for one in shapes]
    cells = min(zoom + 5, 15)
    expected: dict[tuple[int, int], list[int]] = {}
    for number, middle in enumerate(middles):
        expected.setdefault(address(middle.x, middle.y, cells), []).append(number)
    found = {}
    for x, y in {(cx >> (cells - zoom), cy >> (cells - zoom)) for cx, cy in expected}:
        url = f"{MAP}/{zoom}/{y}/{x}"
        for record, shape in zip(*read(anna.get(url).data, url, tmp_path, "grid"), strict=True):
            corner = transformed(shape, "EPSG:3857", "EPSG:4326").centroid
            found[address(corner.x, corner.y, cells)] = record
    assert set(found) == set(expected)
    for cell, numbers in expected.items():
        record = found[cell]
        assert record["parcels"] == len(numbers)
        area = sum(10_000 + number + 1 for number in numbers) / 10_000
        assert record["area_ha"] == pytest.approx(area, abs=0.006)
        areas = {
            crop: sum(1 for n in numbers if (f"p{n}" < "p2") == (crop == "A")) for crop in "AB"
        }
        if areas["A"] != areas["B"]:
            assert record["crop_code"] == max(areas, key=areas.get)
        assert record["crop_name"] == "Name"


def test_a_crowded_tile_keeps_its_size_and_the_largest_parcels(db, anna, tmp_path):
    column, row = address(10.3, 47.8, 12)
    half = 20037508.342789244
    middle = shapely.Point(
        (column + 0.5) / 2**12 * 2 * half - half, half - (row + 0.5) / 2**12 * 2 * half
    )
    centre = transformed(middle, "EPSG:3857", "EPSG:32632")
    rng = np.random.default_rng(1)
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    shapes = []
    for number in range(3600):  # 6 km x 6 km in a tile of 6.5
        x = centre.x - 2950 + 100 * (number % 60)
        y = centre.y - 2950 + 100 * (number // 60)
        reach = rng.uniform(30, 45, 64)
        shapes.append(
            shapely.Polygon(np.c_[x + reach * np.cos(angles), y + reach * np.sin(angles)])
        )
    add_parcels(db, 1, shapes)
    sql(db, "UPDATE cbm.parcel_geometry SET area_m2 = id")
    url = f"{MAP}/12/{row}/{column}"
    response = anna.get(url)
    left_out = int(response.headers["Cbm-Left-Out"])
    records, _ = read(response.data, url, tmp_path)
    assert tiles.MAX_BYTES * 0.8 < len(response.data) <= tiles.MAX_BYTES
    # Every area is its number: what is left out is smaller than what is kept.
    assert left_out > 0
    assert sorted(int(one["pid"][1:]) for one in records) == list(range(left_out, 3600))


def test_a_tile_is_not_sent_again(db, anna):
    shape = square(LEFT, TOP)
    add_parcels(db, 1, [shape])
    for zoom in (10, 14):
        first = anna.get(at(shape, zoom))
        etag = first.headers["ETag"]
        headers = {**anna.headers, "If-None-Match": etag}
        second = anna.client.get(at(shape, zoom), headers=headers)
        assert (second.status_code, second.data, second.headers["ETag"]) == (304, b"", etag)
    add_parcels(db, 1, [square(LEFT + 200, TOP)], layer="other")
    assert anna.client.get(at(shape, 10), headers=headers).status_code == 304
    sql(
        db,
        """INSERT INTO cbm.parcel_set (dataset_id, layer, source, checksum, options, crs_id, report,
             parcels, added, changed, removed, software_version)
           VALUES (1, '', 'test', 'd', '{}', 32632, '{}', 0, 0, 0, 1, '0')""",
    )
    sql(db, "UPDATE cbm.parcel SET known_to = now() WHERE layer = ''")
    again = anna.client.get(at(shape, 10), headers=headers)
    assert again.status_code == 200


def test_tilejson_says_where_and_what(db, anna):
    shapes = [square(LEFT, TOP), square(LEFT + 20_000, TOP)]
    add_parcels(db, 1, shapes)
    document = anna.get(MAP).json
    west, south, east, north = document["bounds"]
    points = [transformed(one, "EPSG:32632").centroid for one in shapes]
    assert all(west < p.x < east and south < p.y < north for p in points)
    assert east - west < 1 and north - south < 1
    template = document["tiles"][0]
    assert template.endswith(f"{MAP}/{{z}}/{{y}}/{{x}}")
    assert [(one["id"], one["minzoom"]) for one in document["vector_layers"]] == [
        ("grid", 0),
        ("parcels", 12),
    ]
    x, y = address(points[0].x, points[0].y, 13)
    path = template.format(z=13, y=y, x=x).removeprefix("http://localhost")
    assert anna.get(path).data


def test_an_empty_dataset_has_empty_tiles(anna):
    assert "bounds" not in anna.get(MAP).json
    for zoom in (0, 12):
        response = anna.get(f"{MAP}/{zoom}/0/0")
        assert (response.status_code, response.data) == (200, b"")


def test_tiles_are_for_those_who_may_read_the_dataset(db, anna, asking):
    shape = square(LEFT, TOP)
    add_parcels(db, 1, [shape])
    other = asking("otto", add_dataset(db, "uu"))
    for url in (MAP, at(shape, 3), at(shape, 14)):
        assert anna.get(url).status_code == 200
        refused = other.get(url)
        assert (refused.status_code, refused.json["code"]) == (404, "dataset_unknown")
        unknown = other.get(url.replace("tt_", "zz_"))
        assert unknown.json["detail"] == refused.json["detail"]
        assert other.client.get(url).status_code == 401


def test_reads_of_parcels_are_logged(db, anna):
    shape = square(LEFT, TOP)
    add_parcels(db, 1, [shape, square(LEFT + 200, TOP)])
    anna.get(at(shape, 14))
    admin = replace(db, database=db.connection("owner"))
    ((who, detail),) = sql(admin, "SELECT who, detail FROM cbm.audit WHERE action = 'read'")
    assert (who, detail["dataset"], detail["parcels"]) == ("api:anna", "tt_2024", 2)


@pytest.mark.parametrize(
    "place", ["3/8/0", "3/0/8", "23/0/0", "-1/0/0", "a/0/0", "1/1e3/0", f"1/0/{'9' * 5000}"]
)
def test_no_such_tile(anna, place):
    response = anna.get(f"{MAP}/{place}")
    assert (response.status_code, response.json["code"]) == (400, "bad_parameter")


def test_a_purge_takes_the_tiles(db, anna):
    add_parcels(db, 1, [square(LEFT, TOP)])
    assert sql(db, "SELECT count(*) FROM cbm.grid_tile") == [(12,)]
    sql(db, "SELECT cbm.purge_dataset(1::smallint)")
    assert sql(db, "SELECT count(*) FROM cbm.grid_tile") == [(0,)]
