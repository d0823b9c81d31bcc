import weakref
from dataclasses import replace

import numpy as np
import pytest

from cbm_extract.plan.lattice import Placement
from cbm_extract.plan.runs import Runs
from cbm_extract.plan.window import clip
from tests.unit.plan.polygons import PLACEMENT, random_polygons
from tests.unit.plan.test_build import build, pixels_of


@pytest.fixture(scope="module")
def chunks():
    polygons = random_polygons(np.random.default_rng(51), 120)
    return build(polygons, chunk_size=40)


def raster_pixels(runs: Runs, k: int) -> set[tuple[int, int]]:
    return {
        (int(runs.row[j]), col)
        for j in range(runs.indptr[k], runs.indptr[k + 1])
        for col in range(int(runs.col[j]), int(runs.col[j]) + int(runs.length[j]))
    }


@pytest.mark.parametrize(
    ("row", "col", "height", "width"),
    [(0, 0, 300, 300), (50, 60, 100, 90), (-20, -20, 60, 400), (299, 150, 1, 1), (120, 130, 3, 2)],
)
def test_clip_is_the_intersection(chunks, row, col, height, width):
    raster = replace(
        PLACEMENT,
        row0=PLACEMENT.row0 + row,
        col0=PLACEMENT.col0 + col,
        height=height,
        width=width,
    )
    expected = {}
    for chunk in chunks:
        for k, identity in enumerate(chunk.geometry_ids.tolist()):
            planned = pixels_of(chunk, k)
            moved = {(r - raster.row0, c - raster.col0) for r, c in planned}
            inside = {(r, c) for r, c in moved if 0 <= r < height and 0 <= c < width}
            if inside:
                expected[identity] = (inside, len(inside) == len(planned))
    runs = clip(chunks, raster)
    assert runs.geometry_ids.tolist() == list(expected)
    for k, identity in enumerate(runs.geometry_ids.tolist()):
        assert (raster_pixels(runs, k), bool(runs.contained[k])) == expected[identity]
    assert runs.pixels.tolist() == [len(inside) for inside, _ in expected.values()]


def test_named_geometries_are_left_out(chunks):
    whole = clip(chunks, PLACEMENT)
    unwanted = whole.geometry_ids[[80, 1, 30, 31]]
    some = clip(iter(chunks), PLACEMENT, unwanted)
    left = [one for one in whole.geometry_ids.tolist() if one not in unwanted]
    assert some.geometry_ids.tolist() == left
    for k, identity in enumerate(some.geometry_ids.tolist()):
        where = whole.geometry_ids.tolist().index(identity)
        assert raster_pixels(some, k) == raster_pixels(whole, where)


@pytest.mark.parametrize("without", [None, [110, 130]])
def test_one_chunk_is_held_at_a_time(chunks, without):
    alive = []

    def one_by_one():
        for chunk in chunks:
            copy = replace(chunk)
            assert [ref for ref in alive if ref() is not None] == []
            alive.append(weakref.ref(copy))
            yield copy
            del copy

    left_out = None if without is None else np.array(without, dtype=np.int32)
    clip(one_by_one(), PLACEMENT, left_out)
    assert len(alive) == len(chunks)


def test_elsewhere_there_is_nothing(chunks):
    runs = clip(chunks, replace(PLACEMENT, row0=PLACEMENT.row0 + 5000))
    assert runs.geometry_ids.size == 0
    assert runs.indptr.tolist() == [0]
    assert not runs.wanted(0, 300)
    assert clip([], PLACEMENT).geometry_ids.size == 0


def test_another_lattice_is_a_mistake(chunks):
    shifted = Placement(replace(PLACEMENT.lattice, xorigin=5.0), 0, 0, 10, 10)
    with pytest.raises(ValueError, match="EPSG:32632"):
        clip(chunks, shifted)


def test_wanted_rows_are_those_with_pixels(chunks):
    others = np.setdiff1d(clip(chunks, PLACEMENT).geometry_ids, [106, 160])
    runs = clip(chunks, PLACEMENT, others)
    assert runs.geometry_ids.tolist() == [106, 160]
    rows = {row for k in range(len(runs.geometry_ids)) for row, _ in raster_pixels(runs, k)}
    for row0 in range(-10, 310, 7):
        assert runs.wanted(row0, row0 + 7) == any(row0 <= row < row0 + 7 for row in rows)


def test_schedule_is_the_order_of_completion(chunks):
    runs = clip(chunks, PLACEMENT)
    schedule = runs.schedule
    last = [max(row for row, _ in raster_pixels(runs, k)) for k in range(len(runs.geometry_ids))]
    assert schedule.last_row.tolist() == sorted(last)
    assert [last[k] for k in schedule.order] == sorted(last)
    assert np.diff(schedule.pixels_before).tolist() == runs.pixels[schedule.order].tolist()
