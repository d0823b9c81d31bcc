"""GeoTIFF blocks decoded without GDAL: GDAL's pixels, GDAL's errors or clearer ones."""

import itertools
import random

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.errors import RasterioError

from cbm_core.errors import CbmError
from cbm_extract.read import gdal
from cbm_extract.read.ahead import Decoder
from cbm_extract.read.strips import open_band
from cbm_extract.read.tiff import TiffReader, open_tiff
from cbm_extract.read.windows import WindowReader
from cbm_extract.scene import BandAsset
from tests.unit.read.rasters import texture, write

INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
FLOATS = ("float32", "float64")
LAYOUTS = {
    "tiles": {"tiled": True, "blockxsize": 64, "blockysize": 32},
    "strips": {"blockysize": 13},
    "single rows": {"blockysize": 1},
}


def pixels(shape, dtype, seed=0):
    """Values over the whole range of a type, with the extremes of it."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    if np.dtype(dtype).kind == "f":
        values = rng.normal(0, 1e3, size).astype(dtype)
        values[:4] = [np.nan, np.inf, -np.inf, -0.0][:size]
    else:
        limits = np.iinfo(dtype)
        values = rng.integers(limits.min, limits.max, size, dtype, endpoint=True)
        smooth = np.arange(size) % 97 + 5
        half = size // 2
        values[half:] = smooth[half:].astype(dtype)
        values[:2] = [limits.min, limits.max][:size]
    rng.shuffle(values)
    return values.reshape(shape)


def whole(reader: TiffReader) -> np.ndarray:
    out = np.empty(reader.shape, reader.dtype)
    rows, cols = reader.block_shape
    for row, col in np.argwhere(reader.want(None)):
        part = out[row * rows : (row + 1) * rows, col * cols : (col + 1) * cols]
        reader.decode(int(row), int(col), part)
    return out


def assert_as_gdal_reads(path, **options):
    with rasterio.open(path, **options) as dataset:
        for index in range(1, dataset.count + 1):
            reader = open_tiff(path, index, dataset.nodata)
            assert reader is not None, f"{path} is not served"
            expected = dataset.read(index)
            assert reader.dtype == expected.dtype
            np.testing.assert_array_equal(
                whole(reader).view(np.uint8), expected.view(np.uint8), err_msg=f"band {index}"
            )
            reader.close()


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
@pytest.mark.parametrize("compress", ["none", "deflate", "zstd", "lzw"])
def test_every_layout_reads_as_by_gdal(tmp_path, dtype, compress):
    predictors = [1] if compress == "none" else [1, 2, 3] if dtype in FLOATS else [1, 2]
    made = itertools.product(
        predictors, LAYOUTS.items(), ("band", "pixel"), (1, 3), ((70, 131), (1, 1))
    )
    for number, (predictor, (name, layout), interleave, count, shape) in enumerate(made):
        path = tmp_path / f"{number}.tif"
        write(
            path, pixels((count, *shape), dtype, number), compress=compress, predictor=predictor,
            interleave=interleave, **layout,
        )  # fmt: skip
        try:
            assert_as_gdal_reads(path)
        except AssertionError as error:
            raise AssertionError(f"{name} {interleave} {count} {shape} {predictor}") from error


@pytest.mark.parametrize(
    "options",
    [
        {"bigtiff": "YES"},
        {"driver": "COG", "overview_resampling": "nearest", "blocksize": 128},
        {"driver": "COG", "predictor": "YES", "blocksize": 128},
        {"compress": "deflate", "zlevel": 12},
        {"photometric": "MINISWHITE"},
        {"photometric": "RGB", "count": 4},
        {"nodata": 7},
    ],
)
def test_files_of_other_makings(tmp_path, options):
    options = {"compress": "deflate", **options}
    shape = (options.pop("count", 1), 300, 410)
    assert_as_gdal_reads(write(tmp_path / "a.tif", texture(*shape[1:]).repeat(shape[0], 0)
                               .reshape(shape), **options))  # fmt: skip


def test_overviews_and_masks_in_the_file_are_passed_over(tmp_path):
    path = write(tmp_path / "a.tif", texture(300, 410), tiled=True, compress="deflate")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4])
        dataset.write_mask(np.zeros((300, 410), bool))
    assert_as_gdal_reads(path)


@pytest.mark.parametrize("nodata", [None, 0, 9, 65535])
def test_blocks_left_out_hold_nodata(tmp_path, nodata):
    fill = nodata or 0
    values = np.full((300, 400), fill, np.uint16)
    values[70:90, 100:300] = 55
    options = {"nodata": nodata, "sparse_ok": True, "compress": "deflate"}
    path = write(tmp_path / "a.tif", values, tiled=True, blockxsize=64, blockysize=64, **options)
    reader = open_tiff(path, 1, nodata)
    assert reader is not None
    assert (reader._layout.offset == 0).any()
    np.testing.assert_array_equal(whole(reader), values)
    assert_as_gdal_reads(path)


def test_blocks_left_out_of_a_type_that_cannot_hold_nodata_are_gdals(tmp_path):
    values = np.zeros((300, 400), np.uint16)
    path = write(tmp_path / "a.tif", values, sparse_ok=True, tiled=True, compress="deflate")
    assert open_tiff(path, 1, -9999.0) is None
    assert open_tiff(path, 1, 0.5) is None
    assert open_tiff(path, 1, float("nan")) is None
    assert open_tiff(path, 1, None) is not None


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("uint8", {"compress": "jpeg", "tiled": True}),
        ("uint16", {"compress": "packbits"}),
        ("uint16", {"compress": "lerc"}),
        ("uint16", {"nbits": 12}),
        ("float32", {"nbits": 16}),
        ("uint16", {"endianness": "BIG"}),
        ("complex64", {}),
    ],
)
def test_other_layouts_are_left_to_gdal(tmp_path, dtype, options):
    path = write(tmp_path / "a.tif", (texture(60, 70) % 200).astype(dtype), **options)
    assert open_tiff(path, 1) is None
    if dtype != "complex64":
        with open_band(BandAsset(str(path))) as band, rasterio.open(path) as dataset:
            assert isinstance(band.reader, WindowReader)
            with Decoder(1) as decoder:
                ((_, values),) = decoder.decode(band.strips())
                np.testing.assert_array_equal(values, dataset.read(1))


def test_a_band_of_other_number_is_none(tmp_path):
    path = write(tmp_path / "a.tif", texture(60, 70))
    assert open_tiff(path, 0) is None
    assert open_tiff(path, 2) is None


def as_extracted(path, threads=1) -> np.ndarray:
    with open_band(BandAsset(str(path))) as band, Decoder(threads) as decoder:
        assert band.header.width * band.header.height < 4e6
        parts = [values.copy() for _, values in decoder.decode(band.strips())]
    return np.concatenate(parts)


def by_gdal(path) -> np.ndarray:
    with gdal.open_raster(str(path)) as dataset:
        assert dataset.width * dataset.height < 4e6
        return dataset.read(1)


SAMPLES = {
    "deflate": {"compress": "deflate", "predictor": 2, **LAYOUTS["tiles"]},
    "zstd": {"compress": "zstd", **LAYOUTS["strips"]},
    "lzw": {"compress": "lzw", "predictor": 2, **LAYOUTS["tiles"]},
    "none": {"compress": "none", **LAYOUTS["tiles"]},
    "cog": {"driver": "COG", "compress": "deflate", "blocksize": 128},
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_truncated_anywhere_is_an_error(tmp_path, name):
    path = write(tmp_path / "a.tif", texture(150, 200), **SAMPLES[name])
    body = path.read_bytes()
    # A COG repeats the last bytes of each block after it.
    end = len(body) - (5 if name == "cog" else 1)
    for length in np.linspace(0, end, 60).astype(int):
        path.write_bytes(body[:length])
        with pytest.raises(CbmError) as caught:
            as_extracted(path)
        assert caught.value.code in {"raster_damaged", "not_a_raster"}
        assert str(path) in caught.value.message


@pytest.mark.parametrize("name", SAMPLES)
def test_changed_bytes_never_give_pixels_that_gdal_does_not_give(tmp_path, name):
    path = write(tmp_path / "a.tif", texture(150, 200), **SAMPLES[name])
    body = path.read_bytes()
    rng = random.Random(name)
    # Half of them where the structure is: at the beginning, or at the end.
    places = [rng.randrange(len(body)) for _ in range(150)]
    places += [rng.randrange(600) for _ in range(100)] + [
        len(body) - 1 - rng.randrange(600) for _ in range(50)
    ]
    refused = 0
    for place in places:
        broken = bytearray(body)
        broken[place] ^= rng.randrange(1, 256)
        path.write_bytes(broken)
        try:
            found = as_extracted(path)
        except CbmError:
            refused += 1
            continue
        except AssertionError:
            continue
        try:
            expected = by_gdal(path)
        except (CbmError, RasterioError) as error:
            raise AssertionError(f"byte {place}: only GDAL says {error}") from error
        np.testing.assert_array_equal(found, expected, err_msg=f"byte {place}")
    assert refused > (0 if name == "none" else 20)


AT = (20, 3), (20, 1), (33, 0)  # blocks of 32 rows, five in a row


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_damage_inside_names_the_first_rows_of_it(tmp_path, threads):
    path = write(tmp_path / "a.tif", texture(1500, 300), **SAMPLES["deflate"])
    with tifffile.TiffFile(path) as file:
        offsets = [file.pages.first.dataoffsets[row * 5 + col] for row, col in AT]
    body = bytearray(path.read_bytes())
    for offset in offsets:
        body[offset + 40 : offset + 400] = bytes(360)
    path.write_bytes(body)
    with pytest.raises(CbmError) as caught:
        as_extracted(path, threads)
    assert caught.value.code == "raster_damaged"
    assert (caught.value.details["row_start"], caught.value.details["row_stop"]) == (640, 672)


@pytest.mark.parametrize("layout", [{}, {"tile": (32, 32)}])
def test_a_predictor_without_compression_is_none(tmp_path, layout):
    path = tmp_path / "a.tif"
    tag = (318, "H", 1, 2, True)
    tifffile.imwrite(path, texture(70, 131), extratags=[tag], software=False, **layout)
    with tifffile.TiffFile(path) as file:
        at = file.pages.first.tags[318].offset
    body = bytearray(path.read_bytes())
    body[at : at + 2] = (317).to_bytes(2, "little")
    path.write_bytes(body)
    with tifffile.TiffFile(path) as file:
        assert file.pages.first.predictor == 2
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(whole(open_tiff(path, 1)), dataset.read(1))


def test_a_block_of_absurd_size_is_left_to_gdal(tmp_path):
    noise = np.random.default_rng(1).integers(0, 65536, (300, 300), "uint16")
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    path = write(tmp_path / "a.tif", noise, compress="deflate", **tiles)
    assert open_tiff(path, 1) is not None
    with tifffile.TiffFile(path) as file:
        tag = file.pages.first.tags["TileByteCounts"]
        assert tag.dtype == tifffile.DATATYPE.LONG
        at = tag.valueoffset
    body = bytearray(path.read_bytes()) + bytes(2**20)
    body[at : at + 4] = (2**20).to_bytes(4, "little")
    path.write_bytes(body)
    assert open_tiff(path, 1) is None
