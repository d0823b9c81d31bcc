"""Headers, what is refused, and fingerprints."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.transform import Affine

from cbm_core.errors import CbmError
from cbm_extract.read.fingerprint import fingerprint
from cbm_extract.read.gdal import gdal_name
from cbm_extract.read.header import inspect
from tests.unit.read.rasters import ORIGIN, texture, write
from tests.unit.read.server import serve


def refused(path: Path | str) -> CbmError:
    with pytest.raises(CbmError) as caught:
        inspect(str(path))
    return caught.value


def test_header_of_a_geotiff(tmp_path):
    path = write(
        tmp_path / "odd name #1.tif", np.stack([texture(20, 30)] * 2), nodata=0, crs="EPSG:32719"
    )
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("B02", "SCL")
    header = inspect(str(path))
    assert header.crs == "EPSG:32719"
    assert (header.width, header.height, header.count) == (30, 20, 2)
    assert header.transform == (10, 0, ORIGIN[0], 0, -10, ORIGIN[1])
    assert header.pixel_size == (10, 10)
    assert header.extent.bounds == (ORIGIN[0], ORIGIN[1] - 200, ORIGIN[0] + 300, ORIGIN[1])
    assert header.nodata == (0, 0)
    assert header.descriptions == ("B02", "SCL")
    assert header.dtypes == ("uint16", "uint16")
    assert inspect(f"file://{tmp_path}/odd%20name%20%231.tif").width == 30


def test_header_of_envi_and_jp2(tmp_path):
    envi = inspect(str(write(tmp_path / "e.img", texture(20, 30, "float32"), driver="ENVI")))
    assert (envi.driver, envi.crs, envi.dtypes) == ("ENVI", "EPSG:32632", ("float32",))
    jp2 = inspect(str(write(tmp_path / "j.jp2", texture(20, 30), driver="JP2OpenJPEG")))
    assert (jp2.driver, jp2.crs) == ("JP2OpenJPEG", "EPSG:32632")


def test_a_sidecar_changes_nothing(tmp_path):
    path = write(tmp_path / "t.tif", texture(20, 30))
    (tmp_path / "t.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><NoDataValue>5</NoDataValue></PAMRasterBand>'
        "</PAMDataset>"
    )
    assert inspect(str(path)).nodata == (None,)


@pytest.mark.parametrize("content", [b"", b"no raster\n" * 99, b"\x89PNG\r\n\x1a\n" + b"\0" * 64])
def test_not_a_raster(tmp_path, content):
    path = tmp_path / "t.tif"
    path.write_bytes(content)
    error = refused(path)
    assert error.code == "not_a_raster"
    assert "GeoTIFF" in error.hint


def test_formats_that_fetch_other_files_are_refused(tmp_path):
    target = write(tmp_path / "t.tif", texture(20, 30))
    vrt = tmp_path / "t.vrt"
    with rasterio.open(target) as dataset:
        from rasterio.vrt import WarpedVRT

        with WarpedVRT(dataset) as warped:
            rasterio.shutil.copy(warped, vrt, driver="VRT")
    assert rasterio.open(vrt).width == 30
    assert refused(vrt).code == "not_a_raster"
    vrt.rename(tmp_path / "disguised.tif")
    assert refused(tmp_path / "disguised.tif").code == "not_a_raster"


def test_missing(tmp_path):
    assert refused(tmp_path / "none.tif").code == "raster_missing"
    assert refused(tmp_path).code == "raster_missing"


@pytest.mark.parametrize("href", ["/vsistdin/", "ftp://host/a.tif", "/vsimem/a.tif"])
def test_other_addresses_are_refused(href):
    assert refused(href).code == "href_unsupported"


def test_archive_without_member():
    assert refused("zip:///a.zip").code == "href_invalid"


def test_names_for_gdal():
    assert gdal_name("/data/a.tif") == gdal_name("file:///data/a.tif") == "/data/a.tif"
    assert gdal_name("zip:///data/a.zip!/in/b.tif") == "/vsizip/{/data/a.zip}/in/b.tif"
    # GDAL never sees a remote address, nor the signature that may be in it.
    assert gdal_name("s3://eodata/a/b.jp2") == "/remote/b.jp2"
    assert gdal_name("https://h/a.tif?token=secret") == "/remote/a.tif"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"crs": None}, "raster_without_crs"),
        ({"crs": "+proj=laea +lat_0=48.7 +lon_0=9.3 +units=m"}, "raster_crs_unknown"),
        ({"transform": Affine.identity()}, "raster_without_georeference"),
        (
            {"transform": Affine(10, 1, ORIGIN[0], 1, -10, ORIGIN[1])},
            "raster_not_north_up",
        ),
        ({"transform": Affine(10, 0, ORIGIN[0], 0, 10, ORIGIN[1])}, "raster_not_north_up"),
        ({"dtype": "complex64"}, "raster_type_unsupported"),
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_unusable_georeference(tmp_path, options, code):
    assert refused(write(tmp_path / "t.tif", texture(20, 30), **options)).code == code


def test_truncated_headers(tmp_path):
    # A GeoTIFF whose directory stands behind the pixels, cut before it.
    path = write(tmp_path / "t.tif", texture(300, 300), compress="deflate")
    body = bytearray(path.read_bytes())
    body[4:8] = (len(body) + 100).to_bytes(4, "little")
    path.write_bytes(body)
    assert refused(path).code == "raster_damaged"
    envi = write(tmp_path / "e.img", texture(30, 30, "float32"), driver="ENVI")
    envi.write_bytes(envi.read_bytes()[:-1])
    error = refused(envi)
    assert error.code == "raster_damaged"
    assert "3600 bytes, it has 3599" in error.message


def test_fingerprints_tell_versions_apart(tmp_path, monkeypatch):
    path = write(tmp_path / "t.tif", texture(20, 30))
    first = fingerprint(str(path))
    assert first.size == path.stat().st_size
    os.utime(path, ns=(1, 1))
    assert fingerprint(str(path)) != first
    assert fingerprint(f"zip://{path}!/x.tif").as_json() == {"size": first.size, "mtime_ns": 1}
    with serve({"/b/t.tif": b"old"}) as site:
        monkeypatch.setenv("AWS_S3_ENDPOINT", site.host)
        monkeypatch.setenv("AWS_HTTPS", "NO")
        monkeypatch.setenv("AWS_VIRTUAL_HOSTING", "FALSE")
        monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
        http, s3 = fingerprint(f"{site.url}/b/t.tif"), fingerprint("s3://b/t.tif")
        assert http == s3
        assert http.size == 3
        site.files["/b/t.tif"] = b"new"
        assert fingerprint(f"{site.url}/b/t.tif").etag != http.etag
        for href in (f"{site.url}/b/none.tif", "s3://b/none.tif", str(tmp_path / "none.tif")):
            with pytest.raises(CbmError) as caught:
                fingerprint(href)
            assert caught.value.code == "raster_missing"
    with pytest.raises(CbmError) as caught:
        fingerprint("http://127.0.0.1:9/b/t.tif")
    assert caught.value.code == "raster_unreachable"
