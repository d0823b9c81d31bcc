"""Damaged JPEG 2000 files are refused: never pixels that were not written, never a crash."""

import struct

import numpy as np
import pytest

from cbm_core.errors import CbmError
from cbm_extract.read.jp2 import open_jp2
from tests.unit.read.jp2_files import (
    codestream_of,
    decode,
    like_esa,
    tile_part,
    tile_parts,
    write_jp2,
)
from tests.unit.read.rasters import texture


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A good file's bytes and pixels."""
    path, values = like_esa(tmp_path_factory.mktemp("whole") / "B04.jp2")
    return path.read_bytes(), values


def refusal(path, data) -> str | None:
    """The message with which bytes are refused; None where they are left to GDAL."""
    path.write_bytes(data)
    try:
        reader = open_jp2(path)
        if reader is None:
            return None
        reader.close()
        decode(path)
    except CbmError as error:
        assert error.code == "raster_damaged"
        assert str(path) in error.message
        assert error.hint
        return error.message
    pytest.fail("damage went unnoticed")


def test_truncated_anywhere(tmp_path, whole):
    data, _ = whole
    rng = np.random.default_rng(1)
    start = data.index(b"jp2c")
    cuts = [*range(start, start + 400), *range(len(data) - 40, len(data))]
    for length in [*cuts, *rng.integers(start, len(data), 200)]:
        assert refusal(tmp_path / "cut.jp2", data[:length])


def test_truncated_without_boxes(tmp_path, whole):
    (tmp_path / "whole.jp2").write_bytes(whole[0])
    data = codestream_of(tmp_path / "whole.jp2")
    rng = np.random.default_rng(2)
    for length in [*range(12, 400), *rng.integers(400, len(data), 200), len(data) - 1]:
        assert refusal(tmp_path / "cut.j2k", data[:length])


def test_cut_out_of_the_middle(tmp_path, whole):
    data, _ = whole
    rng = np.random.default_rng(3)
    start = data.index(b"\xff\x90\x00\x0a")
    for at in rng.integers(start, len(data), 100):
        count = rng.integers(1, 999)
        shorter = data[:at] + data[at + count :] + bytes(count)
        assert refusal(tmp_path / "cut.jp2", shorter[: len(data)])


def test_holes(tmp_path, whole):
    """Zeros where a transfer left something out."""
    data, _ = whole
    rng = np.random.default_rng(4)
    start = data.index(b"\xff\x90\x00\x0a")
    for at in rng.integers(start, len(data) - 512, 100):
        assert refusal(tmp_path / "hole.jp2", data[:at] + bytes(512) + data[at + 512 :])


def test_blocks_of_another_file(tmp_path, whole):
    data, _ = whole
    rng = np.random.default_rng(5)
    start = data.index(b"\xff\x90\x00\x0a")
    for at in rng.integers(start, len(data) - 16384, 50):
        noise = rng.integers(0, 256, 16384, dtype=np.uint8).tobytes()
        assert refusal(tmp_path / "other.jp2", data[:at] + noise + data[at + 16384 :])


def parts_of(tmp_path, whole) -> tuple[bytes, list[bytes], bytes]:
    (tmp_path / "whole.jp2").write_bytes(whole[0])
    head, *parts, end = tile_parts(codestream_of(tmp_path / "whole.jp2"))
    return head, parts, end


def test_missing_and_repeated_tiles(tmp_path, whole):
    head, parts, end = parts_of(tmp_path, whole)
    path = tmp_path / "tiles.j2k"
    text = refusal(path, b"".join([head, *parts[:5], *parts[6:], end]))
    assert text.endswith("tile 5 of 12 is incomplete.")
    assert "part 0 of tile 5, after 1" in refusal(
        path, b"".join([head, *parts[:6], *parts[5:], end])
    )


def test_a_missing_part_of_a_tile(tmp_path, whole):
    head, parts, end = parts_of(tmp_path, whole)
    packets = parts[3][parts[3].index(b"\xff\x93") + 2 :]
    path = tmp_path / "tiles.j2k"
    half = tile_part(3, 0, 2, packets[:500])
    text = refusal(path, b"".join([head, *parts[:3], half, *parts[4:], end]))
    assert text.endswith("tile 3 of 12 is incomplete.")
    # Where the file does not say how many parts there are, the packets tell.
    half = tile_part(3, 0, 0, packets[:500])
    text = refusal(path, b"".join([head, *parts[:3], half, *parts[4:], end]))
    assert "rows 0-127 of 300, columns 384-419 of 420" in text


@pytest.mark.parametrize("change", [-300, -14, -1, 1, 2, 300, 2**31])
def test_lengths_of_parts_that_lie(tmp_path, whole, change):
    head, parts, end = parts_of(tmp_path, whole)
    for tile in (0, 6, 10):
        (length,) = struct.unpack_from(">I", parts[tile], 6)
        lie = parts[tile][:6] + struct.pack(">I", length + change) + parts[tile][10:]
        stream = b"".join([head, *parts[:tile], lie, *parts[tile + 1 :], end])
        assert refusal(tmp_path / "lie.j2k", stream)


def test_bits_flipped_in_headers(tmp_path, whole):
    """What cannot be noticed: the bit-planes QCD names, comments and lengths that are not used."""
    data, values = whole
    path = tmp_path / "flipped.jp2"
    first = data.index(b"\xff\x4f\xff\x51")
    fields = {"SIZ": (first + 2, 43), "COD": (data.index(b"\xff\x52", first), 20)}
    fields["SOT"] = (data.index(b"\xff\x90\x00\x0a"), 12)
    for name, (start, count) in fields.items():
        for at in range(start, start + count):
            for bit in range(8):
                flipped = bytearray(data)
                flipped[at] ^= 1 << bit
                path.write_bytes(flipped)
                try:
                    reader = open_jp2(path)
                    pixels = decode(path) if reader else None
                except CbmError as error:
                    assert error.code == "raster_damaged"
                    continue
                if pixels is not None:
                    assert np.array_equal(pixels, values), (name, at - start, bit)


def test_noise_in_headers_never_crashes(tmp_path, whole):
    data, _ = whole
    path = tmp_path / "noise.jp2"
    rng = np.random.default_rng(6)
    first = data.index(b"\xff\x4f\xff\x51")
    for _ in range(200):
        noisy = bytearray(data)
        for at in rng.integers(first + 2, first + 180, rng.integers(1, 4)):
            noisy[at] = rng.integers(256)
        path.write_bytes(noisy)
        try:
            if open_jp2(path):
                decode(path)
        except CbmError as error:
            assert error.code == "raster_damaged"


def test_sizes_that_disagree(tmp_path, whole):
    data = bytearray(whole[0])
    at = data.index(b"ihdr") + 4
    data[at : at + 4] = struct.pack(">I", 299)
    text = refusal(tmp_path / "sizes.jp2", data)
    assert "two headers name different sizes (420 x 299 v 420 x 300)" in text


def test_the_file_shrinks_while_it_is_read(tmp_path, whole):
    data, _ = whole
    path = tmp_path / "B04.jp2"
    path.write_bytes(data)
    reader = open_jp2(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CbmError, match="in rows 256-299 of 300, columns 384-419 of 420: the file"):
        reader.decode(2, 3, np.empty((44, 36), np.uint16))
    reader.close()


def test_a_missing_file(tmp_path):
    with pytest.raises(CbmError, match="does not exist") as caught:
        open_jp2(tmp_path / "none.jp2")
    assert caught.value.code == "raster_missing"


def test_pixels_of_another_shape_are_refused(tmp_path):
    path = write_jp2(tmp_path / "B04.jp2", texture(100, 100), 64)
    reader = open_jp2(path)
    with pytest.raises(CbmError, match=r"decoded as uint16 \(64, 64\)"):
        reader.decode(0, 0, np.empty((64, 63), np.uint16))
    reader.close()
