from dataclasses import fields, replace

import numpy as np
import pytest

from cbm_core.errors import CbmError
from cbm_extract.plan.chunk import PlanChunk
from tests.unit.plan.polygons import random_polygons
from tests.unit.plan.test_build import build


@pytest.fixture(scope="module")
def chunk() -> PlanChunk:
    return build(random_polygons(np.random.default_rng(41), 300), buffer_m=2)[0]


def test_stored_form_gives_back_the_same(chunk):
    again = PlanChunk.from_bytes(memoryview(chunk.to_bytes()))
    for field in fields(PlanChunk):
        mine, theirs = getattr(chunk, field.name), getattr(again, field.name)
        assert np.array_equal(mine, theirs), field.name
        if isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype, field.name
    assert again.content_hash == chunk.content_hash
    assert again.to_bytes() == chunk.to_bytes()


def test_hash_tells_any_other_content(chunk):
    moved = chunk.run_col.copy()
    moved[7] += 1
    others = [
        replace(chunk, run_col=moved),
        replace(chunk, row0=chunk.row0 + 1),
        replace(chunk, geometry_ids=chunk.geometry_ids + 1),
        replace(chunk, buffer_m=3.0),
        replace(chunk, lattice=replace(chunk.lattice, crs="EPSG:32633")),
        replace(chunk, whole_pixels=chunk.whole_pixels + 1),
    ]
    hashes = {other.content_hash for other in others}
    assert len(hashes) == len(others)
    assert chunk.content_hash not in hashes


def test_hash_does_not_depend_on_memory_layout(chunk):
    strided = np.repeat(chunk.run_len, 2)[::2]
    assert replace(chunk, run_len=strided).content_hash == chunk.content_hash


def test_damaged_or_foreign_bytes_are_refused(chunk):
    payload = chunk.to_bytes()
    for wrong in (b"", b"CBMP", payload[:-5], payload[:40], b"XXXX" + payload[4:]):
        with pytest.raises(CbmError) as caught:
            PlanChunk.from_bytes(wrong)
        assert caught.value.code == "plan_damaged"


def test_another_version_is_named(chunk):
    payload = bytearray(chunk.to_bytes())
    payload[4] = 9
    with pytest.raises(CbmError) as caught:
        PlanChunk.from_bytes(bytes(payload))
    assert caught.value.code == "plan_version"
    assert "form 9" in caught.value.message


def test_a_parcel_takes_little_room(chunk):
    runs = len(chunk.run_row) / len(chunk.geometry_ids)
    assert len(chunk.to_bytes()) / len(chunk.geometry_ids) < 40 + 6 * runs
