"""One band, one set of runs: the eight statistics of each parcel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cbm_extract.plan.runs import Runs
from cbm_extract.reduce.gather import Gather
from cbm_extract.reduce.statistics import Statistics


class BandReducer:
    """Feed strips from top to bottom, then ``finish``."""

    def __init__(self, runs: Runs, nodata: tuple[float, ...] = ()) -> None:
        """Take runs made for the band's raster, and raw values that are no observation."""
        self._statistics = Statistics(runs, nodata)
        self._gather = Gather(runs, runs.placement, nodata, [self._statistics])

    def wanted(self, row0: int, row1: int) -> bool:
        """Say whether rows [row0, row1) hold a pixel of a parcel; others need not be fed."""
        return self._gather.wanted(row0, row1)

    def feed(self, row0: int, strip: NDArray[Any]) -> None:
        """Take rows ``row0`` and following: [rows, width of the raster]."""
        self._gather.feed(row0, strip)

    def finish(self) -> NDArray[np.float64]:
        """Return float64 [n, 8] of raw values, in the order of ``runs.geometry_ids``."""
        self._gather.finish()
        return self._statistics.result
