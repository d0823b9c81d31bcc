"""Strips: the right pixels, cut where the file's blocks are, and damage that is said aloud."""

import math

import numpy as np
import pytest

from cbm_core.errors import CbmError
from cbm_extract.read.strips import open_band, strip_height
from cbm_extract.scene import BandAsset
from tests.unit.read.rasters import texture, write
from tests.unit.read.server import serve

TILED = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}


def read(href: str, index: int = 1, **rows: int) -> tuple[list[int], np.ndarray]:
    starts, parts = [], []
    with open_band(BandAsset(href, index)) as band:
        for start, values in band.strips(**rows):
            starts.append(start)
            parts.append(values.copy())
    return starts, np.concatenate(parts) if parts else np.empty((0, 0))


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
def test_strips_hold_the_whole_band_and_follow_the_blocks(tmp_path, name, options, starts):
    dtype = "float32" if name.endswith("img") else "uint16"
    values = texture(1300, 1100, dtype)
    path = write(tmp_path / name, values, **options)
    found, pixels = read(str(path))
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


@pytest.mark.parametrize(("start", "stop"), [(0, 1300), (300, 900), (512, 1024), (700, 701)])
def test_only_the_rows_asked_for_are_read(tmp_path, start, stop):
    values = texture(1300, 40)
    path = write(tmp_path / "t.tif", values, **TILED)
    starts, pixels = read(str(path), row_start=start, row_stop=stop)
    np.testing.assert_array_equal(pixels, values[start:stop])
    assert starts[0] == start
    assert all(row % 512 == 0 for row in starts[1:])


def test_rows_outside_the_raster_are_clipped(tmp_path):
    path = write(tmp_path / "t.tif", texture(30, 40))
    assert read(str(path), row_start=-5, row_stop=99)[1].shape == (30, 40)
    assert read(str(path), row_start=30, row_stop=40) == ([], pytest.approx(np.empty((0, 0))))


def test_the_buffer_is_reused(tmp_path):
    path = write(tmp_path / "t.tif", texture(1300, 40), **TILED)
    with open_band(BandAsset(str(path))) as band:
        bases = {id(values.base) for _, values in band.strips()}
    assert len(bases) == 1


def test_the_band_asked_for_is_read_and_a_missing_one_refused(tmp_path):
    values = np.stack([texture(20, 30, seed=seed) for seed in range(3)])
    path = write(tmp_path / "t.tif", values)
    np.testing.assert_array_equal(read(str(path), index=3)[1], values[2])
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
@pytest.mark.parametrize("threads", ["", "ALL_CPUS"])
def test_a_truncated_file_is_an_error_that_names_the_rows(
    tmp_path, monkeypatch, name, options, keep, threads
):
    # GDAL itself reads a truncated JPEG 2000 as garbage when it may use threads.
    monkeypatch.setenv("GDAL_NUM_THREADS", threads)
    path = write(tmp_path / name, texture(1500, 1100), **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(CbmError) as caught:
        read(str(path))
    assert caught.value.code == "raster_damaged"
    assert str(path) in caught.value.message
    assert "rows" in caught.value.message
    assert caught.value.details["row_stop"] > caught.value.details["row_start"]


def test_rows_before_the_damage_can_still_be_read(tmp_path):
    values = texture(1500, 1100)
    path = write(tmp_path / "tiled.tif", values, **TILED)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.9)])
    np.testing.assert_array_equal(read(str(path), row_stop=512)[1], values[:512])


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
