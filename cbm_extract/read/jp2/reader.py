"""A JPEG 2000 band, decoded tile by tile."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from cbm_core.errors import CbmError
from cbm_core.remote.addresses import missing
from cbm_extract.plan.runs import Runs
from cbm_extract.read.jp2 import packets
from cbm_extract.read.jp2.codestream import (
    Codestream,
    Unserved,
    damaged,
    read_codestream,
    read_exactly,
)
from cbm_extract.read.jp2.geometry import geometry_of, precincts
from cbm_extract.read.jp2.needed import needed_blocks

_WORTH_PRUNING = 0.95  # share of a tile's bytes above which it is decoded whole


class Jp2Reader:
    """Tiles of a file; :meth:`decode` may be called from several threads at once.

    - shape, block_shape: rows and columns of the raster and of a whole tile
    - dtype: uint8 up to 8 bits, else uint16, as GDAL has it
    """

    def __init__(self, path: Path, file: FileIO, codestream: Codestream) -> None:
        coding = codestream.coding
        self._path = path
        self._file = file
        self._codestream = codestream
        self._geometry = geometry_of(coding)
        self._planes = np.array(coding.planes, dtype=np.int64)
        self._needed: NDArray[np.uint8] | None = None
        self.shape = (coding.height, coding.width)
        self.block_shape = (coding.tile_height, coding.tile_width)
        self.dtype = np.dtype(np.uint8 if coding.precision <= 8 else np.uint16)

    def want(self, runs: Sequence[Runs] | None) -> NDArray[np.bool_]:
        """Say which tiles hold a pixel of the runs, bool [tile rows, tile columns]; None: all.

        Runs are in this raster. Later calls of :meth:`decode` may leave out what they do not need.
        """
        coding, geometry = self._codestream.coding, self._geometry
        if runs is None:
            self._needed = None
            return np.ones(coding.tiles, dtype=np.bool_)
        self._needed = needed_blocks(runs, coding, geometry)
        wanted = np.add.reduceat(self._needed, geometry.blocks[:-1], dtype=np.int64) > 0
        return np.asarray(wanted.reshape(coding.tiles))

    def decode(self, row: int, col: int, out: NDArray[Any]) -> None:
        """Decode tile (row, col) into ``out`` of the tile's shape and this reader's dtype.

        Pixels that depend on code-blocks no wanted pixel needs come out as anything.

        Raises:
            CbmError: ``raster_damaged``, naming file, rows and columns.

        """
        coding = self._codestream.coding
        tile = row * coding.tiles[1] + col
        try:
            data = self._pruned(tile, self._read(tile))
            stream = self._codestream.stand_alone(tile, data)
            values = imagecodecs.jpeg2k_decode(stream, numthreads=1)
        except EOFError:
            raise self._damaged(tile, "the file ends before") from None
        except (OSError, imagecodecs.Jpeg2kError) as error:
            raise self._damaged(tile, str(error)) from error
        if values.shape != out.shape or values.dtype != self.dtype:
            raise self._damaged(tile, f"decoded as {values.dtype} {values.shape}")
        out[...] = values

    def close(self) -> None:
        """Close the file; no tile can be decoded after."""
        self._file.close()

    def _read(self, tile: int) -> bytes:
        parts = self._codestream.packets[tile]
        file = self._file.fileno()
        return b"".join(read_exactly(file, offset, count) for offset, count in parts)

    def _pruned(self, tile: int, data: bytes) -> bytes | memoryview:
        """Return a tile's packets, without code-blocks that are not needed where it is worth it.

        Headers of packets are read in any case: the decoder takes what is missing at a tile's end
        for zeros.
        """
        geometry = self._geometry
        source = np.frombuffer(data, dtype=np.uint8)
        many, grids = precincts(geometry.resolutions[tile], geometry.bands[tile])
        first, stop = geometry.blocks[tile : tile + 2]
        blocks = np.empty((stop - first, 4), dtype=np.int64)
        if not packets.parse(source, many, grids, self._planes, blocks):
            raise self._damaged(tile, "its packets are not whole")
        if self._needed is None or not self._codestream.coding.reversible:
            return data
        keep = self._needed[first:stop]
        if blocks[:, packets.LENGTH] @ keep >= _WORTH_PRUNING * len(data):
            return data
        out = np.empty(len(data) + 32 * (many + len(blocks)), dtype=np.uint8)
        used = packets.prune(source, many, grids, blocks, keep, out)
        return out[:used].data

    def _damaged(self, tile: int, text: str) -> CbmError:
        top, left, bottom, right = self._codestream.coding.rectangle(tile)
        height, width = self.shape
        where = f" in rows {top}-{bottom - 1} of {height}, columns {left}-{right - 1} of {width}"
        return damaged(
            self._path, f"{where}: {text}", row_start=top, row_stop=bottom, col_start=left
        )


def open_jp2(path: Path) -> Jp2Reader | None:
    """Open a local JPEG 2000 file; None for a layout that is left to GDAL.

    Served are files of one component of up to 16 bits without sign, whose image and tiles start
    at the origin, with one layer, without marker segments among the packets and changes of coding
    between tiles, as the bands of Sentinel-2 are. Every tile's place and size is checked here, the
    packets of a tile when it is decoded.

    Raises:
        CbmError: ``raster_damaged`` where the file is truncated or its lengths do not fit;
            ``raster_missing``.

    """
    try:
        file = FileIO(path)
    except FileNotFoundError:
        raise missing(str(path)) from None
    with ExitStack() as stack:
        stack.callback(file.close)
        try:
            reader = Jp2Reader(path, file, read_codestream(file.fileno()))
        except Unserved:
            return None
        except EOFError:
            raise damaged(path, ": the file ends within its headers") from None
        except ValueError as error:
            raise damaged(path, f": {error}") from None
        stack.pop_all()
    return reader
