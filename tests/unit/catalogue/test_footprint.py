"""Footprints: order of coordinates, the antimeridian, what is refused."""

import pytest
import rasterio.warp
import shapely
from shapely.geometry import box

from cbm_core.errors import CbmError
from cbm_extract.catalogue import footprint
from cbm_extract.scene import Extent


def shape(wkb: bytes):
    return shapely.from_wkb(wkb)


def ring(*points: tuple[float, float]) -> list[list[tuple[float, float]]]:
    return [[*points, points[0]]]


def test_a_plain_polygon_stays():
    found = shape(footprint.from_rings([ring((8, 47), (9, 47), (9, 48), (8, 48))]))
    assert found.geom_type == "MultiPolygon"
    assert found.equals(box(8, 47, 9, 48))


@pytest.mark.parametrize(
    "points",
    [
        [(179, 60), (-179, 60), (-179, 61), (179, 61)],
        [(-179, 60), (-179, 61), (179, 61), (179, 60)],
        [(179, 60), (181, 60), (181, 61), (179, 61)],
    ],
)
def test_split_at_the_antimeridian(points):
    found = shape(footprint.from_rings([ring(*points)]))
    expected = box(179, 60, 180, 61).union(box(-180, 60, -179, 61))
    assert found.symmetric_difference(expected).area < 1e-12
    assert len(found.geoms) == 2
    assert found.is_valid


def test_touching_the_antimeridian_is_not_split():
    found = shape(footprint.from_rings([ring((179, 60), (180, 60), (180, 61), (179, 61))]))
    assert found.equals(box(179, 60, 180, 61))


def test_a_hole_follows_its_polygon_across():
    outer = [(178, 60), (-178, 60), (-178, 64), (178, 64), (178, 60)]
    hole = [(-179.5, 61), (-179, 61), (-179, 62), (-179.5, 62), (-179.5, 61)]
    found = shape(footprint.from_rings([[outer, hole]]))
    assert found.area == pytest.approx(16 - 0.5)
    assert not found.contains(box(-179.4, 61.1, -179.1, 61.9))


def test_geojson():
    collection = {
        "type": "MultiPolygon",
        "coordinates": [
            [[[179, 1], [180, 1], [180, 2], [179, 2], [179, 1]]],
            [[[-180, 1], [-179, 1], [-179, 2], [-180, 2], [-180, 1]]],
        ],
    }
    assert shape(footprint.from_geojson(collection)).area == pytest.approx(2)
    assert footprint.from_geojson(None) is None


def test_a_self_crossing_ring_is_repaired():
    found = shape(footprint.from_rings([ring((0, 0), (2, 2), (2, 0), (0, 2))]))
    assert found.is_valid
    assert found.area == pytest.approx(2)


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Point", "coordinates": [1, 2]},
        {"type": "Polygon", "coordinates": [[[1, 2], [3, 4], [1, 2]]]},
        {"type": "Polygon", "coordinates": [[[1, 2], [1, 2], [1, 2], [1, 2]]]},
        {"type": "Polygon", "coordinates": [[["a", 2], [3, 4], [5, 6], ["a", 2]]]},
        {"type": "Polygon", "coordinates": [[[0, 4e6], [1e5, 4e6], [1e5, 5e6], [0, 4e6]]]},
        {"type": "Polygon", "coordinates": [[[0, 80], [120, 80], [-120, 80], [0, 80]]]},
    ],
)
def test_unusable(geometry):
    with pytest.raises(CbmError) as caught:
        footprint.from_geojson(geometry)
    assert caught.value.code == "footprint_invalid"


def test_extent_in_the_southern_hemisphere():
    bounds = (199980, 5790220, 309780, 5900020)
    found = shape(footprint.from_extent(Extent("EPSG:32722", bounds)))
    expected = rasterio.warp.transform_bounds("EPSG:32722", "EPSG:4326", *bounds)
    assert found.bounds == pytest.approx(expected, abs=1e-6)


def test_extent_across_the_antimeridian():
    found = shape(footprint.from_extent(Extent("EPSG:32601", (300000, 7590240, 409800, 7700040))))
    assert len(found.geoms) == 2
    assert found.area < 5  # a band around the world would have some 370 square degrees


def test_unknown_crs():
    with pytest.raises(CbmError) as caught:
        footprint.from_extent(Extent("EPSG:99999", (0, 0, 1, 1)))
    assert caught.value.code == "crs_unknown"
