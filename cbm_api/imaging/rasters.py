"""Reading many files for one request: a few at a time, and not for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
from flask import current_app
from numpy.typing import NDArray
from rasterio.transform import Affine

from cbm_api.imaging import backgrounds, windows
from cbm_api.imaging.windows import Asset, Chip, Place
from cbm_core.datasets.background import Background
from cbm_core.errors import CbmError
from cbm_core.remote.web import Access, Patience
from cbm_core.settings import Settings

ResultT = TypeVar("ResultT")

# Whoever would wait behind more reads than this is told to come again.
_MOST_WAITING = 512
_PIECE = 32 * 1024  # bytes; a chip needs little of a file
# What fails for one image only, so that the others can be shown.
_OF_ONE_IMAGE = frozenset({"raster_missing", "raster_damaged"})


class Rasters:
    """The readers of a worker process; threads are started by the first request."""

    def __init__(self, settings: Settings) -> None:
        """Prepare."""
        self.seconds = settings.api.raster_seconds
        patience = Patience(3, pause=0.2, connect=5.0, silence=float(self.seconds))
        self._access = Access(settings.storage, patience, _PIECE)
        self._threads = settings.api.raster_threads
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._waiting = 0

    def chip(self, assets: dict[str, Asset], place: Place, what: str) -> Chip:
        """Read the bands of one scene around a place; ``what`` names the scene.

        Raises:
            CbmError: as :meth:`chips`, ``raster_missing``, ``raster_damaged``.

        """
        (found,) = self.chips([(assets, place, what)])
        if isinstance(found, CbmError):
            raise found
        return found

    def chips(self, wanted: Sequence[tuple[dict[str, Asset], Place, str]]) -> list[Chip | CbmError]:
        """Read several, in the order given; a file of one that is missing or damaged is its error.

        Raises:
            CbmError: ``raster_unreachable``, also when it takes longer than the settings allow;
                ``busy``, ``bad_parameter``.

        """
        access = self._until()
        tasks = [
            (number, task)
            for number, (assets, place, what) in enumerate(wanted)
            for task in _by_file(assets, place, what, access)
        ]
        read = self._run([task for _, task in tasks])
        layers: list[list[windows.Layer]] = [[] for _ in wanted]
        errors: dict[int, CbmError] = {}
        for (number, _), result in zip(tasks, read, strict=True):
            if isinstance(result, CbmError):
                errors[number] = result
            else:
                layers[number] += result
        return [
            errors.get(number) or _combined(layers[number], assets, place)
            for number, (assets, place, _) in enumerate(wanted)
        ]

    def ground(
        self, background: Background, place: Place, side: int
    ) -> tuple[NDArray[np.uint8], Affine]:
        """Return what :func:`backgrounds.read` does, in time or not at all.

        Raises:
            CbmError: as :meth:`chip`.

        """
        access = self._until()
        (found,) = self._run([lambda: backgrounds.read(background, place, side, access)])
        if isinstance(found, CbmError):
            raise found
        return found

    def _until(self) -> Access:
        """Let threads end when whoever asks has gone."""
        return replace(self._access, until=time.monotonic() + self.seconds)

    def _run(self, tasks: Sequence[Callable[[], ResultT]]) -> list[ResultT | CbmError]:
        futures = self._submit(tasks)
        _, late = wait(futures, timeout=self.seconds)
        for future in late:
            future.cancel()
        if late:
            raise CbmError(
                "raster_unreachable",
                f"The images could not be read in {self.seconds} s.",
                "Ask again later, or for fewer.",
            )
        return [_result(future) for future in futures]

    def _submit(self, tasks: Sequence[Callable[[], ResultT]]) -> list[Future[ResultT]]:
        with self._lock:
            if self._waiting + len(tasks) > _MOST_WAITING:
                raise CbmError("busy", "Too many images are being read already.", "Ask again.")
            self._waiting += len(tasks)
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._threads, "cbm-raster")
            futures = [self._executor.submit(task) for task in tasks]
        for future in futures:
            future.add_done_callback(self._one_less)
        return futures

    def _one_less(self, _future: Future[ResultT]) -> None:
        with self._lock:
            self._waiting -= 1


def current() -> Rasters:
    """Return this process's readers."""
    extensions = current_app.extensions
    if "cbm_rasters" not in extensions:
        extensions.setdefault("cbm_rasters", Rasters(extensions["cbm_settings"]))
    found: Rasters = extensions["cbm_rasters"]
    return found


def _by_file(
    assets: dict[str, Asset], place: Place, what: str, access: Access
) -> list[Callable[[], list[windows.Layer]]]:
    """Return one task per file: bands of the same file are read together."""
    by_href = sorted(assets.items(), key=lambda item: item[1].href)
    groups = [
        (href, dict(bands)) for href, bands in groupby(by_href, key=lambda item: item[1].href)
    ]

    def task(href: str, bands: dict[str, Asset]) -> Callable[[], list[windows.Layer]]:
        named = f"{', '.join(bands)} of {what}"
        return lambda: windows.read(href, bands, place, named, access)

    return [task(href, bands) for href, bands in groups]


def _combined(layers: list[windows.Layer], assets: dict[str, Asset], place: Place) -> Chip:
    order = list(assets)
    return windows.combine(sorted(layers, key=lambda layer: order.index(layer.band)), place)


def _result(future: Future[Any]) -> Any:
    error = future.exception()
    if isinstance(error, CbmError) and error.code in _OF_ONE_IMAGE:
        return error
    return future.result()
