"""Reading bands from north to south, each strip once, into whatever wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cbm_core.errors import CbmError
from cbm_extract.read.strips import Band


class Target(Protocol):
    """What takes strips of several bands (:class:`cbm_extract.reduce.scene.SceneReducer`)."""

    def wanted(self, band: str, row0: int, row1: int) -> bool:
        """Say whether a band's rows [row0, row1) are needed."""

    def feed(self, band: str, row0: int, strip: NDArray[Any]) -> None:
        """Take a band's rows from ``row0``; the array is overwritten afterwards."""


class BandError(Exception):
    """A band could not be read or reduced; ``error`` says why."""

    def __init__(self, band: str, error: CbmError) -> None:
        """Keep the band's name and its error."""
        super().__init__(f"{band}: {error}")
        self.band, self.error = band, error


Strips = Iterator[tuple[int, NDArray[Any]]]


def pour(
    bands: dict[str, Band],
    target: Target,
    before: Callable[[str, NDArray[Any]], None],
) -> None:
    """Read the wanted strips of open bands side by side, from north to south.

    Bands that an index combines so stay near each other, and little is held of either. ``before``
    is told the band and the strip before the target gets it, and may raise to stop.

    Raises:
        BandError: at the first error of a band.

    """
    rows = {name: wanted_rows(name, band, target) for name, band in bands.items()}
    strips = {name: _strips(band, rows[name]) for name, band in bands.items()}
    queue: list[tuple[float, str, int]] = []
    for name, band in bands.items():
        _, _, _, _, height, top = band.header.transform
        queue += [(-(top + height * start), name, start) for start, _ in rows[name]]
    for _, name, _ in sorted(queue):
        with blamed(name):
            row0, strip = next(strips[name])
        before(name, strip)
        with blamed(name):
            target.feed(name, row0, strip)


@contextmanager
def blamed(band: str) -> Iterator[None]:
    """Say of an error which band it is about."""
    try:
        yield
    except CbmError as error:
        raise BandError(band, error) from error


def wanted_rows(name: str, band: Band, target: Target) -> list[tuple[int, int]]:
    """Return the strips of a band that the target wants, north to south."""
    return [part for part in band.strip_rows() if target.wanted(name, *part)]


def _strips(band: Band, parts: Sequence[tuple[int, int]]) -> Strips:
    """Read strips; neighbouring ones in one go, which reuses its buffer."""
    begin = 0
    for end in range(1, len(parts) + 1):
        if end == len(parts) or parts[end][0] != parts[end - 1][1]:
            yield from band.strips(parts[begin][0], parts[end - 1][1])
            begin = end


class NegativeShare:
    """Counts how many valid pixels of a band are negative in the stored unit."""

    def __init__(self, band: Band) -> None:
        """``band`` gives scale, offset and the raw values that are no observation."""
        self._nodata = band.nodata
        self._zero = -band.asset.offset / band.asset.scale
        self._negative = self._valid = 0

    def count(self, strip: NDArray[Any]) -> None:
        """Count a strip."""
        valid, negative = strip.size, int(np.count_nonzero(strip < self._zero))
        for value in self._nodata:
            absent = int(np.count_nonzero(strip == value))
            valid -= absent
            negative -= absent if value < self._zero else 0
        if strip.dtype.kind == "f":
            valid -= strip.size - int(np.count_nonzero(np.isfinite(strip)))
            negative -= int(np.count_nonzero(np.isneginf(strip)))
        self._valid += valid
        self._negative += negative

    @property
    def share(self) -> float:
        """The negative share of the valid pixels, 0 to 1."""
        return self._negative / self._valid if self._valid else 0.0
