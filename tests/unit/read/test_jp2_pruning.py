"""Code-blocks left out: pixels that are wanted stay what they were."""

import gc

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbm_extract.read.jp2 import needed, reader
from tests.unit.read.jp2_files import (
    by_gdal,
    decode,
    like_esa,
    mask_of,
    reader_of,
    runs_at,
    write_jp2,
)
from tests.unit.read.rasters import texture


@pytest.fixture
def given_bytes(monkeypatch):
    """Bytes of every codestream the decoder was given."""
    sizes = []

    def jpeg2k_decode(stream, **options):
        sizes.append(len(stream))
        return imagecodecs.jpeg2k_decode(stream, **options)

    monkeypatch.setattr(reader, "imagecodecs", type("Spy", (), vars(imagecodecs).copy()))
    monkeypatch.setattr(reader.imagecodecs, "jpeg2k_decode", staticmethod(jpeg2k_decode))
    return sizes


@st.composite
def cases(draw):
    """A shape, tile and coding, and runs in it; code-blocks down to 4 x 4 pixels."""
    height, width = draw(st.integers(1, 150)), draw(st.integers(1, 150))
    levels = draw(st.integers(0, 5))
    exponents = st.integers(2, 5)
    options = {
        "RESOLUTIONS": levels + 1,
        "CODEBLOCK_WIDTH": 1 << draw(exponents),
        "CODEBLOCK_HEIGHT": 1 << draw(exponents),
    }
    precinct = draw(st.sampled_from([None, 16, 32, 64]))
    if precinct:
        options["PRECINCTS"] = ",".join([f"{{{precinct},{precinct}}}"] * (levels + 1))
    tile = draw(st.tuples(st.integers(33, 100), st.integers(33, 100)))
    spans = []
    for _ in range(draw(st.integers(1, 6))):
        row, col = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        spans.append((row, col, draw(st.integers(1, width - col))))
    return (height, width), tile, options, spans


@settings(max_examples=80, deadline=None)
@given(case=cases(), seed=st.integers(0, 1000))
def test_wanted_pixels_are_exact(tmp_path_factory, case, seed):
    shape, tile, options, spans = case
    values = texture(*shape, seed=seed)
    path = write_jp2(tmp_path_factory.mktemp("jp2") / "band.jp2", values, tile, **options)
    runs = [runs_at(shape, spans[:2]), runs_at(shape, spans[2:])]
    mask = mask_of(runs)
    np.testing.assert_array_equal(decode(path, runs)[mask], values[mask])


def test_the_coding_of_esa(tmp_path, given_bytes):
    path, values = like_esa(tmp_path / "B04.jp2")
    rng = np.random.default_rng(3)
    for _ in range(10):
        rows, cols = rng.integers(0, 290, 4).tolist(), rng.integers(0, 380, 4).tolist()
        spans = [(row, col, 1 + col % 40) for row, col in zip(rows, cols, strict=True)]
        runs = [runs_at(values.shape, spans)]
        mask = mask_of(runs)
        np.testing.assert_array_equal(decode(path, runs)[mask], values[mask])
    assert 0 < sum(given_bytes) < 0.3 * 10 * path.stat().st_size


def test_runs_together_need_what_each_needs(tmp_path):
    """Shapes with holes: their runs are followed in groups."""
    path, values = like_esa(tmp_path / "B04.jp2")
    stream = reader_of(path)
    coding, geometry = stream._codestream.coding, stream._geometry
    rng = np.random.default_rng(4)
    for _ in range(20):
        top, left, size = int(rng.integers(260)), int(rng.integers(380)), int(rng.integers(2, 90))
        spans = []
        for row in range(top, min(top + size, 300)):
            edges = np.sort(rng.integers(left, min(left + size, 420), 4)).tolist()
            spans += [(row, edges[0], edges[1] - edges[0] + 1)]
            spans += [(row, edges[2], edges[3] - edges[2] + 1)] * (edges[2] > edges[1] + 1)
        together = needed.needed_blocks([runs_at(values.shape, spans)], coding, geometry)
        each = [runs_at(values.shape, [span]) for span in spans]
        alone = needed.needed_blocks(each, coding, geometry)
        np.testing.assert_array_equal(together, alone)


def test_one_pixel_costs_a_few_blocks_of_one_tile(tmp_path, given_bytes):
    path, values = like_esa(tmp_path / "B04.jp2")
    runs = [runs_at(values.shape, [(40, 45, 1)])]
    assert decode(path, runs)[40, 45] == values[40, 45]
    (size,) = given_bytes
    decode(path)
    assert size < 0.4 * given_bytes[1]


def test_tiles_wanted_nearly_whole_are_decoded_as_they_are(tmp_path, given_bytes):
    path, values = like_esa(tmp_path / "B04.jp2")
    decode(path)
    whole = given_bytes.copy()
    given_bytes.clear()
    runs = [runs_at(values.shape, [(row, 0, 420) for row in range(300)])]
    np.testing.assert_array_equal(decode(path, runs), values)
    assert given_bytes == whole


def test_the_9_7_wavelet_is_never_pruned(tmp_path):
    values = texture(200, 200)
    options = {"REVERSIBLE": "NO", "QUALITY": 30, "CODEBLOCK_WIDTH": 8, "CODEBLOCK_HEIGHT": 8}
    path = write_jp2(tmp_path / "band.jp2", values, 128, **options)
    out = decode(path, [runs_at(values.shape, [(10, 10, 1)])])
    np.testing.assert_array_equal(out[:128, :128], by_gdal(path)[:128, :128])
    assert not out[128:].any()


def test_bands_coded_alike_share_what_was_followed(tmp_path, monkeypatch):
    paths = [like_esa(tmp_path / f"{seed}.jp2", seed=seed)[0] for seed in (1, 2)]
    followed = []
    mark = needed._mark
    monkeypatch.setattr(needed, "_mark", lambda *given: (followed.append(1), mark(*given)))
    runs = runs_at((300, 420), [(5, 5, 9)])
    readers = [reader_of(path) for path in paths]
    assert (readers[0].want([runs]) == readers[1].want([runs])).all()
    assert len(followed) == 1
    other = runs_at((300, 420), [(5, 5, 9)])
    readers[0].want([other])
    assert len(followed) == 2
    keys = {id(runs), id(other)}
    assert keys <= set(needed._known)
    del runs, other
    gc.collect()
    assert not keys & set(needed._known)


def test_what_was_followed_is_not_changed_by_other_runs(tmp_path):
    path, values = like_esa(tmp_path / "B04.jp2")
    first = runs_at(values.shape, [(5, 5, 9)])
    second = runs_at(values.shape, [(200, 300, 9)])
    reader = reader_of(path)
    assert reader.want([first]).sum() == 1
    assert reader.want([first, second]).sum() == 2
    assert reader.want([first]).sum() == 1
