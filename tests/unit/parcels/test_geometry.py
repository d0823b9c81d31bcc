import struct

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely import wkt

from cbm_extract.parcels import geometry
from cbm_extract.parcels.geometry import LEFT_OUT

SQUARE = "POLYGON ((0 0, 0 10, 10 10, 10 0, 0 0))"


def clean(*values, linearise=None):
    """Clean geometries given as WKT, WKB or None; areas are planar."""
    wkb = np.empty(len(values), dtype=object)
    wkb[:] = [
        shapely.to_wkb(wkt.loads(v), output_dimension=4) if isinstance(v, str) else v
        for v in values
    ]
    return geometry.clean(wkb, linearise, shapely.area)


def reason(value) -> str:
    found = clean(value)
    assert found.polygons[0] is None
    return LEFT_OUT[found.left_out[0]]


def ring(*points: tuple[float, float]) -> bytes:
    return struct.pack("<I", len(points)) + b"".join(struct.pack("<dd", *p) for p in points)


def curve_polygon() -> bytes:
    """A circle of radius 1 around (1, 0)."""
    circle = struct.pack("<BI", 1, 8) + ring((0, 0), (1, 1), (2, 0), (1, -1), (0, 0))
    return struct.pack("<BII", 1, 10, 1) + circle


def test_polygons_become_multipolygons_of_one_form():
    turned = "POLYGON ((10 10, 10 0, 0 0, 0 10, 10 10))"
    backwards = "POLYGON ((0 0, 10 0, 10 10, 0 10, 0 0))"
    found = clean(SQUARE, turned, backwards, f"MULTIPOLYGON ({SQUARE[7:]})")
    assert len(set(shapely.to_wkb(found.polygons))) == 1
    assert found.polygons[0].geom_type == "MultiPolygon"
    assert not found.repaired.any()
    assert found.left_out.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null_geometry"),
        ("POLYGON EMPTY", "empty_geometry"),
        ("GEOMETRYCOLLECTION EMPTY", "empty_geometry"),
        ("POINT (1 1)", "not_polygon"),
        ("LINESTRING (0 0, 1 1)", "not_polygon"),
        ("GEOMETRYCOLLECTION (POINT (1 1), LINESTRING (0 0, 1 1))", "not_polygon"),
        ("POLYGON ((0 0, 5 5, 10 10, 0 0))", "collapsed"),
        (b"\x01\x03\x00\x00\x00\x01", "unreadable_geometry"),
        (b"", "unreadable_geometry"),
        (b"\x01\x03", "unreadable_geometry"),
        (struct.pack("<BII", 1, 3, 1) + ring((0, 0), (0, float("nan")), (1, 1), (0, 0)),
         "not_finite"),
        (struct.pack("<BII", 1, 3, 1) + ring((0, 0), (0, float("inf")), (1, 1), (0, 0)),
         "not_finite"),
    ],
)  # fmt: skip
def test_left_out(value, expected):
    assert reason(value) == expected


def test_one_bad_geometry_does_not_touch_its_neighbours():
    found = clean(SQUARE, None, "POINT (1 1)", SQUARE, b"\x01\x03", SQUARE)
    assert [LEFT_OUT[c] for c in found.left_out] == [
        "", "null_geometry", "not_polygon", "", "unreadable_geometry", "",
    ]  # fmt: skip
    assert [p is not None for p in found.polygons] == [True, False, False, True, False, True]


def test_bow_tie_is_repaired_and_measured():
    found = clean("POLYGON ((0 0, 10 10, 10 0, 0 10, 0 0))", SQUARE)
    assert found.repaired.tolist() == [True, False]
    assert shapely.is_valid(found.polygons[0])
    assert found.area_before[0] == 0.0
    assert found.area_after[0] == pytest.approx(50.0)
    assert np.isnan(found.area_before[1])


def test_overlapping_parts_count_once():
    found = clean("MULTIPOLYGON (((0 0,0 10,10 10,10 0,0 0)), ((5 0,5 10,15 10,15 0,5 0)))")
    assert found.repaired[0]
    assert found.area_before[0] == pytest.approx(200.0)
    assert found.area_after[0] == pytest.approx(150.0)


def test_a_repair_keeps_the_polygons_only():
    spike = "POLYGON ((0 0, 0 10, 10 10, 10 0, 5 0, 5 -5, 5 0, 0 0))"
    found = clean(spike)
    assert found.polygons[0].geom_type == "MultiPolygon"
    assert found.polygons[0].area == pytest.approx(100.0)


def test_unclosed_ring_is_closed_and_counted():
    unclosed = struct.pack("<BII", 1, 3, 1) + ring((0, 0), (0, 10), (10, 10), (10, 0))
    found = clean(unclosed)
    assert found.repaired[0]
    assert found.polygons[0].area == pytest.approx(100.0)


@pytest.mark.parametrize("dimensions", ["Z", "M", "ZM"])
def test_flattened(dimensions):
    extra = {"Z": " 5", "M": " 7", "ZM": " 5 7"}[dimensions]
    points = ", ".join(f"{p}{extra}" for p in ("0 0", "0 10", "10 10", "10 0", "0 0"))
    found = clean(f"POLYGON {dimensions} (({points}))", SQUARE)
    assert found.flattened.tolist() == [True, False]
    assert shapely.to_wkb(found.polygons[0]) == shapely.to_wkb(found.polygons[1])


def test_polygons_are_taken_out_of_collections():
    nested = (
        "GEOMETRYCOLLECTION (POINT (0 0), POLYGON ((0 0,0 1,1 1,1 0,0 0)), GEOMETRYCOLLECTION ("
        "LINESTRING (0 0,1 1), MULTIPOLYGON (((5 5,5 6,6 6,6 5,5 5)), ((8 8,8 9,9 9,9 8,8 8)))))"
    )
    found = clean(SQUARE, nested)
    assert found.from_collection.tolist() == [False, True]
    assert shapely.get_num_geometries(found.polygons[1]) == 3
    assert found.polygons[1].area == pytest.approx(3.0)


def test_overlapping_polygons_of_a_collection_are_united():
    found = clean(f"GEOMETRYCOLLECTION ({SQUARE}, POLYGON ((5 0,5 10,15 10,15 0,5 0)))")
    assert found.polygons[0].area == pytest.approx(150.0)
    assert shapely.is_valid(found.polygons[0])


def test_curves_are_handed_to_whoever_can_linearise():
    asked = []

    def linearise(rows):
        asked.append(rows.tolist())
        return np.array([shapely.to_wkb(wkt.loads(SQUARE))], dtype=object)

    found = clean(SQUARE, curve_polygon(), None, linearise=linearise)
    assert asked == [[1]]
    assert found.linearised.tolist() == [False, True, False]
    assert found.polygons[1].area == pytest.approx(100.0)


def test_types_of_all_dialects():
    values = [struct.pack(f"{o}BI", o == "<", k) for o in "<>" for k in
              (3, 1003, 2003, 3003, 0x80000003, 0x20000003, 10, 1010)]  # fmt: skip
    found = geometry.wkb_types(np.array([*values, None, b"\x01"], dtype=object))
    assert found.tolist() == [3, 3, 3, 3, 3, 3, 10, 10] * 2 + [-1, -1]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=9))
def test_whatever_comes_in_valid_polygons_come_out(points):
    polygon = shapely.Polygon(points)
    found = clean(shapely.to_wkb(polygon))
    if found.left_out[0]:
        assert LEFT_OUT[found.left_out[0]] == "collapsed"
        assert polygon.area == pytest.approx(0.0), "only what encloses nothing may vanish"
    else:
        assert found.polygons[0].is_valid
        assert found.polygons[0].geom_type == "MultiPolygon"
        assert found.repaired[0] == (not polygon.is_valid)
