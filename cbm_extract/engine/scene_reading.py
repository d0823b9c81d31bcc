"""From a scene's files to what they say for each job: everything but the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cbm_core.errors import CbmError
from cbm_core.remote.addresses import shown
from cbm_extract.engine.areas import Area, Areas
from cbm_extract.engine.jobs import Job
from cbm_extract.engine.pouring import NegativeShare, blamed, pour, read_one
from cbm_extract.engine.slices import Classes, JobResult, tile_rank
from cbm_extract.plan.lattice import Grid, Placement, canonical_crs, place
from cbm_extract.plan.runs import Runs
from cbm_extract.read.ahead import Decoder
from cbm_extract.read.header import RasterHeader
from cbm_extract.read.strips import Band, Strip, open_band
from cbm_extract.reduce.classes import as_classes, class_counts
from cbm_extract.reduce.index_values import Calibration
from cbm_extract.reduce.indices import INDICES
from cbm_extract.reduce.mask import Cut, Mask, class_mask, cut, without_clouded
from cbm_extract.reduce.scene import BandRaster, ProductResult, SceneReducer
from cbm_extract.scene import Extent
from cbm_extract.store.work import SceneRow

# The band that betrays an offset applied twice, and the share of negative values that does.
OFFSET_BAND = "B04"
SUSPECT_OFFSET = "suspect_offset"
SUSPECT_SHARE = 0.2

MaskKey = tuple[tuple[int, ...], float]


class SuspectOffsetError(Exception):
    """The scene's pixels are not what its offset says; ``error`` is for people."""

    def __init__(self, error: CbmError) -> None:
        """Keep the error."""
        super().__init__(str(error))
        self.error = error


class SceneReading:
    """One reading of a scene for some jobs: each of their bands is opened and decoded once.

    ``beat`` is called between strips and may raise to stop the work. ``threads`` decode blocks: the
    results are the same to the bit, whatever their number.
    """

    def __init__(
        self, scene: SceneRow, areas: Areas, beat: Callable[[], None], threads: int
    ) -> None:
        """Prepare; nothing is opened yet."""
        self._scene, self._areas, self._beat = scene, areas, beat
        self._threads = threads
        self._bands: dict[str, Band] = {}
        self._rasters: dict[str, BandRaster] = {}
        self._counts: dict[Area, Classes] = {}
        self._masks: dict[MaskKey, Mask] = {}
        self._cut: dict[tuple[int, MaskKey], Cut] = {}
        self._clearest: dict[tuple[tuple[int, ...], float], list[Cut]] = {}
        self._negative: NegativeShare | None = None

    def read(self, jobs: Sequence[Job]) -> dict[int, JobResult]:
        """Return results by item id. What is wrong with one job alone is put into its ``error``.

        Raises:
            BandError: when a band cannot be read or reduced.
            SuspectOffsetError: when the pixels contradict the declared offset.

        """
        with ExitStack() as stack:
            names = dict.fromkeys(band for job in jobs for band in job.reads(self._scene))
            for name in names:
                self._open(stack, name)
            self._watch_offset(stack)
            decoder = stack.enter_context(Decoder(self._threads))
            self._read_classes(jobs, decoder)
            reducer = SceneReducer(self._rasters)
            added = [job for job in jobs if job.error is None and self._add(reducer, job)]
            self._masks.clear()
            groups = [
                {name: self._bands[name] for name in group}
                for group in _groups(reducer.bands, added)
            ]
            # The offset is judged by whole blocks, not by what parcels happen to show.
            whole = [OFFSET_BAND] if self._negative else []
            pour(groups, reducer, decoder, self._between, whole)
            self._check_offset(reducer.bands, decoder)
            results = reducer.finish()
        pairs = zip(added, results, strict=True)
        return {job.item.id: self._result(job, result) for job, result in pairs}

    def _open(self, stack: ExitStack, name: str) -> None:
        with blamed(name):
            band = stack.enter_context(open_band(self._scene.assets[name]))
            header = band.header
            _check_place(self._scene, header)
            grid = Grid(header.crs, header.transform, header.width, header.height)
            calibration = Calibration(band.nodata, band.asset.scale, band.asset.offset)
            self._bands[name] = band
            self._rasters[name] = BandRaster(place(grid), calibration)

    def _between(self, name: str, strip: Strip, values: NDArray[Any]) -> None:
        self._beat()
        if name == OFFSET_BAND and self._negative:
            self._negative.count(strip, values)

    def _add(self, reducer: SceneReducer, job: Job) -> bool:
        """Ask for a job's results; False where that is impossible."""
        product = job.product
        reads = [band for band in product.reads if band in self._rasters]
        placements = dict.fromkeys(self._rasters[band].placement for band in reads)
        try:
            runs = [self._areas.runs(job.area, placement) for placement in placements]
            hidden: list[NDArray[np.int64]] = []
            if product.mask_classes:
                cuts = self._without_mask(runs, job)
                runs, hidden = [one.runs for one in cuts], [one.hidden for one in cuts]
            reducer.add(product.bands, product.indices, runs, hidden)
        except CbmError as error:
            job.error = error
        return job.error is None

    def _without_mask(self, runs: Sequence[Runs], job: Job) -> list[Cut]:
        mask, share = _mask_key(job), job.product.min_clear_share
        for one in runs:
            if (id(one), mask) not in self._cut:
                self._cut[id(one), mask] = cut(one, self._masks[mask])
        cuts = [self._cut[id(one), mask] for one in runs]
        if share == 0:
            return cuts
        key = tuple(id(one) for one in cuts), share
        if key not in self._clearest:
            self._clearest[key] = without_clouded(cuts, share)
        return self._clearest[key]

    def _read_classes(self, jobs: Sequence[Job], decoder: Decoder) -> None:
        """Count classes and make masks; the class raster itself is not kept."""
        counting = [job for job in jobs if job.product.class_band in self._bands]
        for name in dict.fromkeys(str(job.product.class_band) for job in counting):
            mine = [job for job in counting if job.product.class_band == name]
            placement = self._rasters[name].placement
            runs: dict[Area, Runs] = {}
            for job in mine:
                try:
                    runs[job.area] = self._areas.runs(job.area, placement)
                except CbmError as error:
                    job.error = error
            # A mask with dilation reaches further than the parcels.
            masked = any(job.product.mask_classes for job in mine)
            only = None if masked else list(runs.values())
            classes = self._class_raster(name, only, decoder)
            for area, one in runs.items():
                self._counts[area] = Classes(one.geometry_ids, class_counts(one, classes))
            for job in mine:
                if job.product.mask_classes and job.error is None:
                    self._make_mask(job, placement, classes)

    def _make_mask(self, job: Job, placement: Placement, classes: NDArray[np.uint8]) -> None:
        key = _mask_key(job)
        if key not in self._masks:
            try:
                self._masks[key] = class_mask(placement, classes, *key)
            except CbmError as error:
                job.error = error

    def _class_raster(
        self, name: str, only: list[Runs] | None, decoder: Decoder
    ) -> NDArray[np.uint8]:
        """Read a class band; with ``only`` no more blocks than those runs need."""
        band = self._bands[name]
        classes = np.zeros((band.header.height, band.header.width), dtype=np.uint8)
        with blamed(name):
            strips = band.strips(only)
        for strip, values in read_one(name, strips, decoder):
            self._beat()
            with blamed(name):
                classes[strip.start : strip.stop] = as_classes(values)
        return classes

    def _watch_offset(self, stack: ExitStack) -> None:
        asset = self._scene.assets.get(OFFSET_BAND)
        if asset is None or asset.offset >= 0 or SUSPECT_OFFSET in self._scene.overruled:
            return
        if OFFSET_BAND not in self._bands:
            self._open(stack, OFFSET_BAND)
        self._negative = NegativeShare(self._bands[OFFSET_BAND])

    def _check_offset(self, poured: Sequence[str], decoder: Decoder) -> None:
        if self._negative is None:
            return
        if OFFSET_BAND not in poured:
            strips = self._bands[OFFSET_BAND].strips()
            for strip, values in read_one(OFFSET_BAND, strips, decoder):
                self._between(OFFSET_BAND, strip, values)
        share = self._negative.share
        if share > SUSPECT_SHARE:
            offset = self._bands[OFFSET_BAND].asset.offset
            raise SuspectOffsetError(
                CbmError(
                    SUSPECT_OFFSET,
                    f"In {self._scene.name} {share:.0%} of the valid {OFFSET_BAND} pixels read"
                    f" would be negative with the offset {offset:g}; expected at most"
                    f" {SUSPECT_SHARE:.0%}. It may be applied in the files already.",
                    "The scene is held. Catalogue it with the right offset, or, where the offset is"
                    " right, `cbm scenes release` it.",
                )
            )

    def _result(self, job: Job, result: ProductResult) -> JobResult:
        ids = result.geometry_ids
        reads = [band for band in job.product.reads if band in self._rasters]
        placements = dict.fromkeys(self._rasters[band].placement for band in reads)
        imaged = [self._areas.runs(job.area, placement) for placement in placements]
        counts = self._counts.get(job.area) if job.product.class_band else None
        return JobResult(
            result,
            tile_rank(ids, imaged, self._areas.out_of_zone(job.item.dataset_id)),
            counts.of(ids) if counts else None,
        )


def _check_place(scene: SceneRow, header: RasterHeader) -> None:
    """Refuse a raster that is not where the scene is: it would show no parcel, without a word."""
    there, here = scene.extent, header.extent
    same_crs = canonical_crs(there.crs) == canonical_crs(here.crs)
    left, bottom, right, top = there.bounds
    west, south, east, north = here.bounds
    if same_crs and west < right and left < east and south < top and bottom < north:
        return
    raise CbmError(
        "raster_misplaced",
        f"{shown(header.href)} covers {_rectangle(here)}; expected a raster within"
        f" {_rectangle(there)}, where {scene.name} is catalogued.",
        "Put the right file there, or catalogue the scene anew, then retry.",
    )


def _rectangle(extent: Extent) -> str:
    bounds = ", ".join(f"{value:.10g}" for value in extent.bounds)
    return f"({bounds}) in {extent.crs}"


def _mask_key(job: Job) -> MaskKey:
    return job.product.mask_classes, job.product.mask_dilation_m


def _groups(bands: Sequence[str], jobs: Sequence[Job]) -> list[list[str]]:
    """Sort bands into groups to be read side by side: those that indices combine, or one alone."""
    group_of = {band: {band} for band in bands}
    for name in {index for job in jobs for index in job.product.indices}:
        together: set[str] = set()
        for band in INDICES[name].bands:
            together |= group_of.get(band, set())
        for band in together:
            group_of[band] = together
    groups: list[list[str]] = []
    for band in bands:
        group = [other for other in bands if other in group_of[band]]
        if group not in groups:
            groups.append(group)
    return groups
