"""Parts of the engine that need no database."""

from types import SimpleNamespace

import numpy as np
import pytest

from cbm_extract.engine.pouring import BandError, NegativeShare, pour
from cbm_extract.engine.scene_reading import _groups
from cbm_extract.engine.slices import Classes, tile_rank
from cbm_extract.read.ahead import Decoder
from cbm_extract.read.strips import open_band
from cbm_extract.scene import BandAsset
from tests.factories import write_raster


def band(path, **asset):
    return open_band(BandAsset(str(path), **asset))


def job(*indices):
    return SimpleNamespace(product=SimpleNamespace(indices=indices))


def test_bands_that_indices_combine_are_read_together():
    bands = ["B02", "B04", "B08", "B11", "B12"]
    assert _groups(bands, [job()]) == [["B02"], ["B04"], ["B08"], ["B11"], ["B12"]]
    assert _groups(bands, [job("NDVI"), job("NDTI")]) == [["B02"], ["B04", "B08"], ["B11", "B12"]]
    assert _groups(bands, [job("NDVI", "NDMI"), job("NDTI")]) == [
        ["B02"], ["B04", "B08", "B11", "B12"],
    ]  # fmt: skip
    # A band the scene does not have joins nothing.
    assert _groups(["B04", "B11"], [job("NDVI", "NDMI")]) == [["B04"], ["B11"]]


class Recorder:
    """Wants some rows of each band, remembers what it was fed."""

    def __init__(self, wanted):
        self.rows, self.fed = wanted, []

    def wanted_runs(self, name):
        rows = np.array(self.rows[name], np.int32)
        return [
            SimpleNamespace(row=rows, col=np.zeros_like(rows), length=np.ones(len(rows), np.uint16))
        ]

    def feed(self, name, row0, strip):
        self.fed.append((name, row0, strip.copy()))


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_strips_come_side_by_side_from_north_to_south(tmp_path, threads):
    fine = np.arange(2048 * 3, dtype=np.uint16).reshape(2048, 3)
    coarse = np.arange(1024 * 2, dtype=np.uint16).reshape(1024, 2)
    profile = {"left": 0, "top": 20480, "blockysize": 16}
    write_raster(tmp_path / "fine.tif", fine, res=10, **profile)
    write_raster(tmp_path / "coarse.tif", coarse, res=20, **profile)
    target = Recorder({"fine": [0, 600, 1500], "coarse": [3, 1000], "last": [700]})
    seen = []
    profile = {"left": 0, "top": 20480, "tiled": True, "blockxsize": 16, "blockysize": 512}
    write_raster(tmp_path / "last.tif", coarse, res=20, **profile)
    with (
        band(tmp_path / "fine.tif") as a,
        band(tmp_path / "coarse.tif") as b,
        band(tmp_path / "last.tif") as c,
        Decoder(threads) as decoder,
    ):
        groups = [{"fine": a, "coarse": b}, {"last": c}]
        pour(groups, target, decoder, lambda name, *_: seen.append(name))
    assert [(name, row0) for name, row0, _ in target.fed] == [
        ("coarse", 0), ("fine", 0), ("fine", 512), ("coarse", 512), ("fine", 1024),
        ("last", 512),
    ]  # fmt: skip
    assert seen == [name for name, _, _ in target.fed]
    for name, row0, strip in target.fed:
        whole = fine if name == "fine" else coarse
        # Blocks of 16 rows: of others than the wanted ones nothing may be said.
        for row in target.rows[name]:
            if row0 <= row < row0 + len(strip):
                np.testing.assert_array_equal(strip[row - row0], whole[row])


@pytest.mark.parametrize("threads", [1, 3])
def test_a_damaged_band_is_named(tmp_path, threads):
    values = np.random.default_rng(1).integers(0, 4000, (2048, 100)).astype(np.uint16)
    path = write_raster(tmp_path / "a.tif", values, left=0, top=0, blockysize=64)
    body = path.read_bytes()
    path.write_bytes(body[:-4000] + bytes(4000))
    with band(path) as one, Decoder(threads) as decoder, pytest.raises(BandError) as caught:
        pour([{"B04": one}], Recorder({"B04": [0, 2000]}), decoder, lambda *_: None)
    assert caught.value.band == "B04"
    assert caught.value.error.code == "raster_damaged"


@pytest.mark.parametrize(
    ("values", "asset", "expected"),
    [
        ([0, 900, 999, 1000, 3000], {"offset": -1000.0, "nodata": (0.0,)}, 0.5),
        ([0, 900, 999, 1000, 3000], {"offset": -1000.0}, 0.6),
        ([0, 0], {"offset": -1000.0, "nodata": (0.0,)}, 0.0),
        ([0.05, 0.2, np.nan, np.inf, -np.inf], {"scale": 1e4, "offset": -1000.0}, 0.5),
        ([65535, 10, 5000], {"offset": -1000.0, "nodata": (65535.0,)}, 0.5),
    ],
)
def test_negative_share(tmp_path, values, asset, expected):
    data = np.array([values])
    data = data.astype(np.float32 if data.dtype.kind == "f" else np.uint16)
    path = write_raster(tmp_path / "a.tif", data, left=0, top=10)
    with band(path, **asset) as one, Decoder(1) as decoder:
        share = NegativeShare(one)
        for strip, pixels in decoder.decode(one.strips()):
            share.count(strip, pixels)
    assert share.share == expected


def runs(res, ids, contained):
    lattice = SimpleNamespace(xres=res)
    return SimpleNamespace(
        placement=SimpleNamespace(lattice=lattice),
        geometry_ids=np.array(ids, np.int32),
        contained=np.array(contained),
    )


def test_the_finest_grid_says_what_is_contained():
    ids = np.array([2, 3, 5, 7], np.int32)
    fine = runs(10, [1, 2, 3, 5], [True, True, False, True])
    coarse = runs(20, [2, 3, 7, 9], [False, True, True, True])
    rank = tile_rank(ids, [fine, coarse], np.array([5, 7, 8], np.int32))
    assert rank.tolist() == [0, 2, 1, 1]
    assert tile_rank(ids[:0], [fine], ids).tolist() == []


def test_class_counts_of_stored_geometries():
    counts = Classes(np.array([1, 4, 6], np.int32), np.arange(36).reshape(3, 12))
    found = counts.of(np.array([4, 5, 6], np.int32))
    np.testing.assert_array_equal(found, [np.arange(12, 24), np.zeros(12), np.arange(24, 36)])
