"""Blocks of plain (Cloud Optimized) GeoTIFF files, decoded without GDAL.

GDAL copies every block twice on its way out and decodes in one thread. Here a block is read,
inflated and its predictor undone straight into the rows that are reduced. What the format allows
beyond plain blocks of numbers is left to GDAL: ``open_tiff`` then says None.

TIFF 6.0 (sections 13-15) and its Technical Note 3 (floating point predictor) describe the format;
blocks that are left out (offset and size 0) are GDAL's: they hold the nodata value, or else 0.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from cbm_core.errors import CbmError
from cbm_extract.plan.compiled import kernel
from cbm_extract.plan.runs import Runs
from cbm_extract.read.blocks import blocks_with_pixels, damaged

Bytes = NDArray[np.uint8]
Decode = Callable[..., Any]

# By the number of the compression; None: not compressed.
_DECODERS: dict[int, Decode | None] = {
    1: None,
    5: imagecodecs.lzw_decode,
    8: imagecodecs.deflate_decode,
    32946: imagecodecs.deflate_decode,
    50000: imagecodecs.zstd_decode,
}
_YCBCR = 6
_SEPARATE = 2
# Larger blocks take more memory than strips may: GDAL reads those a few rows at a time.
_MAX_BLOCK_BYTES = 64 * 2**20
_SLACK = 2**16  # bytes


@dataclass(frozen=True)
class _Layout:
    """How the blocks of one band lie in the file.

    ``samples`` are those of a pixel in a block, of which ``sample`` is the band's; ``offset`` and
    ``size`` are int64 [block rows, block columns], in bytes.
    """

    shape: tuple[int, int]
    block_shape: tuple[int, int]
    tiled: bool
    samples: int
    sample: int
    dtype: np.dtype[Any]
    predictor: int
    decode: Decode | None
    offset: NDArray[np.int64]
    size: NDArray[np.int64]


class TiffReader:
    """See :class:`cbm_extract.read.blocks.BlockReader`; ``dtype`` is that of the pixels."""

    def __init__(self, path: Path, layout: _Layout, fill: float) -> None:
        """``fill`` is what blocks that the file leaves out hold."""
        self._path, self._layout, self._fill = path, layout, fill
        self.shape, self.block_shape, self.dtype = layout.shape, layout.block_shape, layout.dtype
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._own = threading.local()

    def want(self, runs: Sequence[Runs] | None) -> NDArray[np.bool_]:
        """Say which blocks hold a pixel of the runs: bool [block rows, block columns]."""
        return blocks_with_pixels(self.shape, self.block_shape, runs)

    def decode(self, row: int, col: int, out: NDArray[Any]) -> None:
        """Decode block (row, col) into ``out``, which has the shape of its part in the raster.

        Raises:
            CbmError: ``raster_damaged``, naming file and rows.

        """
        layout = self._layout
        offset, size = int(layout.offset[row, col]), int(layout.size[row, col])
        if offset == size == 0:
            out[...] = self._fill
            return
        try:
            data = os.pread(self._file, size, offset)
            block = self._unpacked(data, len(out))
        except (OSError, RuntimeError, ValueError) as error:
            start = row * self.block_shape[0]
            text = " ".join(str(error).split()).rstrip(".")
            raise damaged(self._path, start, start + len(out), self.shape[0], text) from error
        height, width = len(block), self.block_shape[1]
        if layout.predictor == 1:
            values = block.view(layout.dtype).reshape(height, width, layout.samples)
            out[...] = values[: out.shape[0], : out.shape[1], layout.sample]
            return
        # Sums wrap around alike for signed, unsigned and the bits of floats.
        bits = np.dtype(f"u{layout.dtype.itemsize}")
        if layout.predictor == 2:
            _sum_up(block.view(bits), layout.samples, layout.sample, out.view(bits))
        else:
            _join_planes(block, layout.samples, layout.sample, out.view(bits))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _unpacked(self, data: bytes, rows: int) -> Bytes:
        """Undo the compression: bytes [rows, row length]; ValueError where some are missing."""
        layout = self._layout
        length = layout.block_shape[1] * layout.samples * layout.dtype.itemsize
        if layout.tiled:
            rows = layout.block_shape[0]
        if layout.decode is None:
            found: Bytes = np.frombuffer(data, np.uint8)
        else:
            # The last strip of a file may be written to its full height.
            found = layout.decode(data, out=self._scratch(layout.block_shape[0] * length))
        if len(found) < rows * length:
            raise ValueError(f"a block gives {len(found)} of its {rows * length} bytes")
        return found[: rows * length].reshape(rows, length)

    def _scratch(self, size: int) -> Bytes:
        """Return the calling thread's own room for one block."""
        room: Bytes | None = getattr(self._own, "room", None)
        if room is None:
            room = self._own.room = np.empty(size, np.uint8)
        return room


def open_tiff(path: Path, index: int, nodata: float | None = None) -> TiffReader | None:
    """Open band ``index`` (from 1) of a local file; None for all that it does not serve.

    ``nodata`` is what the file declares for the band. Overviews and masks in it are passed over.

    Raises:
        CbmError: ``raster_damaged`` where the file does not list all blocks of the band, or ends
            before one of them, wanted or not.

    """
    try:
        with tifffile.TiffFile(path) as file:
            layout = _layout(path, file.pages.first, index) if file.byteorder == "<" else None
    except CbmError:
        raise
    except Exception:
        # Whatever the parser stumbles over: GDAL says what is wrong with the file, if anything is.
        return None
    if layout is None:
        return None
    fill = 0.0 if nodata is None else nodata
    absent = (layout.offset == 0) & (layout.size == 0)
    if absent.any() and not _holds(layout.dtype, fill):
        return None
    _check_length(path, layout)
    return TiffReader(path, layout, fill)


def _check_length(path: Path, layout: _Layout) -> None:
    """Refuse a truncated file at once: a later request would stumble over it anyway."""
    length = path.stat().st_size
    rows, cols = np.nonzero((layout.offset > length) | (layout.size > length - layout.offset))
    if len(rows):
        start = int(rows[0]) * layout.block_shape[0]
        stop = min(start + layout.block_shape[0], layout.shape[0])
        end = int(layout.offset[rows[0], cols[0]]) + int(layout.size[rows[0], cols[0]])
        text = f"a block ends at byte {end}, the file at byte {length}"
        raise damaged(path, start, stop, layout.shape[0], text)


def _layout(path: Path, page: Any, index: int) -> _Layout | None:
    count, separate = page.samplesperpixel, page.planarconfig == _SEPARATE
    rows = page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength)
    block_shape = rows, (page.tilewidth if page.is_tiled else page.imagewidth)
    samples = 1 if separate else count
    if not (_plain(page) and 1 <= index <= count):
        return None
    raw = block_shape[0] * block_shape[1] * samples * page.dtype.itemsize
    if raw > _MAX_BLOCK_BYTES:
        return None
    shape = page.imagelength, page.imagewidth
    grid = tuple(-(-size // block) for size, block in zip(shape, block_shape, strict=True))
    planes = (count if separate else 1), *grid
    listed, expected = min(len(page.dataoffsets), len(page.databytecounts)), math.prod(planes)
    if listed < expected:
        # GDAL reads what happens to be in its memory.
        text = f"the file lists {listed} of its {expected} blocks"
        raise damaged(path, 0, shape[0], shape[0], text)
    offset = np.array(page.dataoffsets, np.int64).reshape(planes)
    size = np.array(page.databytecounts, np.int64).reshape(planes)
    plane = index - 1 if separate else 0
    offset, size = offset[plane], size[plane]
    if ((offset == 0) != (size == 0)).any():
        return None
    # A size that no compression makes of a block would be read into memory as it stands.
    if size.max() > 2 * raw + _SLACK:
        return None
    return _Layout(
        shape,
        block_shape,
        bool(page.is_tiled),
        samples,
        0 if separate else index - 1,
        page.dtype.newbyteorder("="),
        # A predictor is a matter of the compression: without one libtiff passes over the tag.
        page.predictor if _DECODERS[page.compression] else 1,
        _DECODERS[page.compression],
        offset,
        size,
    )


def _plain(page: Any) -> bool:
    """Say whether a page is a grid of blocks of whole numbers or floats, and nothing else."""
    dtype = page.dtype
    orientation = page.tags.get("Orientation")
    return (
        dtype is not None
        and dtype.kind in "iuf"
        and page.bitspersample == 8 * dtype.itemsize
        and not (dtype.kind == "f" and dtype.itemsize not in {4, 8})
        and page.compression in _DECODERS
        and page.predictor in ({1, 3} if dtype.kind == "f" else {1}) | {2}
        and page.photometric != _YCBCR
        and page.fillorder == 1
        and page.imagedepth == page.tiledepth == 1
        and (orientation is None or orientation.value == 1)
    )


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    """Say whether a pixel can have a value exactly."""
    if dtype.kind == "f":
        return bool(np.isnan(value)) or float(np.array(value).astype(dtype)) == value
    limits = np.iinfo(dtype)
    return (
        value == int(value) and limits.min <= value <= limits.max if np.isfinite(value) else False
    )


@kernel
def _sum_up(block, samples, sample, out):
    """Undo differences along rows for one sample; block and out are unsigned [rows, columns]."""
    first, step = np.uint64(sample), np.uint64(samples)
    for r in range(np.uint64(out.shape[0])):
        total, at = np.uint64(0), first
        for c in range(np.uint64(out.shape[1])):
            total += np.uint64(block[r, at])
            out[r, c] = total
            at += step


@kernel
def _join_planes(block, samples, sample, out):
    """Undo differences of bytes, then put values together from planes of bytes, highest first.

    ``block`` is uint8 [rows, bytes of a row] and is overwritten; ``out`` has the bits of floats.
    """
    width, step = np.uint64(block.shape[1]), np.uint64(samples)
    values, columns = width // np.uint64(out.itemsize), np.uint64(out.shape[1])
    for r in range(np.uint64(out.shape[0])):
        row = block[r]
        for first in range(step):
            # The sum stays in a register: from memory it would come some cycles later.
            total = np.uint8(0)
            for k in range(first, width, step):
                total = np.uint8(total + row[k])
                row[k] = total
        line = out[r]
        line[:] = 0
        for plane in range(np.uint64(out.itemsize)):
            part = row[plane * values + np.uint64(sample) :]
            shift = np.uint64(8) * (np.uint64(out.itemsize - 1) - plane)
            for c in range(columns):
                line[c] |= np.uint64(part[c * step]) << shift
