"""From a scene's results to the rows that are stored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cbm_extract.engine.areas import Ids
from cbm_extract.plan.runs import Runs
from cbm_extract.reduce.classes import CLASS_COUNT
from cbm_extract.reduce.scene import ProductResult
from cbm_extract.store.tiles import NOT_CONTAINED, OTHER_ZONE


@dataclass(frozen=True)
class Classes:
    """Pixels of each scene class: ``counts`` int64 [n, 12] of ``geometry_ids``."""

    geometry_ids: Ids
    counts: NDArray[np.int64]

    def of(self, ids: Ids) -> NDArray[np.int64]:
        """Return int64 [len(ids), 12]; zeros where the class raster has no pixel of a geometry."""
        out = np.zeros((len(ids), CLASS_COUNT), dtype=np.int64)
        known, at = _places(self.geometry_ids, ids)
        out[at] = self.counts[known]
        return out


@dataclass(frozen=True)
class JobResult:
    """What one scene says for one item; the rows of ``stats`` are in rising order of ids."""

    result: ProductResult
    tile_rank: NDArray[np.int16]
    classes: NDArray[np.int64] | None


def tile_rank(ids: Ids, imaged: list[Runs], out_of_zone: Ids) -> NDArray[np.int16]:
    """Rank a scene's tile for geometries, int16: 0 best (see :mod:`cbm_extract.store.tiles`).

    A geometry counts as contained by what the finest grid on which it has a pixel says.
    """
    contained = np.zeros(len(ids), dtype=bool)
    for runs in sorted(imaged, key=lambda one: -one.placement.lattice.xres):
        known, at = _places(runs.geometry_ids, ids)
        contained[at] = runs.contained[known]
    rank = np.zeros(len(ids), dtype=np.int16)
    rank[~contained] += NOT_CONTAINED
    rank[np.isin(ids, out_of_zone)] += OTHER_ZONE
    return rank


def _places(some: Ids, ids: Ids) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which of ``some`` are among ``ids`` (rising), and their positions there."""
    at = np.searchsorted(ids, some)
    known = at < len(ids)
    known[known] = ids[at[known]] == some[known]
    return known, at[known]
