"""Blocks of a remote file: of its local copy where many are wanted, over the network otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cbm_core.errors import CbmError
from cbm_core.remote.addresses import shown
from cbm_extract.plan.runs import Runs
from cbm_extract.read.blocks import BlockReader
from cbm_extract.read.header import RasterHeader
from cbm_extract.read.staging import Copy

# The share of a file's strips of rows beyond which it is fetched whole (docs/storage.md). Over
# the network GDAL decodes whole tiles of JPEG 2000, which costs more than to fetch all of them.
WANTED_SHARE = {"GTiff": 0.1, "JP2OpenJPEG": 0.0}

OpenLocal = Callable[[Path], BlockReader]


class StagedReader:
    """See :class:`cbm_extract.read.blocks.BlockReader`.

    How it reads is settled when it is first known what is wanted.
    """

    def __init__(
        self, header: RasterHeader, copy: Copy, far: BlockReader, local: OpenLocal
    ) -> None:
        """``far`` reads over the network, ``local`` opens the copy."""
        self._header, self._copy, self._far, self._local = header, copy, far, local
        self._path: Path | None = None
        self._reader: BlockReader | None = None
        self.shape = header.height, header.width

    @property
    def block_shape(self) -> tuple[int, int]:
        """Rows and columns of a block."""
        return (self._reader or self._far).block_shape

    def worth_a_copy(self, runs: Sequence[Runs] | None) -> bool:
        """Tell whether the runs want so much of the file that it is better fetched whole."""
        wanted = self._far.want(runs)
        limit = WANTED_SHARE.get(self._header.driver, 0.0)
        return bool(np.count_nonzero(wanted) > limit * wanted.size)

    def begin(self, runs: Sequence[Runs] | None) -> None:
        """Start to fetch what the runs will want."""
        if self._reader is None and self.worth_a_copy(runs):
            self._copy.begin()

    def want(self, runs: Sequence[Runs] | None) -> NDArray[np.bool_]:
        """Say which blocks hold a pixel of the runs: bool [block rows, block columns].

        Raises:
            CbmError: as :meth:`cbm_extract.read.staging.Copy.path`.

        """
        if self._reader is None:
            self._reader = self._far
            if self.worth_a_copy(runs):
                self._path = self._copy.path()
                if self._path is not None:
                    with _Renamed(self._path, self._header.href):
                        self._reader = self._local(self._path)
        return self._reader.want(runs)

    def decode(self, row: int, col: int, out: NDArray[Any]) -> None:
        """Decode block (row, col) into ``out``.

        Raises:
            CbmError: ``raster_damaged``, ``raster_changed`` or one of the network's.

        """
        reader = self._reader or self._far
        with _Renamed(self._path, self._header.href):
            reader.decode(row, col, out)

    def close(self) -> None:
        """Close the copy."""
        if self._reader is not None and self._reader is not self._far:
            self._reader.close()


class _Renamed:
    """Lets errors name the file's address instead of its copy's path."""

    def __init__(self, path: Path | None, href: str) -> None:
        self._path, self._href = path, href

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if self._path is None or not isinstance(error, CbmError):
            return
        message = error.message.replace(str(self._path), shown(self._href))
        details = {**error.details, "href": shown(self._href)}
        raise CbmError(error.code, message, error.hint, **details) from error
