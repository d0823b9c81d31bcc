"""JPEG 2000 bands by tiles: every pixel is the one GDAL reads."""

import struct
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import pytest
import rasterio

from cbm_extract.read.jp2 import open_jp2
from tests.unit.read.jp2_files import (
    block,
    by_gdal,
    codestream_of,
    decode,
    like_esa,
    reader_of,
    runs_at,
    tile_part,
    tile_parts,
    write_jp2,
)
from tests.unit.read.rasters import texture


def test_a_band_as_esa_codes_it(tmp_path):
    path, values = like_esa(tmp_path / "B04.jp2")
    reader = reader_of(path)
    assert reader.shape == (300, 420)
    assert reader.block_shape == (128, 128)
    assert reader.dtype == np.uint16
    np.testing.assert_array_equal(decode(path), values)


LAYOUTS = {
    "tiles of 640 of the 20 m bands": ((700, 1300), 640, {"RESOLUTIONS": 6, "PLT": "YES"}),
    "tiles of 192 of the 60 m bands": ((400, 400), 192, {"RESOLUTIONS": 6}),
    "tiles that no power of two divides": ((210, 333), (77, 101), {"RESOLUTIONS": 5}),
    "one tile larger than the image": ((97, 131), 1024, {"RESOLUTIONS": 4}),
    "small precincts and blocks": (
        (150, 170),
        64,
        {"RESOLUTIONS": 3, "PRECINCTS": "{64,64},{32,32},{16,16}", "CODEBLOCK_WIDTH": 8},
    ),
    "oblong code-blocks": ((140, 300), 256, {"CODEBLOCK_WIDTH": 256, "CODEBLOCK_HEIGHT": 16}),
    "no wavelet": ((100, 100), 64, {"RESOLUTIONS": 1}),
    "more levels than pixels": ((3, 700), 64, {"RESOLUTIONS": 7}),
    "a single pixel": ((1, 1), 64, {"RESOLUTIONS": 2}),
    "resolutions first": ((200, 200), 128, {"PROGRESSION": "RLCP"}),
    "resolutions and places first": ((200, 200), 128, {"PROGRESSION": "RPCL"}),
    "9/7 wavelet": ((200, 300), 128, {"REVERSIBLE": "NO", "QUALITY": 40, "RESOLUTIONS": 4}),
    "12 bits": ((200, 200), 128, {"NBITS": 12}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path, name):
    shape, tile, options = LAYOUTS[name]
    path = write_jp2(tmp_path / "band.jp2", texture(*shape), tile, **options)
    np.testing.assert_array_equal(decode(path), by_gdal(path))


def test_bytes(tmp_path):
    values = (texture(200, 260) % 12).astype(np.uint8)
    path = write_jp2(tmp_path / "SCL.jp2", values, 128)
    assert reader_of(path).dtype == np.uint8
    np.testing.assert_array_equal(decode(path), values)


def test_every_tile_empty(tmp_path):
    values = np.zeros((200, 260), dtype=np.uint16)
    path = write_jp2(tmp_path / "B04.jp2", values, 128)
    np.testing.assert_array_equal(decode(path), values)


def test_a_codestream_of_another_encoder(tmp_path):
    """Without boxes, in one tile, with the settings imagecodecs has by default."""
    values = texture(90, 120)
    path = tmp_path / "band.j2k"
    path.write_bytes(imagecodecs.jpeg2k_encode(values, reversible=True, codecformat="j2k"))
    np.testing.assert_array_equal(decode(path), values)


def test_tiles_in_several_parts(tmp_path):
    """Parts of tiles may alternate; their packets follow one another."""
    values = texture(200, 300)
    path = write_jp2(tmp_path / "whole.jp2", values, 128)
    head, *parts, end = tile_parts(codestream_of(path))
    bodies = [part[part.index(b"\xff\x93") + 2 :] for part in parts]
    first = [tile_part(tile, 0, 0, body[:5]) for tile, body in enumerate(bodies)]
    second = [tile_part(tile, 1, 2, body[5:]) for tile, body in enumerate(bodies)]
    path = tmp_path / "parts.j2k"
    path.write_bytes(b"".join([head, *first, *second[::-1], end]))
    np.testing.assert_array_equal(by_gdal(path), values)
    np.testing.assert_array_equal(decode(path), values)


@pytest.mark.parametrize("kind", ["to the end of the file", "64 bits"])
def test_lengths_of_the_codestreams_box(tmp_path, kind):
    path, values = like_esa(tmp_path / "band.jp2")
    data = path.read_bytes()
    at = data.index(b"jp2c") - 4
    (length,) = struct.unpack_from(">I", data, at)
    if kind == "64 bits":
        box = struct.pack(">I4sQ", 1, b"jp2c", length + 8)
    else:
        box = struct.pack(">I4s", 0, b"jp2c")
    path.write_bytes(data[:at] + box + data[at + 8 :])
    np.testing.assert_array_equal(decode(path), values)


def test_the_last_part_may_leave_its_length_open(tmp_path):
    path, values = like_esa(tmp_path / "band.jp2")
    *others, last, end = tile_parts(codestream_of(path))
    path = tmp_path / "open.j2k"
    path.write_bytes(b"".join([*others, last[:6] + bytes(4) + last[10:], end]))
    np.testing.assert_array_equal(decode(path), values)


def test_threads_read_the_same(tmp_path):
    path, values = like_esa(tmp_path / "band.jp2")
    reader = reader_of(path)
    out = np.zeros(reader.shape, reader.dtype)
    tiles = np.argwhere(reader.want(None))
    with ThreadPoolExecutor(4) as threads:
        list(
            threads.map(
                lambda tile: reader.decode(*tile, block(reader, out, *tile)),
                np.concatenate([tiles] * 5),
            )
        )
    reader.close()
    np.testing.assert_array_equal(out, values)


def test_tiles_that_hold_a_wanted_pixel(tmp_path):
    path, _ = like_esa(tmp_path / "band.jp2")
    reader = reader_of(path)
    assert reader.want(None).all()
    assert reader.want(None).shape == (3, 4)
    # The run ends with the last pixel of a tile; the next tile is not wanted.
    wanted = reader.want([runs_at(reader.shape, [(127, 100, 156)]), runs_at(reader.shape, [])])
    assert wanted.tolist() == [[True, True, False, False], [False] * 4, [False] * 4]
    assert not reader.want([]).any()
    reader.close()


UNSERVED = {
    "layers": {"QUALITY": "20,100"},
    "places first": {"PROGRESSION": "PCRL"},
    "markers among the packets": {"SOP": "YES"},
    "marks after headers": {"EPH": "YES"},
    "code-blocks in segments": {"CODEBLOCK_STYLE": "BYPASS,TERMALL"},
}


@pytest.mark.parametrize("name", UNSERVED)
def test_other_layouts_are_left_to_gdal(tmp_path, name):
    path = write_jp2(tmp_path / "band.jp2", texture(200, 200), 128, **UNSERVED[name])
    assert open_jp2(path) is None


def test_several_components_are_left_to_gdal(tmp_path):
    path = tmp_path / "TCI.jp2"
    profile = {"height": 100, "width": 100, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="JP2OpenJPEG", **profile) as dataset:
        dataset.write(np.zeros((3, 100, 100), dtype=np.uint8))
    assert open_jp2(path) is None


def test_signed_values_are_left_to_gdal(tmp_path):
    values = texture(100, 100).astype(np.int16) - 2000
    assert open_jp2(write_jp2(tmp_path / "band.jp2", values, 64)) is None


def test_other_formats_are_left_to_gdal(tmp_path):
    path = tmp_path / "band.jp2"
    path.write_bytes(b"II*\0" + bytes(100))
    assert open_jp2(path) is None
