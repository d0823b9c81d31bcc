"""Strips: the right pixels, cut where the file's blocks are, and damage that is said aloud."""

import math

import numpy as np
import pytest

from cbm_core.errors import CbmError
from cbm_extract.plan.lattice import Lattice, Placement
from cbm_extract.plan.runs import Runs
from cbm_extract.read.ahead import AHEAD_BYTES, Decoder
from cbm_extract.read.strips import Strip, open_band, strip_height
from cbm_extract.scene import BandAsset
from tests.unit.read.rasters import texture, write
from tests.unit.read.server import serve

PLACE = Placement(Lattice("EPSG:32632", 10.0, 10.0, 0.0, 0.0), 0, 0, 4000, 4000)
TILED = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}


def read(
    href: str, index: int = 1, threads: int = 2, pixels: list[tuple[int, int]] | None = None
) -> tuple[list[int], np.ndarray]:
    """Read a band, or the blocks with the pixels given; elsewhere there are zeros."""
    starts = []
    with open_band(BandAsset(href, index)) as band, Decoder(threads) as decoder:
        out = np.zeros((band.header.height, band.header.width), band.dtype)
        strips = band.strips(None if pixels is None else [runs_of(pixels)])
        for strip, values in decoder.decode(strips):
            starts.append(strip.start)
            for block in strip.blocks:
                strip.block(out[strip.start :], *block)[...] = strip.block(values, *block)
    return starts, out


def runs_of(pixels: list[tuple[int, int]]) -> Runs:
    """One geometry of single pixels (row, column)."""
    row, col = np.array(sorted(pixels), np.int32).reshape(-1, 2).T
    ones = np.ones(1, np.int32)
    indptr = np.array([0, len(row)])
    return Runs(PLACE, ones, ones > 0, indptr, row, col, np.ones(len(row), np.uint16))


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize(
    ("name", "options", "starts"),
    [
        ("tiled.tif", TILED, [0, 512, 1024]),
        ("cog.tif", {"driver": "COG", "compress": "deflate"}, [0, 512, 1024]),
        ("striped.tif", {"blockysize": 7}, [0, 518, 1036]),
        ("band.jp2", {"driver": "JP2OpenJPEG"}, [0, 1024]),
        ("band.img", {"driver": "ENVI"}, [0, 512, 1024]),
    ],
)
def test_strips_hold_the_whole_band_and_follow_the_blocks(tmp_path, name, options, starts, threads):
    dtype = "float32" if name.endswith("img") else "uint16"
    values = texture(1300, 1100, dtype)
    path = write(tmp_path / name, values, **options)
    found, pixels = read(str(path), threads=threads)
    assert found == starts
    assert pixels.dtype == dtype
    np.testing.assert_array_equal(pixels, values)


def test_float_geotiff_keeps_nan(tmp_path):
    values = texture(20, 30, "float32")
    values[3, 4] = np.nan
    path = write(tmp_path / "f.tif", values, nodata=np.nan)
    np.testing.assert_array_equal(read(str(path))[1], values)
    with open_band(BandAsset(str(path))) as band:
        assert band.nodata == ()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("name", "options", "block"),
    [
        ("tiled.tif", TILED, (256, 256)),
        ("striped.tif", {"blockysize": 7}, (7, 1100)),
        ("band.jp2", {"driver": "JP2OpenJPEG", "blockxsize": 256, "blockysize": 256}, (256, 256)),
        ("band.img", {"driver": "ENVI"}, (512, 1100)),
    ],
)
def test_the_blocks_of_wanted_pixels_are_decoded_once_and_no_other(
    tmp_path, monkeypatch, name, options, block, threads
):
    values = texture(1300, 1100)
    path = write(tmp_path / name, values, **options)
    pixels = [(3, 5), (4, 5), (255, 256), (600, 1099), (1299, 0)]
    decoded = []
    inner = Strip.decode
    monkeypatch.setattr(
        Strip, "decode", lambda self, *one: decoded.append(one[:2]) or inner(self, *one)
    )
    starts, found = read(str(path), threads=threads, pixels=pixels)
    expected = {(row // block[0], col // block[1]) for row, col in pixels}
    assert len(decoded) == len(expected)
    assert set(decoded) == expected
    assert starts == sorted({row // block[0] * block[0] // 512 * 512 for row, _ in pixels}) or (
        block[0] == 7
    )
    rows, cols = zip(*pixels, strict=True)
    np.testing.assert_array_equal(found[rows, cols], values[rows, cols])
    if name != "band.jp2":  # of a tile, code-blocks may be left out
        whole = np.zeros(values.shape, bool)
        for row, col in expected:
            rows, cols = (slice(k * n, (k + 1) * n) for k, n in zip((row, col), block, strict=True))
            whole[rows, cols] = True
        np.testing.assert_array_equal(found, np.where(whole, values, 0))


def test_nothing_wanted_nothing_read(tmp_path):
    path = write(tmp_path / "t.tif", texture(30, 40))
    starts, found = read(str(path), pixels=[])
    assert starts == []
    assert not found.any()


@pytest.mark.parametrize("threads", [1, 2])
def test_few_buffers_serve_all_strips(tmp_path, threads):
    path = write(tmp_path / "t.tif", texture(512 * 40, 600), **TILED)
    with open_band(BandAsset(str(path))) as band, Decoder(threads) as decoder:
        bases = {values.ctypes.data for _, values in decoder.decode(band.strips())}
        strip = 512 * 600 * 2
    assert len(bases) * strip <= (AHEAD_BYTES + 2 * strip if threads > 1 else strip)


def test_the_band_asked_for_is_read_and_a_missing_one_refused(tmp_path):
    values = np.stack([texture(20, 30, seed=seed) for seed in range(3)])
    path = write(tmp_path / "t.tif", values)
    for index in (1, 2, 3):
        np.testing.assert_array_equal(read(str(path), index=index)[1], values[index - 1])
    with pytest.raises(CbmError) as caught:
        read(str(path), index=4)
    assert caught.value.code == "band_missing"
    assert "3 band(s)" in caught.value.message


@pytest.mark.parametrize(
    ("dtype", "own", "asset", "expected"),
    [
        ("uint16", None, (0.0, 65535.0), (0.0, 65535.0)),
        ("uint16", 0, (0.0, 65535.0), (0.0, 65535.0)),
        ("uint16", 7, (0.0,), (0.0, 7.0)),
        ("uint16", None, (-9999.0, 0.5, math.inf), ()),
        ("float32", 0.1, (math.nan,), (float(np.float32(0.1)),)),
        ("float32", None, (-3.4028234663852886e38,), (float(np.finfo("float32").min),)),
    ],
)
def test_nodata_is_the_assets_and_the_files_as_the_pixels_hold_them(
    tmp_path, dtype, own, asset, expected
):
    path = write(tmp_path / "t.tif", texture(4, 4, dtype), nodata=own)
    with open_band(BandAsset(str(path), nodata=asset)) as band:
        assert band.nodata == expected


@pytest.mark.parametrize("keep", [0.5, 0.999])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("striped.tif", {}),
        ("tiled.tif", TILED),
        ("cog.tif", {"driver": "COG", "compress": "deflate"}),
        ("band.jp2", {"driver": "JP2OpenJPEG"}),
    ],
)
@pytest.mark.parametrize("driver_threads", ["", "ALL_CPUS"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_truncated_file_is_an_error_that_names_the_rows(
    tmp_path, monkeypatch, name, options, keep, threads, driver_threads
):
    # GDAL itself reads a truncated JPEG 2000 as garbage when it may use threads.
    monkeypatch.setenv("GDAL_NUM_THREADS", driver_threads)
    path = write(tmp_path / name, texture(1500, 1100), **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(CbmError) as caught:
        read(str(path), threads=threads)
    assert caught.value.code == "raster_damaged"
    assert str(path) in caught.value.message
    if name != "band.jp2":  # its lengths are checked before any row
        assert "rows" in caught.value.message
        assert caught.value.details["row_stop"] > caught.value.details["row_start"]


@pytest.mark.parametrize("threads", [1, 2])
def test_damage_that_gdal_finds_names_the_rows(tmp_path, threads):
    import zipfile

    body = bytearray(write(tmp_path / "a.tif", texture(1500, 1100), **TILED).read_bytes())
    body[-100_000:] = bytes(100_000)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("a.tif", bytes(body))
    with pytest.raises(CbmError) as caught:
        read(f"zip://{tmp_path}/all.zip!/a.tif", threads=threads)
    assert caught.value.code == "raster_damaged"
    assert caught.value.details["row_stop"] == 1500
    assert caught.value.details["row_start"] in {512, 1024}


def test_inside_a_zip(tmp_path):
    import zipfile

    values = texture(30, 40)
    inner = write(tmp_path / "a.tif", values)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(inner, "deep/a.tif")
    np.testing.assert_array_equal(read(f"zip://{tmp_path}/all.zip!/deep/a.tif")[1], values)


def test_over_http_and_s3(tmp_path, monkeypatch):
    values = texture(1300, 300)
    body = write(tmp_path / "t.tif", values, **TILED).read_bytes()
    with serve({"/bucket/t.tif": body}) as site:
        monkeypatch.setenv("AWS_S3_ENDPOINT", site.host)
        monkeypatch.setenv("AWS_HTTPS", "NO")
        monkeypatch.setenv("AWS_VIRTUAL_HOSTING", "FALSE")
        monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
        np.testing.assert_array_equal(read(f"{site.url}/bucket/t.tif")[1], values)
        np.testing.assert_array_equal(read("s3://bucket/t.tif")[1], values)


def test_a_passing_failure_is_retried_and_a_lasting_one_not_remembered(tmp_path):
    values = texture(30, 40)
    with serve() as site:
        with pytest.raises(CbmError) as caught:
            read(f"{site.url}/t.tif")
        assert caught.value.code == "raster_missing"
        site.files["/t.tif"] = write(tmp_path / "t.tif", values).read_bytes()
        site.failures["/t.tif"] = [503]
        np.testing.assert_array_equal(read(f"{site.url}/t.tif")[1], values)
        other = texture(30, 40, seed=9)
        site.files["/t.tif"] = write(tmp_path / "u.tif", other).read_bytes()
        np.testing.assert_array_equal(read(f"{site.url}/t.tif")[1], other)


def test_nobody_listens():
    with pytest.raises(CbmError) as caught:
        read("http://127.0.0.1:9/t.tif")
    assert caught.value.code == "raster_unreachable"


def test_strip_heights():
    assert [strip_height(rows) for rows in (1, 7, 256, 512, 1024, 10980)] == [
        512,
        518,
        512,
        512,
        1024,
        10980,
    ]
