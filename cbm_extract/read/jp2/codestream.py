"""Where the tiles of a JPEG 2000 file lie, read from its boxes and markers alone.

Boxes, markers and their fields are those of ITU-T T.800 (ISO/IEC 15444-1), annexes A and I.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from cbm_core.errors import CbmError

_SOC, _SOT, _SOD, _EOC = 0xFF4F, 0xFF90, 0xFF93, 0xFFD9
_SIZ, _COD, _QCD = 0xFF51, 0xFF52, 0xFF5C
_SKIPPED_MAIN = {0xFF55, 0xFF57, 0xFF63, 0xFF64}  # TLM, PLM, CRG, COM
_SKIPPED_TILE = {0xFF58, 0xFF64}  # PLT, COM
_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
_COLOUR_BOXES = {b"pclr", b"cmap", b"cdef"}  # palettes and channels are GDAL's business
_PART2_OR_HT = 0xC000  # bits of Rsiz
_DEPTHS_VARY = 255  # in the image box: components differ
_MAX_TILE_PIXELS = 2**24  # a decoded tile takes 4 bytes a pixel

_Image = tuple[int, int, int]  # rows, columns, bits less one


class Unserved(Exception):  # noqa: N818 - the layout is no error
    """The file is laid out in a way that is left to GDAL."""


def damaged(path: str | os.PathLike[str], text: str, **details: object) -> CbmError:
    """Say that a file is no whole JPEG 2000 file."""
    return CbmError(
        "raster_damaged",
        f"{os.fspath(path)} is damaged or truncated{text}.",
        "Fetch or make the file again, then retry the scene.",
        href=os.fspath(path),
        **details,
    )


@dataclass(frozen=True)
class Coding:
    """How every tile is coded: what splitting tiles and reading packet headers needs.

    - height, width: of the image; tile_height, tile_width: of a whole tile; all in pixels
    - precision: bits of a pixel, 1 to 16
    - levels: wavelet decompositions; reversible: the 5/3 wavelet, else 9/7
    - block: exponents of 2 of a code-block's (width, height)
    - precincts: the same for the precincts of each resolution, coarsest first
    - planes: magnitude bit-planes of each subband, in the order of QCD (LL, then HL, LH, HH from
      coarse to fine)
    """

    height: int
    width: int
    tile_height: int
    tile_width: int
    precision: int
    levels: int
    reversible: bool
    block: tuple[int, int]
    precincts: tuple[tuple[int, int], ...]
    planes: tuple[int, ...]

    @property
    def tiles(self) -> tuple[int, int]:
        """Return rows and columns of tiles."""
        return -(-self.height // self.tile_height), -(-self.width // self.tile_width)

    def rectangle(self, tile: int) -> tuple[int, int, int, int]:
        """Return (first row, first column, row and column past the last) of a tile."""
        row, col = divmod(tile, self.tiles[1])
        top, left = row * self.tile_height, col * self.tile_width
        bottom = min(top + self.tile_height, self.height)
        return top, left, bottom, min(left + self.tile_width, self.width)


@dataclass(frozen=True)
class Codestream:
    """Headers of a file, and where the packets of its tiles lie.

    ``packets`` holds (offset, bytes) of each tile's parts in the file, in their order.
    """

    coding: Coding
    size_marker: bytes
    coding_markers: bytes
    packets: tuple[tuple[tuple[int, int], ...], ...]

    def stand_alone(self, tile: int, packets: bytes | memoryview) -> bytes:
        """Return a codestream that has this tile alone.

        The tile keeps its place on the reference grid, so that subbands, precincts and
        code-blocks are cut as in the whole image, whatever the size of tiles.
        """
        top, left, bottom, right = self.coding.rectangle(tile)
        tile_width, tile_height = struct.unpack_from(">II", self.size_marker, 22)
        place = (right, bottom, left, top, tile_width, tile_height, left, top)
        return b"".join(
            (
                _SOC.to_bytes(2, "big"),
                self.size_marker[:6],
                struct.pack(">8I", *place),
                self.size_marker[38:],
                self.coding_markers,
                struct.pack(">HHHIBBH", _SOT, 10, 0, len(packets) + 14, 0, 1, _SOD),
                packets,
                _EOC.to_bytes(2, "big"),
            )
        )


def read_exactly(file: int, offset: int, count: int) -> bytes:
    """Read from a file descriptor; raises EOFError where the file ends before."""
    parts = []
    while count:
        part = os.pread(file, count, offset)
        if not part:
            raise EOFError
        parts.append(part)
        offset, count = offset + len(part), count - len(part)
    return b"".join(parts)


def read_codestream(file: int) -> Codestream:
    """Read the headers of an open file, and walk over its tiles.

    Raises:
        Unserved: the file is none, or laid out otherwise than is served.
        EOFError, ValueError: it is damaged; the message of ValueError says where.

    """
    start, stop, image = _find_codestream(file)
    coding, markers, offset = _main_header(file, start, stop)
    if image is not None:
        _compare(image, coding)
    packets = _walk(file, offset, stop, coding)
    size, others = markers[_SIZ], markers[_COD] + markers[_QCD]
    return Codestream(coding, size, others, packets)


def _compare(image: _Image, coding: Coding) -> None:
    height, width, depth = image
    if (height, width) != (coding.height, coding.width):
        found = f"{width} x {height} v {coding.width} x {coding.height}"
        raise ValueError(f"two headers name different sizes ({found})")
    if depth not in {coding.precision - 1, _DEPTHS_VARY}:
        raise Unserved


def _find_codestream(file: int) -> tuple[int, int, _Image | None]:
    """Return start and end of the codestream, and what its box says of the image."""
    length = os.fstat(file).st_size
    if length < 12:
        raise Unserved
    head = read_exactly(file, 0, 12)
    if head[:4] == b"\xff\x4f\xff\x51":
        return 0, length, None
    if head != _SIGNATURE:
        raise Unserved
    image = None
    for kind, start, stop in _boxes(file, 12, length):
        if kind == b"jp2h":
            image = _image_box(file, start, stop)
        if kind == b"jp2c":
            return start, stop, image
    raise Unserved


def _boxes(file: int, offset: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the boxes' contents."""
    while offset < end:
        length, kind = struct.unpack(">I4s", read_exactly(file, offset, 8))
        start = offset + 8
        if length == 1:
            (length,) = struct.unpack(">Q", read_exactly(file, start, 8))
            start += 8
        stop = offset + length if length else end
        if stop < start:
            raise ValueError(f"the box at byte {offset} has no valid length")
        if stop > end:
            raise ValueError(f"the box at byte {offset} promises {stop - end} bytes more")
        yield kind, start, stop
        offset = stop


def _image_box(file: int, start: int, stop: int) -> _Image | None:
    image = None
    for kind, at, _ in _boxes(file, start, stop):
        if kind in _COLOUR_BOXES:
            raise Unserved
        if kind == b"ihdr":
            height, width, _, depth = struct.unpack(">IIHB", read_exactly(file, at, 11))
            image = (height, width, depth)
    return image


def _main_header(file: int, offset: int, stop: int) -> tuple[Coding, dict[int, bytes], int]:
    """Return the coding, the markers it was read from, and where the first tile-part starts."""
    if read_exactly(file, offset, 2) != b"\xff\x4f":
        raise ValueError("the codestream does not start with its marker")
    offset += 2
    segments: dict[int, bytes] = {}
    while True:
        marker, length = struct.unpack(">HH", read_exactly(file, offset, 4))
        if marker == _SOT:
            break
        if length < 2 or offset + 2 + length > stop:
            raise ValueError(f"the marker at byte {offset} has no valid length")
        if marker in (_SIZ, _COD, _QCD):
            segments[marker] = read_exactly(file, offset, 2 + length)
        elif marker not in _SKIPPED_MAIN:
            raise Unserved
        offset += 2 + length
    try:
        return _coding(segments), segments, offset
    except (KeyError, struct.error, IndexError):
        raise ValueError("the main header is incomplete") from None


def _coding(segments: dict[int, bytes]) -> Coding:
    """Take SIZ, COD and QCD apart (tables A.9, A.13 and A.27)."""
    height, width, tile_height, tile_width, precision = _size(segments[_SIZ])
    levels, block, precincts, reversible = _style(segments[_COD])
    return Coding(
        height=height,
        width=width,
        tile_height=tile_height,
        tile_width=tile_width,
        precision=precision,
        levels=levels,
        reversible=reversible,
        block=block,
        precincts=precincts,
        planes=_planes(segments[_QCD], levels, reversible),
    )


def _size(segment: bytes) -> tuple[int, int, int, int, int]:
    capabilities, width, height, *origin = struct.unpack_from(">H4I", segment, 4)
    tile_width, tile_height, *tile_origin = struct.unpack_from(">4I", segment, 22)
    components, depth, *steps = struct.unpack_from(">H3B", segment, 38)
    served = (
        not capabilities & _PART2_OR_HT
        and components == 1
        and depth < 16  # the uppermost bit says that values have signs
        and steps == [1, 1]
        and origin == tile_origin == [0, 0]
    )
    if not served:
        raise Unserved
    if not (width and height and tile_width and tile_height):
        raise ValueError("the main header names an empty image")
    tile_height, tile_width = min(tile_height, height), min(tile_width, width)
    if -(-width // tile_width) * -(-height // tile_height) > 65535:
        raise ValueError("the main header names more tiles than a file can have")
    if tile_width * tile_height > _MAX_TILE_PIXELS:
        raise Unserved
    return height, width, tile_height, tile_width, depth + 1


def _style(segment: bytes) -> tuple[int, tuple[int, int], tuple[tuple[int, int], ...], bool]:
    style, order, layers, mixed = struct.unpack_from(">BBHB", segment, 4)
    levels, block_x, block_y, block_style, wavelet = struct.unpack_from(">5B", segment, 9)
    # With one component and one layer the first three orders are the same.
    if style & ~1 or order > 2 or layers != 1 or mixed or block_style:
        raise Unserved
    block = (block_x + 2, block_y + 2)
    if levels > 32 or wavelet > 1 or max(block) > 10 or sum(block) > 12:
        raise ValueError("the main header names a coding that does not exist")
    precincts = [(15, 15)] * (levels + 1)
    if style & 1:
        sizes = [segment[14 + resolution] for resolution in range(levels + 1)]
        precincts = [(size & 15, size >> 4) for size in sizes]
        if any(min(exponents) == 0 for exponents in precincts[1:]):
            raise ValueError("the main header names precincts of no size")
    return levels, block, tuple(precincts), wavelet == 1


def _planes(segment: bytes, levels: int, reversible: bool) -> tuple[int, ...]:
    """Return magnitude bit-planes of the subbands (equation E-2)."""
    style, guard = segment[4] & 31, segment[4] >> 5
    bands = 3 * levels + 1
    if style > 2 or reversible != (style == 0):
        raise Unserved
    if style == 0:
        exponents = [segment[5 + band] >> 3 for band in range(bands)]
    elif style == 2:
        exponents = [value >> 11 for value in struct.unpack_from(f">{bands}H", segment, 5)]
    else:
        first = struct.unpack_from(">H", segment, 5)[0] >> 11
        exponents = [first - max(band - 1, 0) // 3 for band in range(bands)]
    return tuple(guard + exponent - 1 for exponent in exponents)


def _walk(
    file: int, offset: int, stop: int, coding: Coding
) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Return where the packets of each tile lie; every tile-part is looked at."""
    rows, cols = coding.tiles
    packets: list[list[tuple[int, int]]] = [[] for _ in range(rows * cols)]
    announced = [0] * (rows * cols)
    while True:
        (marker,) = struct.unpack(">H", read_exactly(file, offset, 2))
        if marker == _EOC:
            break
        where = f"the tile-part at byte {offset}"
        if marker != _SOT:
            raise ValueError(f"{where} does not start with its marker")
        size, tile, length, part, parts = struct.unpack(
            ">HHIBB", read_exactly(file, offset + 2, 10)
        )
        end = offset + length if length else stop - 2
        if size != 10 or tile >= rows * cols or end > stop - 2:
            raise ValueError(f"{where} has no valid header")
        if part != len(packets[tile]):
            raise ValueError(f"{where} is part {part} of tile {tile}, after {len(packets[tile])}")
        first = _skip_tile_markers(file, offset + 12, end)
        packets[tile].append((first, end - first))
        announced[tile] = max(announced[tile], parts)
        offset = end
    for tile, found in enumerate(packets):
        if not found or len(found) < announced[tile]:
            raise ValueError(f"tile {tile} of {rows * cols} is incomplete")
    return tuple(tuple(parts) for parts in packets)


def _skip_tile_markers(file: int, offset: int, end: int) -> int:
    start = offset
    while offset + 2 <= end:
        (marker,) = struct.unpack(">H", read_exactly(file, offset, 2))
        if marker == _SOD:
            return offset + 2
        if marker >> 8 != 0xFF:
            break
        if marker not in _SKIPPED_TILE:
            raise Unserved
        (length,) = struct.unpack(">H", read_exactly(file, offset + 2, 2))
        offset += 2 + length
    raise ValueError(f"the tile-part with its markers at byte {start} has no data")
