"""All products of all datasets of one scene, from one pass over each band.

The engine opens the bands and drives::

    reducer = SceneReducer({"B04": BandRaster(placement, Calibration((0.0,), 1.0, -1000.0)), ...})
    reducer.add(product.bands, product.indices, runs, hidden)   # for each dataset and product
    for band, row0, strip in strips:
        reducer.feed(band, row0, strip)
    results = reducer.finish()

Bands may be fed one after the other, in turn strip by strip, or each from a thread of its own: the
results are the same to the bit. Least memory is taken by feeding the bands that an index combines
in turn, and all others one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cbm_extract.plan.lattice import Placement, nest
from cbm_extract.plan.runs import Runs
from cbm_extract.reduce.gather import Consumer, Gather
from cbm_extract.reduce.index_values import Calibration, IndexReducer
from cbm_extract.reduce.indices import INDICES, Index
from cbm_extract.reduce.output import Output, ProductResult
from cbm_extract.reduce.statistics import Statistics, ValidCounter
from cbm_extract.reduce.validity import to_stored_unit

__all__ = ["BandRaster", "ProductResult", "SceneReducer"]


@dataclass(frozen=True)
class BandRaster:
    """A band that the scene has: where its raster lies, and what its raw values mean."""

    placement: Placement
    calibration: Calibration


@dataclass(frozen=True)
class _Request:
    bands: tuple[str, ...]
    indices: tuple[Index, ...]
    runs: dict[Placement, Runs]
    hidden: dict[Placement, NDArray[np.int64]]

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
        self._outputs: list[Output] = []
        # By band (or index) and identity of the runs, which the requests keep alive.
        self._statistics: dict[tuple[str, int], Statistics] = {}
        self._counters: dict[tuple[str, int], ValidCounter] = {}
        self._indices: dict[tuple[str, int], IndexReducer] = {}
        self._attached: dict[str, dict[int, tuple[Runs, list[Consumer]]]] = {}
        self._gathers: dict[str, list[Gather]] = {}
        self._open: set[str] | None = None  # bands not yet complete, once started
        self._lock = Lock()

    def add(
        self,
        bands: Sequence[str],
        indices: Sequence[str],
        runs: Sequence[Runs],
        hidden: Sequence[NDArray[np.int64]] = (),
    ) -> None:
        """Ask for a product of a dataset, before the first strip.

        ``runs`` are the planned pixels after the mask, one for each placement of the bands the
        product reads; ``hidden`` int64 [n] are the numbers of imaged pixels that the mask took from
        each of them, in the same order, nothing where it masks nothing. Hand over the same objects
        where products share runs.

        Raises CbmError ``grids_not_nested`` where an index combines bands whose grids do not nest.
        """
        if self._open is not None:
            raise RuntimeError("products are added before the first strip")
        request = _Request(
            tuple(bands),
            tuple(INDICES[name] for name in indices),
            {one.placement: one for one in runs},
            dict(zip((one.placement for one in runs), hidden, strict=len(hidden) > 0)),
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

    def wanted_runs(self, band: str) -> list[Runs]:
        """Return the pixels of a band's own raster that any product needs; no other is looked at.

        Of rows that are ``wanted`` other pixels may have any value.
        """
        self._start()
        return [gather.wanted_runs() for gather in self._gathers.get(band, [])]

    def feed(self, band: str, row0: int, strip: NDArray[Any]) -> None:
        """Take a band's rows from ``row0``: raw values [rows, width], top to bottom.

        Rows that are not ``wanted`` may be left out. The array may be reused afterwards.
        Raises CbmError ``dtype_unsupported``; ValueError where a wanted row was left out.
        """
        self._start()
        for gather in self._gathers[band]:
            gather.feed(row0, strip)
        if row0 + len(strip) == self._bands[band].placement.height:
            self._complete(band)

    def finish(self) -> list[ProductResult]:
        """Return the results, in the order of ``add``; ValueError where wanted rows are missing."""
        for band in self.bands:
            self._complete(band)
        results = [output.result() for output in self._outputs]
        self._outputs.clear()
        return results

    def _start(self) -> None:
        if self._open is not None:
            return
        for request in self._requests:
            for band in self._had(request.bands):
                self._want_statistics(band, request.runs)
            for index in self._possible(request):
                self._want_index(index, request.runs)
        for request in self._requests:
            reads = self._had(request.reads)
            for band in reads:
                self._want_count(band, request.runs)
            runs = [request.runs[self._bands[band].placement] for band in reads]
            self._outputs.append(Output(runs, len(request.bands) + len(request.indices)))
        for band, attached in self._attached.items():
            raster = self._bands[band]
            self._gathers[band] = [
                Gather(runs, raster.placement, raster.calibration.nodata, consumers)
                for runs, consumers in attached.values()
            ]
        self._attached.clear()
        self._open = set(self._gathers)

    def _had(self, bands: Sequence[str]) -> list[str]:
        return [band for band in bands if band in self._bands]

    def _possible(self, request: _Request) -> list[Index]:
        return [one for one in request.indices if all(band in self._bands for band in one.bands)]

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

    def _complete(self, band: str) -> None:
        """Put a band, and the indices that waited for it, into the outputs; free its memory."""
        for gather in self._gathers[band]:
            gather.finish()
        with self._lock:
            if self._open is None or band not in self._open:
                return
            self._open.remove(band)
            done: list[tuple[str, int]] = []
            for request, output in zip(self._requests, self._outputs, strict=True):
                if band in request.reads:
                    self._put_band(band, request, output)
                for index in self._possible(request):
                    if band in index.bands and self._open.isdisjoint(index.bands):
                        done.append(self._put_index(index, request, output))
            self._gathers[band] = []
            for kept in (self._statistics, self._counters):
                for key in [key for key in kept if key[0] == band]:
                    del kept[key]
            for key in set(done):
                del self._indices[key]

    def _put_band(self, band: str, request: _Request, output: Output) -> None:
        raster = self._bands[band]
        runs = request.runs[raster.placement]
        output.count(runs, self._valid(band, runs), request.hidden.get(raster.placement, 0))
        if band in request.bands:
            raw = self._statistics[band, id(runs)].result
            scale, offset = raster.calibration.scale, raster.calibration.offset
            output.put(request.bands.index(band), runs, to_stored_unit(raw, scale, offset))

    def _put_index(self, index: Index, request: _Request, output: Output) -> tuple[str, int]:
        runs = request.runs[self._coarsest(index)]
        key = index.name, id(runs)
        variable = len(request.bands) + request.indices.index(index)
        output.put(variable, runs, self._indices[key].result())
        return key

    def _valid(self, band: str, runs: Runs) -> NDArray[np.int64]:
        key = band, id(runs)
        if key in self._statistics:
            return self._statistics[key].result[:, 0].astype(np.int64)
        return self._counters[key].counts
