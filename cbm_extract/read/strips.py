"""One band of a scene as strips of rows, of which the blocks that are wanted are decoded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cbm_core.errors import CbmError
from cbm_core.remote.addresses import changed
from cbm_extract.plan.runs import Runs
from cbm_extract.read import gdal
from cbm_extract.read.blocks import BlockReader
from cbm_extract.read.header import RasterHeader, header_of
from cbm_extract.read.jp2 import Jp2Reader, open_jp2
from cbm_extract.read.staged import StagedReader
from cbm_extract.read.staging import copy_of
from cbm_extract.read.tiff import TiffReader, open_tiff
from cbm_extract.read.windows import WindowReader
from cbm_extract.scene import BandAsset

MIN_STRIP_ROWS = 512


@dataclass(frozen=True, eq=False)
class Band:
    """An open band.

    ``nodata`` holds the raw values that are no observation, the asset's and the file's own, as
    floats that compare equal to pixels of ``dtype``; values the dtype cannot hold are left out.
    NaN is never in it: NaN is invalid in any float band.
    """

    asset: BandAsset
    header: RasterHeader
    nodata: tuple[float, ...]
    dtype: np.dtype[Any]
    reader: BlockReader

    def begin(self, runs: Sequence[Runs] | None = None) -> None:
        """Start to fetch a remote file of which these runs will be read."""
        if isinstance(self.reader, StagedReader):
            self.reader.begin(runs)

    def strips(self, runs: Sequence[Runs] | None = None, whole: bool = False) -> list[Strip]:
        """Return the strips with a pixel of the runs (in this raster), north to south; None: all.

        Of a strip those blocks are decoded that hold such a pixel: with ``whole`` entirely,
        otherwise pixels of them that no run wants may come out as anything.
        """
        wanted = self.reader.want(runs)
        if whole:
            self.reader.want(None)
        height = strip_height(self.reader.block_shape[0])
        each = height // self.reader.block_shape[0]
        strips = []
        for start in range(0, self.header.height, height):
            first = start // self.reader.block_shape[0]
            rows, cols = np.nonzero(wanted[first : first + each])
            if len(rows):
                blocks = tuple(zip((rows + first).tolist(), cols.tolist(), strict=True))
                stop = min(start + height, self.header.height)
                strips.append(Strip(self, start, stop, blocks))
        return strips


@dataclass(frozen=True)
class Strip:
    """Rows [start, stop) of a band, and the blocks (row, column) of them that are to be decoded."""

    band: Band
    start: int
    stop: int
    blocks: tuple[tuple[int, int], ...] = field(repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.stop - self.start, self.band.header.width

    @property
    def nbytes(self) -> int:
        """The size of its values."""
        return self.shape[0] * self.shape[1] * self.band.dtype.itemsize

    def block(self, values: NDArray[Any], row: int, col: int) -> NDArray[Any]:
        """Return the part of the strip's values that is block (row, col) of the band."""
        rows, cols = self.band.reader.block_shape
        top, left = row * rows - self.start, col * cols
        return values[top : top + rows, left : left + cols]

    def decode(self, row: int, col: int, values: NDArray[Any]) -> None:
        """Decode a block into its part of the strip's values, [rows, width] of the band's dtype.

        Raises:
            CbmError: ``raster_damaged`` or ``raster_unreachable``, naming file and rows.

        """
        self.band.reader.decode(row, col, self.block(values, row, col))


def strip_height(block_rows: int) -> int:
    """Return how many rows a strip has: whole blocks, at least 512 rows."""
    return block_rows * math.ceil(MIN_STRIP_ROWS / block_rows)


@contextmanager
def open_band(asset: BandAsset) -> Iterator[Band]:
    """Open the band that an asset names, for the length of the block.

    Raises:
        CbmError: as :func:`cbm_extract.read.header.inspect`, and ``band_missing`` where the file
            has fewer bands.

    """
    with ExitStack() as stack:
        dataset = stack.enter_context(gdal.open_raster(asset.href))
        header = header_of(asset.href, dataset)
        check_index(header, asset.index)
        dtype = np.dtype(header.dtypes[asset.index - 1])
        declared = header.nodata[asset.index - 1]
        wanted = asset.nodata if declared is None else (*asset.nodata, declared)
        reader: BlockReader = WindowReader(asset.href, dataset, asset.index)
        path = gdal.local_path(asset.href)
        # ENVI's files are two, and need no decoding.
        whole = gdal.remote_of(dataset) if header.driver != "ENVI" else None
        copy = stack.enter_context(copy_of(whole))
        if path is not None:
            reader = _direct(path, header, asset.index, declared) or reader
        elif copy is not None:
            local = partial(_local, header=header, index=asset.index, stack=stack)
            reader = StagedReader(header, copy, reader, local)
        stack.callback(reader.close)
        yield Band(asset, header, representable(wanted, dtype), dtype, reader)


def _local(path: Path, header: RasterHeader, index: int, stack: ExitStack) -> BlockReader:
    """Open the local copy of a raster whose header was read over the network."""
    dataset = stack.enter_context(gdal.open_raster(str(path)))
    if replace(header_of(str(path), dataset), href=header.href) != header:
        raise changed(header.href)
    direct = _direct(path, header, index, header.nodata[index - 1])
    return direct or WindowReader(str(path), dataset, index)


def _direct(
    path: Path, header: RasterHeader, index: int, nodata: float | None
) -> BlockReader | None:
    """Open a file without GDAL; None where it is not laid out as readers serve it."""
    reader: TiffReader | Jp2Reader | None = None
    if header.driver == "GTiff":
        reader = open_tiff(path, index, nodata)
    elif header.driver == "JP2OpenJPEG" and header.count == 1:
        reader = open_jp2(path)
    if reader is None:
        return None
    # Both must have understood the same of the file.
    dtype = np.dtype(header.dtypes[index - 1])
    if reader.shape != (header.height, header.width) or reader.dtype != dtype:
        reader.close()
        return None
    return reader


def check_index(header: RasterHeader, index: int) -> None:
    """Refuse a band number that the file does not have."""
    if not 1 <= index <= header.count:
        raise CbmError(
            "band_missing",
            f"{header.href} has {header.count} band(s); band {index} was asked for.",
            "Correct the band's index in the scenes' description.",
        )


def representable(values: tuple[float, ...], dtype: np.dtype[np.generic]) -> tuple[float, ...]:
    """Return the values a pixel of ``dtype`` can have, rounded as the dtype does, each once."""
    kept: dict[float, None] = {}
    for value in values:
        if math.isnan(value):
            continue
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                kept[float(np.array(value).astype(dtype))] = None
        elif math.isfinite(value) and value == int(value):
            limits = np.iinfo(dtype.name)
            if limits.min <= value <= limits.max:
                kept[float(value)] = None
    return tuple(kept)
