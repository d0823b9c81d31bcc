"""All products of all datasets of one scene, from one pass over each band.

The engine opens the bands and drives::

    reducer = SceneReducer({"B04": BandRaster(placement, Calibration((0.0,), 1.0, -1000.0)), ...})
    reducer.add(product.bands, product.indices, runs, imaged)   # for each dataset and product
    for band in reducer.bands:
        for row0, strip in strips_of(band):
            reducer.feed(band, row0, strip)
    results = reducer.finish()

Bands may be fed one after the other, in turn strip by strip, or each from a thread of its own.
In turn takes the least memory where products have indices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cbm_extract.plan.lattice import Placement, nest
from cbm_extract.plan.runs import Runs
from cbm_extract.reduce.gather import Consumer, Gather
from cbm_extract.reduce.index_values import Calibration, IndexReducer
from cbm_extract.reduce.indices import INDICES, Index
from cbm_extract.reduce.statistics import STATISTICS, Statistics, ValidCounter
from cbm_extract.reduce.validity import to_stored_unit


@dataclass(frozen=True)
class BandRaster:
    """A band that the scene has: where its raster lies, and what its raw values mean."""

    placement: Placement
    calibration: Calibration


@dataclass(frozen=True)
class ProductResult:
    """What one scene says about a dataset's geometries under one product.

    geometry_ids int32 [n], rising: those with ``px_imaged`` > 0. ``stats`` float32 [n, variables *
    8] in stored units (indices in their own), variables in the order of bands, then indices:
    count 0 and NaN where a variable has no value. px_imaged, px_clear int32 [n]: the largest number
    of valid pixels that any band the product reads has, before and after the mask.
    """

    geometry_ids: NDArray[np.int32]
    stats: NDArray[np.float32]
    px_imaged: NDArray[np.int32]
    px_clear: NDArray[np.int32]


@dataclass(frozen=True)
class _Request:
    bands: tuple[str, ...]
    indices: tuple[Index, ...]
    runs: dict[Placement, Runs]
    imaged: dict[Placement, Runs]

    @property
    def reads(self) -> tuple[str, ...]:
        """The product's bands and those of its indices, each once."""
        return tuple(dict.fromkeys([*self.bands, *(b for i in self.indices for b in i.bands)]))


class SceneReducer:
    """See the module. The values of a band at the same runs are gathered once for all products."""

    def __init__(self, bands: Mapping[str, BandRaster]) -> None:
        """``bands`` are those that the scene has; others are reported as without a value."""
        self._bands = dict(bands)
        self._requests: list[_Request] = []
        self._started = False
        # By band and identity of the runs (which the requests keep alive).
        self._statistics: dict[tuple[str, int], Statistics] = {}
        self._counters: dict[tuple[str, int], ValidCounter] = {}
        self._indices: dict[tuple[str, int], IndexReducer] = {}
        self._attached: dict[str, dict[int, tuple[Runs, list[Consumer]]]] = {}
        self._gathers: dict[str, list[Gather]] = {}

    def add(
        self,
        bands: Sequence[str],
        indices: Sequence[str],
        runs: Sequence[Runs],
        imaged: Sequence[Runs] | None = None,
    ) -> None:
        """Ask for a product of a dataset, before the first strip.

        ``runs`` are the planned pixels after the mask, one for each placement of the bands the
        product reads; ``imaged`` the same before the mask, None where it masks nothing. Hand over
        the same objects where products share runs.

        Raises CbmError ``grids_not_nested`` where an index combines bands whose grids do not nest.
        """
        if self._started:
            raise RuntimeError("products are added before the first strip")
        request = _Request(
            tuple(bands),
            tuple(INDICES[name] for name in indices),
            {one.placement: one for one in runs},
            {one.placement: one for one in (runs if imaged is None else imaged)},
        )
        for index in self._possible(request):
            coarsest = self._coarsest(index)
            for band in index.bands:
                nest(self._bands[band].placement, coarsest)
        self._requests.append(request)

    @property
    def bands(self) -> list[str]:
        """The bands to feed, in the order of the mapping given."""
        self._start()
        return [band for band in self._bands if band in self._gathers]

    def wanted(self, band: str, row0: int, row1: int) -> bool:
        """Say whether a band's rows [row0, row1) hold a pixel of any product."""
        self._start()
        return any(gather.wanted(row0, row1) for gather in self._gathers[band])

    def feed(self, band: str, row0: int, strip: NDArray[Any]) -> None:
        """Take a band's rows from ``row0``: raw values [rows, width], top to bottom.

        Rows that are not ``wanted`` may be left out. The array may be reused afterwards.
        Raises CbmError ``dtype_unsupported``; ValueError where a wanted row was left out.
        """
        self._start()
        for gather in self._gathers[band]:
            gather.feed(row0, strip)

    def finish(self) -> list[ProductResult]:
        """Return the results, in the order of ``add``; ValueError where wanted rows are missing."""
        self._start()
        for gathers in self._gathers.values():
            for gather in gathers:
                gather.finish()
        return [self._result(request) for request in self._requests]

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        for request in self._requests:
            for band in filter(self._bands.__contains__, request.bands):
                self._want_statistics(band, request.runs)
            for index in self._possible(request):
                self._want_index(index, request.runs)
        for request in self._requests:
            for band in filter(self._bands.__contains__, request.reads):
                self._want_count(band, request.runs)
                self._want_count(band, request.imaged)
        for band, attached in self._attached.items():
            raster = self._bands[band]
            self._gathers[band] = [
                Gather(runs, raster.placement, raster.calibration.nodata, consumers)
                for runs, consumers in attached.values()
            ]

    def _possible(self, request: _Request) -> list[Index]:
        return [
            index for index in request.indices if all(band in self._bands for band in index.bands)
        ]

    def _coarsest(self, index: Index) -> Placement:
        return max(
            (self._bands[band].placement for band in index.bands),
            key=lambda placement: placement.lattice.xres,
        )

    def _want_statistics(self, band: str, by_placement: dict[Placement, Runs]) -> None:
        raster = self._bands[band]
        runs = by_placement[raster.placement]
        if (band, id(runs)) not in self._statistics:
            statistics = Statistics(runs, raster.calibration.nodata)
            self._statistics[band, id(runs)] = statistics
            self._attach(band, runs, statistics)

    def _want_index(self, index: Index, by_placement: dict[Placement, Runs]) -> None:
        runs = by_placement[self._coarsest(index)]
        if (index.name, id(runs)) not in self._indices:
            calibrations = [self._bands[band].calibration for band in index.bands]
            reducer = IndexReducer(index, runs, calibrations)
            self._indices[index.name, id(runs)] = reducer
            for band, consumer in zip(index.bands, reducer.inputs, strict=True):
                self._attach(band, runs, consumer)

    def _want_count(self, band: str, by_placement: dict[Placement, Runs]) -> None:
        raster = self._bands[band]
        runs = by_placement[raster.placement]
        key = band, id(runs)
        if key not in self._statistics and key not in self._counters:
            self._counters[key] = ValidCounter(runs, raster.calibration.nodata)
            self._attach(band, runs, self._counters[key])

    def _attach(self, band: str, runs: Runs, consumer: Consumer) -> None:
        attached = self._attached.setdefault(band, {})
        attached.setdefault(id(runs), (runs, []))[1].append(consumer)

    def _result(self, request: _Request) -> ProductResult:
        reads = [band for band in request.reads if band in self._bands]
        placements = {self._bands[band].placement for band in reads}
        every = [request.imaged[placement].geometry_ids for placement in placements]
        ids = np.unique(np.concatenate(every)) if every else np.empty(0, dtype=np.int32)
        imaged = self._most_valid(request.imaged, reads, ids)
        clear = self._most_valid(request.runs, reads, ids)
        keep = imaged > 0
        stats = self._stored(request, ids)[keep]
        return ProductResult(ids[keep], stats, imaged[keep], clear[keep])

    def _stored(self, request: _Request, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Lay out the statistics of all variables in stored units, [ids, variables * 8]."""
        variables = len(request.bands) + len(request.indices)
        stats = np.full((len(ids), variables, len(STATISTICS)), np.nan, dtype=np.float32)
        stats[:, :, 0] = 0.0
        for k, band in enumerate(request.bands):
            if band in self._bands:
                raster = self._bands[band]
                runs = request.runs[raster.placement]
                raw = self._statistics[band, id(runs)].result
                scale, offset = raster.calibration.scale, raster.calibration.offset
                at = np.searchsorted(ids, runs.geometry_ids)
                stats[at, k] = to_stored_unit(raw, scale, offset)
        for index in self._possible(request):
            k = len(request.bands) + request.indices.index(index)
            runs = request.runs[self._coarsest(index)]
            at = np.searchsorted(ids, runs.geometry_ids)
            stats[at, k] = self._indices[index.name, id(runs)].result()
        return stats.reshape(len(ids), variables * len(STATISTICS))

    def _most_valid(
        self, by_placement: dict[Placement, Runs], reads: list[str], ids: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        most = np.zeros(len(ids), dtype=np.int32)
        for band in reads:
            runs = by_placement[self._bands[band].placement]
            key = band, id(runs)
            counts = (
                self._statistics[key].result[:, 0]
                if key in self._statistics
                else self._counters[key].counts
            )
            at = np.searchsorted(ids, runs.geometry_ids)
            most[at] = np.maximum(most[at], counts.astype(np.int32))
        return most
