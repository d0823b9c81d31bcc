import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from cbm_core.errors import CbmError
from cbm_extract.parcels import checks
from cbm_extract.parcels.crs import EqualArea, resolve
from cbm_extract.parcels.mapping import Mapped
from cbm_extract.parcels.spool import SpoolWriter, encode
from tests.unit.parcels import files


def settle(pids, duplicates):
    found = checks.settle_ids(pa.chunked_array([pa.array(pids, pa.string())]), duplicates)
    return [found.pids[row].as_py() for row in found.kept.tolist()], found


def test_duplicate_ids():
    pids = ["a", "b", "a", "c", "b", "a"]
    with pytest.raises(CbmError) as caught:
        settle(pids, "refuse")
    assert (caught.value.code, caught.value.details) == ("duplicate_ids", {"ids": ["a", "b"]})
    kept, found = settle(pids, "suffix")
    assert kept == ["a", "b", "a_2", "c", "b_2", "a_3"]
    assert (found.duplicated, found.surplus) == (["a", "b"], 3)
    kept, found = settle(pids, "first")
    assert kept == ["a", "b", "c"]
    assert found.kept.tolist() == [0, 1, 3]


def test_a_suffix_that_is_taken_is_refused():
    with pytest.raises(CbmError, match="a_2") as caught:
        settle(["a", "a", "a_2"], "suffix")
    assert caught.value.code == "duplicate_ids"


@given(st.lists(st.sampled_from("abcde"), min_size=1))
def test_unique_ids_pass_and_every_row_is_accounted_for(pids):
    if len(set(pids)) == len(pids):
        assert settle(pids, "refuse")[0] == pids
    suffixed, _ = settle(pids, "suffix")
    assert len(set(suffixed)) == len(pids)
    first, found = settle(pids, "first")
    assert first == list(dict.fromkeys(pids))
    assert len(first) + found.surplus == len(pids)


def spooled(folder, polygons, srid=32632):
    writer = SpoolWriter(folder)
    geometries = shapely.multipolygons(np.asarray(polygons), indices=np.arange(len(polygons)))
    empty = pa.nulls(len(polygons), pa.string())
    pids = pa.array([str(i) for i in range(len(polygons))])
    writer.write(
        Mapped(pids, empty, empty, pa.array(["{}"] * len(polygons))), encode(geometries, srid)
    )
    return writer.finish()


def overlaps(folder, polygons, threshold=100.0, crs="EPSG:32632", kept=None):
    source = resolve(crs, None, "file")
    spool = spooled(folder, polygons, source.srid)
    kept = np.arange(len(polygons)) if kept is None else np.array(kept)
    return checks.overlaps(spool, kept, source, EqualArea(source.crs), threshold)


def test_overlap_is_measured_in_square_metres(tmp_path):
    a = shapely.box(500_000, 5e6, 500_100, 5_000_100)
    b = shapely.box(500_090, 5e6, 500_200, 5_000_100)
    found = overlaps(tmp_path, [a, b])
    assert (found.pairs, found.largest[0][1:]) == (1, (0, 1))
    # scale 0.9996 on the central meridian of UTM
    assert found.area_m2 == pytest.approx(1000 / 0.9996**2, rel=1e-3)
    assert overlaps(tmp_path, [a, b], threshold=1100).pairs == 0


def test_overlap_in_degrees_and_in_mercator(tmp_path):
    a, b = shapely.box(8.0, 60.0, 8.001, 60.001), shapely.box(8.0005, 60.0, 8.0015, 60.001)
    expected = 0.0005 * 111_412.84 * np.cos(np.radians(60)) * 0.001 * 111_412  # about 3,104 m2
    assert overlaps(tmp_path, [a, b], 100, "EPSG:4326").area_m2 == pytest.approx(expected, rel=1e-2)
    to_mercator = 20037508.342789 / 180
    y = np.log(np.tan((90 + np.array([60.0, 60.001])) * np.pi / 360)) * 6378137
    boxes = [shapely.box(x0 * to_mercator, y[0], x1 * to_mercator, y[1])
             for x0, x1 in ((8.0, 8.001), (8.0005, 8.0015))]  # fmt: skip
    assert overlaps(tmp_path, boxes, 100, "EPSG:3857").area_m2 == pytest.approx(expected, rel=1e-2)


def test_neighbours_and_duplicates_do_not_overlap(tmp_path):
    touching = list(files.squares(3))
    assert overlaps(tmp_path, [*touching, touching[0]], threshold=0).pairs == 0


def test_dropped_rows_do_not_overlap(tmp_path):
    a, b = shapely.box(0, 0, 100, 100), shapely.box(50, 0, 150, 100)
    assert overlaps(tmp_path, [a, b], kept=[0]).pairs == 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_blocks_find_what_all_against_all_finds(tmp_path_factory, seed):
    random = np.random.default_rng(seed)
    low = random.integers(0, 500, (60, 2)) + np.array([500_000.0, 5e6])
    size = random.integers(1, 120, (60, 2))
    polygons = shapely.box(low[:, 0], low[:, 1], low[:, 0] + size[:, 0], low[:, 1] + size[:, 1])
    pytest_patch = pytest.MonkeyPatch()
    with pytest_patch.context() as patch:
        patch.setattr(checks, "_BLOCK", 7)
        patch.setattr(checks, "_PAIRS", 2)
        found = overlaps(tmp_path_factory.mktemp("spool"), polygons, threshold=50.0)
    areas = shapely.area(shapely.intersection(polygons[:, None], polygons[None, :]))
    same = shapely.equals(polygons[:, None], polygons[None, :])
    expected = np.triu((areas / 0.9996**2 > 50.0) & ~same, 1)
    assert found.pairs == expected.sum()
    assert found.area_m2 == pytest.approx((areas / 0.9996**2)[expected].sum(), rel=1e-3)


def test_spool_gives_back_what_was_written(tmp_path):
    polygons = files.squares(10)
    spool = spooled(tmp_path, polygons)
    rows = np.array([7, 0, 7])
    found = spool.geometries(rows)
    assert all(shapely.equals(found, polygons[rows]))
    assert spool.pids().to_pylist() == [str(i) for i in range(10)]
    np.testing.assert_array_equal(spool.bounds, shapely.bounds(polygons))


def test_hash_is_of_srid_and_normalised_wkb(tmp_path):
    import hashlib

    (tmp_path / "a").mkdir()
    spool = spooled(tmp_path, files.squares(2))
    wkb = spool.wkb(np.array([1]))[0]
    expected = hashlib.sha256((32632).to_bytes(4, "big") + wkb).digest()[:16]
    assert spool.hashes[1].tobytes() == expected
    assert spooled(tmp_path / "a", files.squares(2), 32633).hashes[1].tobytes() != expected


def test_hilbert_order_keeps_neighbours_together(tmp_path):
    side = 16
    x, y = np.meshgrid(np.arange(side) * 10.0, np.arange(side) * 10.0)
    polygons = shapely.box(x.ravel(), y.ravel(), x.ravel() + 10, y.ravel() + 10)
    shuffled = np.random.default_rng(1).permutation(len(polygons))
    order = shuffled[spooled(tmp_path, polygons[shuffled]).hilbert()]
    centres = np.column_stack([x.ravel(), y.ravel()])[order]
    steps = np.abs(np.diff(centres, axis=0)).sum(axis=1)
    assert steps.max() == 10.0, "each parcel touches the one before"
    assert sorted(order.tolist()) == list(range(side * side))


def test_outside_across_the_antimeridian():
    points = np.array([(179.0, -17.0), (-179.0, -17.0), (0.0, -17.0), (170.0, -17.0), (179, 0)])
    assert checks.outside(points, (175.0, -20.0, -175.0, -15.0)).tolist() == [
        False, False, True, True, True,
    ]  # fmt: skip
    assert not checks.outside(points, (-180.0, -90.0, 180.0, 90.0)).any()
    assert checks.outside(np.array([(5.0, 50.0)]), (-10.7, 51.3, -5.9, 55.5)).all()
