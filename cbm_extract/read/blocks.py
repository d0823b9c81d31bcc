"""Blocks of a raster: what readers decode, each on its own.

A file holds a band as a grid of blocks (tiles, or strips of rows). Whoever knows which pixels are
wanted decodes the blocks that hold one, each once, several at a time.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cbm_core.errors import CbmError
from cbm_extract.plan.compiled import kernel
from cbm_extract.plan.runs import Runs


class BlockReader(Protocol):
    """The blocks of one band of one file.

    ``shape`` is (rows, columns) of the raster, ``block_shape`` that of a whole block; those at the
    lower and right edge are cut off by the raster.
    """

    @property
    def shape(self) -> tuple[int, int]: ...  # noqa: D102

    @property
    def block_shape(self) -> tuple[int, int]: ...  # noqa: D102

    def want(self, runs: Sequence[Runs] | None) -> NDArray[np.bool_]:
        """Say which blocks hold a pixel of the runs: bool [block rows, block columns]; None: all.

        The runs are in this band's own raster. Afterwards ``decode`` may leave out what none of
        them needs.
        """
        ...

    def decode(self, row: int, col: int, out: NDArray[Any]) -> None:
        """Decode block (row, col) into ``out``, which has the shape of its part in the raster.

        Called from several threads at once. Pixels that no run wants may come out as anything.

        Raises:
            CbmError: ``raster_damaged`` or ``raster_unreachable``, naming file and rows.

        """
        ...

    def close(self) -> None:
        """Close the file, once no thread decodes any more."""
        ...


def blocks_with_pixels(
    shape: tuple[int, int], block_shape: tuple[int, int], runs: Sequence[Runs] | None
) -> NDArray[np.bool_]:
    """Return which blocks of a raster hold a pixel of the runs; with None all do.

    The answer is bool [block rows, block columns] for blocks that begin at the first pixel.
    """
    rows, cols = (-(-size // block) for size, block in zip(shape, block_shape, strict=True))
    if runs is None:
        return np.ones((rows, cols), dtype=bool)
    touched = np.zeros((rows, cols), dtype=bool)
    block_row = (np.arange(shape[0]) // block_shape[0]).astype(np.int32)
    block_col = (np.arange(shape[1]) // block_shape[1]).astype(np.int32)
    for one in runs:
        _touch(one.row, one.col, one.length, block_row, block_col, touched)
    return touched


def damaged(path: Path | str, row_start: int, row_stop: int, height: int, text: str) -> CbmError:
    """Say in which rows [row_start, row_stop) of a raster the file cannot be decoded, and why."""
    return CbmError(
        "raster_damaged",
        f"{path} is damaged or truncated in rows {row_start}-{row_stop - 1} of {height}: {text}.",
        "Fetch or make the file again, then retry the scene.",
        href=str(path),
        row_start=row_start,
        row_stop=row_stop,
    )


@kernel
def _touch(row, col, length, block_row, block_col, touched):
    for j in range(len(row)):
        first = np.int64(col[j])
        here, last = block_col[first], block_col[first + np.int64(length[j]) - 1]
        for c in range(here, last + 1):
            touched[block_row[row[j]], c] = True
