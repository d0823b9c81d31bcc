import numpy as np
import pyproj
import pytest
import shapely

from cbm_core.errors import CbmError
from cbm_extract.plan import pipeline
from cbm_extract.plan.build import build_chunks
from cbm_extract.plan.chunk import PlanChunk
from cbm_extract.plan.lattice import Lattice
from cbm_extract.plan.window import clip
from tests.unit.plan.polygons import NORTH, PLACEMENT, WEST, by_gdal, random_polygons

LATTICE = PLACEMENT.lattice
AREA = (6.0, 47.0, 9.0, 48.5)


def build(polygons, crs="EPSG:32632", lattice=LATTICE, buffer_m=0.0, **options):
    operation = pipeline.choose(crs, lattice.crs, AREA)
    ids = np.arange(100, 100 + len(polygons), dtype=np.int32)
    wkb = shapely.to_wkb(np.array(polygons, dtype=object))
    return build_chunks(ids, wkb, crs, lattice, buffer_m, operation, **options)


def square(col, row, size, dx=0.0):
    west, north = WEST + 10 * col + dx, NORTH - 10 * row
    return shapely.box(west, north - size, west + size, north)


def pixels_of(chunk: PlanChunk, k: int) -> set[tuple[int, int]]:
    found = set()
    for j in range(chunk.indptr[k], chunk.indptr[k + 1]):
        row = chunk.row0 + int(chunk.run_row[j])
        first = chunk.col0 + int(chunk.run_col[j])
        found |= {(row, col) for col in range(first, first + int(chunk.run_len[j]))}
    return found


def test_a_chunk_holds_gdals_pixels():
    polygons = random_polygons(np.random.default_rng(31), 60, 5)
    (chunk,) = build(polygons)
    for k, polygon in enumerate(polygons):
        rows, cols = np.nonzero(by_gdal(polygon))
        inside = {
            (row, col)
            for row, col in pixels_of(chunk, k)
            if 0 <= row - PLACEMENT.row0 < 300 and 0 <= col - PLACEMENT.col0 < 300
        }
        expected = zip(rows + PLACEMENT.row0, cols + PLACEMENT.col0, strict=True)
        assert inside == {(int(row), int(col)) for row, col in expected}
    assert chunk.pixels.tolist() == [len(pixels_of(chunk, k)) for k in range(len(polygons))]
    assert np.array_equal(chunk.pixels, chunk.pixels_planned)


def test_parcels_in_other_crs_come_to_the_same_pixels():
    # Corners 3 m off pixel centres: a centimetre of reprojection error moves no pixel.
    squares = [square(10 + 7 * k, 20 + 3 * k, 46, dx=2) for k in range(20)]
    (here,) = build(squares)
    for crs in ("EPSG:4326", "EPSG:25832", "EPSG:3035"):
        to = pyproj.Transformer.from_crs("EPSG:32632", crs, always_xy=True)
        moved = shapely.transform(
            np.array(squares), lambda xy, to=to: np.column_stack(to.transform(xy[:, 0], xy[:, 1]))
        )
        (there,) = build(moved, crs)
        assert [pixels_of(there, k) for k in range(20)] == [pixels_of(here, k) for k in range(20)]
        assert there.width_m == pytest.approx(here.width_m, rel=2e-3)


def test_two_zones_and_the_southern_hemisphere():
    parcels = [shapely.box(lon, 46.9, lon + 0.01, 46.91) for lon in (5.97, 6.0, 6.02)]
    for zone in ("EPSG:32631", "EPSG:32632"):
        (chunk,) = build(parcels, "EPSG:4326", Lattice(zone, 10.0, 10.0, 0.0, 0.0))
        areas = chunk.pixels_planned * 100.0
        geod = pyproj.Geod(ellps="WGS84")
        true = [abs(geod.geometry_area_perimeter(one)[0]) for one in parcels]
        assert areas == pytest.approx(true, rel=0.01)
    south = [shapely.box(55.4, -21.0, 55.41, -20.99)]
    operation = pipeline.choose("EPSG:4326", "EPSG:32740", (55.0, -22.0, 56.0, -20.0))
    lattice = Lattice("EPSG:32740", 10.0, 10.0, 0.0, 0.0)
    (chunk,) = build_chunks(
        np.ones(1, np.int32), shapely.to_wkb(np.array(south)), "EPSG:4326", lattice, 0, operation
    )
    assert -10 * chunk.row0 == pytest.approx(7_678_000, abs=2000)
    assert chunk.pixels[0] * 100 == pytest.approx(1_150_000, rel=0.02)


def test_monitorability_before_and_after_the_buffer():
    parcels = [
        square(10, 10, 100),
        square(30, 10, 40),
        square(50, 10, 30),
        square(70, 10, 8, dx=1),
        shapely.box(WEST + 906, NORTH - 104, WEST + 909, NORTH - 101),
    ]
    (chunk,) = build(parcels, buffer_m=10)
    assert chunk.pixels.tolist() == [100, 16, 9, 1, 0]
    assert chunk.whole_pixels.tolist() == [100, 16, 9, 0, 0]
    assert chunk.pixels_planned.tolist() == [64, 4, 1, 0, 0]
    assert chunk.width_m.tolist() == pytest.approx([50, 20, 15, 4, 1.5])
    assert chunk.codes() == ["ok", "ok", "ok", "too_small", "too_small"]
    assert chunk.codes(1000) == ["ok", "ok", "few_pixels", "too_small", "too_small"]
    (unbuffered,) = build(parcels)
    assert unbuffered.codes() == ["ok", "ok", "ok", "few_pixels", "no_pixel"]


def test_eight_whole_pixels_are_the_limit_at_any_resolution():
    eight = shapely.box(WEST, NORTH - 40, WEST + 20, NORTH)
    seven = eight.difference(shapely.box(WEST, NORTH - 10, WEST + 10, NORTH))
    (chunk,) = build([eight, seven])
    assert chunk.codes() == ["ok", "few_pixels"]
    (chunk,) = build([eight, seven], lattice=Lattice("EPSG:32632", 20.0, 20.0, 0.0, 0.0))
    assert chunk.whole_pixels.tolist() == [2, 1]
    assert chunk.codes() == ["ok", "few_pixels"]


def test_every_geometry_is_in_one_chunk_in_order():
    polygons = random_polygons(np.random.default_rng(32), 50)
    whole, parts = build(polygons)[0], build(polygons, chunk_size=13)
    assert [len(part.geometry_ids) for part in parts] == [13, 13, 13, 11]
    assert np.concatenate([part.geometry_ids for part in parts]).tolist() == list(range(100, 150))
    joined = clip(parts, PLACEMENT)
    once = clip([whole], PLACEMENT)
    for name in ("geometry_ids", "indptr", "row", "col", "length", "contained"):
        assert np.array_equal(getattr(joined, name), getattr(once, name)), name


def test_far_islands_split_a_chunk_and_lose_nothing():
    near, far = square(10, 10, 50), square(70_000, 10, 50)
    chunks = build([near, near, far, shapely.Polygon(), near])
    assert [chunk.geometry_ids.tolist() for chunk in chunks] == [[100, 101], [102, 103], [104]]
    assert [int(chunk.pixels_planned.sum()) for chunk in chunks] == [50, 25, 25]
    moved = {(row, col - 69_990) for row, col in pixels_of(chunks[1], 0)}
    assert pixels_of(chunks[0], 0) == moved


def test_a_chunk_without_pixels_is_kept():
    (chunk,) = build([shapely.Polygon(), square(10.1, 10.1, 2)])
    assert chunk.codes() == ["no_pixel", "no_pixel"]
    assert PlanChunk.from_bytes(chunk.to_bytes()).geometry_ids.tolist() == [100, 101]
    assert clip([chunk], PLACEMENT).geometry_ids.tolist() == []


def failure(code, *arguments, **options):
    with pytest.raises(CbmError) as caught:
        build(*arguments, **options)
    assert caught.value.code == code
    return caught.value


def test_what_cannot_be_planned_names_the_geometries():
    fine = square(10, 10, 50)
    wide = failure("geometry_too_wide", [fine, square(0, 0, 700_000)])
    assert wide.details["geometry_ids"] == [101]
    afar = failure("geometry_too_wide", [fine, square(1e12, 0, 50)])
    assert afar.details["geometry_ids"] == [101]
    point = failure("geometry_not_polygon", [fine, shapely.Point(1, 1)])
    assert point.details["geometry_ids"] == [101]
    lost = failure("reprojection_failed", [fine, shapely.box(8, 91, 8.1, 92)], "EPSG:4326")
    assert 101 in lost.details["geometry_ids"]


def test_unreadable_geometry_is_refused():
    operation = pipeline.choose("EPSG:32632", "EPSG:32632", AREA)
    with pytest.raises(CbmError) as caught:
        build_chunks(np.ones(1, np.int32), [b"nonsense"], "EPSG:32632", LATTICE, 0, operation)
    assert caught.value.code == "geometry_unreadable"


def test_buffers_need_a_projected_lattice_and_go_inwards():
    degrees = Lattice("EPSG:4326", 1e-4, 1e-4, 0.0, 0.0)
    parcel = [shapely.box(8.0, 47.0, 8.01, 47.01)]
    failure("buffer_in_degrees", parcel, "EPSG:4326", degrees, buffer_m=10)
    failure("buffer_negative", [square(0, 0, 50)], buffer_m=-10)
    (chunk,) = build(parcel, "EPSG:4326", degrees)
    assert chunk.pixels.tolist() == [10_000]
    assert chunk.pixel_area_m2[0] == pytest.approx(7.61 * 11.12, rel=0.01)


def test_an_operation_for_another_crs_is_refused():
    other = pipeline.choose("EPSG:4326", "EPSG:32633", AREA)
    wkb = shapely.to_wkb(np.array([square(0, 0, 50)]))
    with pytest.raises(CbmError) as caught:
        build_chunks(np.ones(1, np.int32), wkb, "EPSG:4326", LATTICE, 0, other)
    assert caught.value.code == "pipeline_mismatch"
