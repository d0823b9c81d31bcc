"""Blocks through GDAL: for every format and address that has no reader of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.env import getenv, setenv
from rasterio.errors import RasterioError
from rasterio.windows import Window

from cbm_extract.plan.runs import Runs
from cbm_extract.read import gdal
from cbm_extract.read.blocks import blocks_with_pixels, damaged

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

# GDAL is called for several blocks at once, and each call costs.
MIN_ROWS = 512


class WindowReader:
    """See :class:`cbm_extract.read.blocks.BlockReader`; a block is a strip of whole rows.

    It has whole rows of the file's own blocks: a JPEG 2000 tile is decoded whole for every window
    that touches it, so that strips which cut tiles would cost double.
    """

    def __init__(self, href: str, dataset: DatasetReader, index: int) -> None:
        """Take a dataset open in this thread; ``index`` counts bands from 1."""
        self._href, self._dataset, self._index = href, dataset, index
        self.shape = dataset.height, dataset.width
        own = dataset.block_shapes[index - 1][0]
        self.block_shape = own * math.ceil(MIN_ROWS / own), dataset.width
        # GDAL's settings are of a thread, its datasets serve one thread at a time.
        self._settings = getenv()
        self._lock = Lock()

    def want(self, runs: Sequence[Runs] | None) -> NDArray[np.bool_]:
        """Say which strips hold a pixel of the runs: bool [strips, 1]."""
        return blocks_with_pixels(self.shape, self.block_shape, runs)

    def decode(self, row: int, col: int, out: NDArray[Any]) -> None:
        """Read strip ``row`` into ``out``; ``col`` is 0.

        Raises:
            CbmError: ``raster_damaged`` naming file and rows, or as
                :meth:`cbm_core.remote.objects.RemoteObject.read`.

        """
        start = row * self.block_shape[0]
        stop = start + len(out)
        window = Window(col, start, self.shape[1], len(out))
        try:
            with self._lock, rasterio.Env():
                setenv(**self._settings)
                self._dataset.read(self._index, window=window, out=out)
            self._check()
        except RasterioError as error:
            self._check()
            text = gdal.reason(error)
            raise damaged(self._href, start, stop, self.shape[0], text) from error

    def _check(self) -> None:
        """Raise what went wrong on the network: GDAL takes short reads for the end of a file."""
        trouble = gdal.trouble(self._dataset)
        if trouble:
            raise trouble

    def close(self) -> None:
        """Leave the dataset to who opened it."""
