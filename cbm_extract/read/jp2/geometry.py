# ruff: noqa: ANN001, ANN201, ANN202 - kernels are compiled for what they are called with
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Where subbands, precincts and code-blocks of every tile lie (ITU-T T.800, annex B)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cbm_extract.plan.compiled import kernel
from cbm_extract.read.jp2.codestream import Coding

# Columns of the table of subbands.
LEFT, TOP, RIGHT, BOTTOM, BLOCK_X, BLOCK_Y, FIRST_X, FIRST_Y, PER_ROW, FIRST_BLOCK = range(10)


@dataclass(frozen=True)
class Geometry:
    """Tables of all tiles, for kernels.

    - rectangles int64 [tiles, 4]: left, top, right, bottom of each tile in pixels
    - resolutions int64 [tiles, levels + 1, 6]: left, top, right, bottom in samples of that
      resolution, and the exponents of 2 of its precincts' width and height
    - bands int64 [tiles, 3 levels + 1, 10], in the order LL, then HL, LH, HH from coarse to fine:
      left, top, right, bottom in coefficients; exponents of its code-blocks' width and height;
      column and row of its first code-block, counted from coefficient 0; code-blocks in a row;
      number of its first code-block, counted within the tile
    - blocks int64 [tiles + 1]: number of each tile's first code-block, counted within the file
    """

    rectangles: NDArray[np.int64]
    resolutions: NDArray[np.int64]
    bands: NDArray[np.int64]
    blocks: NDArray[np.int64]


def geometry_of(coding: Coding) -> Geometry:
    """Compute the tables of a file's coding."""
    rows, cols = coding.tiles
    tops = np.repeat(np.arange(rows, dtype=np.int64) * coding.tile_height, cols)
    lefts = np.tile(np.arange(cols, dtype=np.int64) * coding.tile_width, rows)
    rights = np.minimum(lefts + coding.tile_width, coding.width)
    bottoms = np.minimum(tops + coding.tile_height, coding.height)
    rectangles = np.stack([lefts, tops, rights, bottoms], axis=1)
    resolutions = [
        _resolution(rectangles, coding.levels - number, precinct)
        for number, precinct in enumerate(coding.precincts)
    ]
    bands = [_band(rectangles, coding, 0, 0)]
    for number in range(1, coding.levels + 1):
        bands += [_band(rectangles, coding, number, kind) for kind in (1, 2, 3)]
    table = np.stack(bands, axis=1)
    blocks = _count(table)
    return Geometry(rectangles, np.stack(resolutions, axis=1), table, blocks)


def _resolution(
    rectangles: NDArray[np.int64], depth: int, precinct: tuple[int, int]
) -> NDArray[np.int64]:
    corners = -(-rectangles >> depth)
    return np.concatenate([corners, np.broadcast_to(precinct, (len(corners), 2))], axis=1)


def _band(
    rectangles: NDArray[np.int64], coding: Coding, resolution: int, kind: int
) -> NDArray[np.int64]:
    """Return a subband's rows of the table; ``kind`` 1 is high across, 2 high down, 3 both."""
    table = np.zeros((len(rectangles), 10), dtype=np.int64)
    depth = coding.levels - max(resolution - 1, 0)
    half = 1 << depth >> 1
    shift = np.array([kind & 1, kind >> 1, kind & 1, kind >> 1]) * half
    table[:, LEFT : BOTTOM + 1] = -(-(rectangles - shift) >> depth)
    for axis in (0, 1):
        precinct = coding.precincts[resolution][axis] - (resolution > 0)
        exponent = min(coding.block[axis], precinct)
        table[:, BLOCK_X + axis] = exponent
        table[:, FIRST_X + axis] = table[:, LEFT + axis] >> exponent
    return table


def _count(bands: NDArray[np.int64]) -> NDArray[np.int64]:
    """Fill the last two columns; return the number of each tile's first code-block."""
    sides = []
    for axis in (0, 1):
        first, stop = bands[..., LEFT + axis], bands[..., RIGHT + axis]
        last = -(-stop >> bands[..., BLOCK_X + axis])
        sides.append(np.where(stop > first, last - bands[..., FIRST_X + axis], 0))
    bands[..., PER_ROW] = sides[0]
    counts = sides[0] * sides[1]
    bands[..., FIRST_BLOCK] = np.cumsum(counts, axis=1) - counts
    return np.concatenate([[0], np.cumsum(counts.sum(axis=1))]).astype(np.int64)


@kernel
def precincts(resolutions, bands):
    """List the grids of code-blocks of a tile, in the order of its packets.

    Takes a tile's ``resolutions`` and ``bands`` of ``Geometry``. Returns the number of packets and
    int64 [n, 6]: packet, subband, first code-block, code-blocks from row to row, columns, rows.
    Subbands without a code-block in the packet are left out.
    """
    many = 0
    for r in range(len(resolutions)):
        across, down = _precinct_range(resolutions[r])
        many += across[1] * down[1]
    grids = np.empty((3 * many, 6), np.int64)
    packet = used = 0
    for r in range(len(resolutions)):
        across, down = _precinct_range(resolutions[r])
        for y in range(down[0], down[0] + down[1]):
            for x in range(across[0], across[0] + across[1]):
                for b in range(max(3 * r - 2, 0), 3 * r + 1):
                    if _grid(resolutions[r], bands[b], r, x, y, grids[used]):
                        grids[used, 0], grids[used, 1] = packet, b
                        used += 1
                packet += 1
    return packet, grids[:used]


@kernel
def _precinct_range(resolution):
    """Return (first, count) of precincts across and down."""
    left, top, right, bottom, wide, high = resolution
    if right <= left or bottom <= top:
        return (0, 0), (0, 0)
    x, y = left >> wide, top >> high
    return (x, -(-right >> wide) - x), (y, -(-bottom >> high) - y)


@kernel
def _grid(resolution, band, r, x, y, grid):
    halved = 1 if r > 0 else 0
    wide, high = resolution[4] - halved, resolution[5] - halved
    left, right = max(band[0], x << wide), min(band[2], (x + 1) << wide)
    top, bottom = max(band[1], y << high), min(band[3], (y + 1) << high)
    if right <= left or bottom <= top:
        return False
    col, row = left >> band[4], top >> band[5]
    grid[2] = band[9] + (row - band[7]) * band[8] + col - band[6]
    grid[3] = band[8]
    grid[4] = -(-right >> band[4]) - col
    grid[5] = -(-bottom >> band[5]) - row
    return True
