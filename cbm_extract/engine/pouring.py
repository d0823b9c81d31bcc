"""Reading bands from north to south, each wanted block once, into whatever wants it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cbm_core.errors import CbmError
from cbm_extract.plan.runs import Runs
from cbm_extract.read.ahead import Decoder
from cbm_extract.read.strips import Band, Strip


class Target(Protocol):
    """What takes strips of several bands (:class:`cbm_extract.reduce.scene.SceneReducer`)."""

    def wanted_runs(self, band: str) -> list[Runs]:
        """Return the pixels of a band that are needed, in its own raster."""

    def feed(self, band: str, row0: int, strip: NDArray[Any]) -> None:
        """Take a band's rows from ``row0``; the array is overwritten afterwards."""


class BandError(Exception):
    """A band could not be read or reduced; ``error`` says why."""

    def __init__(self, band: str, error: CbmError) -> None:
        """Keep the band's name and its error."""
        super().__init__(f"{band}: {error}")
        self.band, self.error = band, error


Before = Callable[[str, Strip, NDArray[Any]], None]


def pour(
    groups: Sequence[dict[str, Band]],
    target: Target,
    decoder: Decoder,
    before: Before,
    whole: Collection[str] = (),
) -> None:
    """Read the wanted strips of open bands, group by group; those of a group side by side.

    Bands that an index combines so stay near each other, and little is held of either. The first
    strips of a group are decoded while the last ones of that before are reduced. ``before`` is told
    the band, the strip and its values before the target gets them, and may raise to stop. Blocks of
    the bands ``whole`` are decoded entirely, also where few of their pixels are wanted.

    Raises:
        BandError: at the first error of a band.

    """
    asked: deque[str] = deque()
    with closing(decoder.decode(_wanted(groups, target, whole, asked))) as decoded:
        while True:
            try:
                found = next(decoded, None)
            except CbmError as error:
                raise BandError(asked[0], error) from error
            if found is None:
                return
            name, (strip, values) = asked.popleft(), found
            before(name, strip, values)
            with blamed(name):
                target.feed(name, strip.start, values)


def _wanted(
    groups: Sequence[dict[str, Band]],
    target: Target,
    whole: Collection[str],
    asked: deque[str],
) -> Iterator[Strip]:
    """Yield the strips to be read in their order, and note whose they are."""
    for number, bands in enumerate(groups):
        # The next group's remote files are fetched while this one's are decoded.
        for name, band in [pair for group in groups[number : number + 2] for pair in group.items()]:
            with blamed(name):
                band.begin(target.wanted_runs(name))
        queue: list[tuple[float, str, Strip]] = []
        for name, band in bands.items():
            _, _, _, _, height, top = band.header.transform
            with blamed(name):
                strips = band.strips(target.wanted_runs(name), name in whole)
            queue += [(-(top + height * strip.start), name, strip) for strip in strips]
        for _, name, strip in sorted(queue, key=lambda one: one[:2]):
            asked.append(name)
            yield strip


def read_one(
    name: str, strips: Sequence[Strip], decoder: Decoder
) -> Iterator[tuple[Strip, NDArray[Any]]]:
    """Read strips of one band; the next step overwrites the values.

    Raises:
        BandError: at the first error.

    """
    with closing(decoder.decode(strips)) as decoded:
        while True:
            with blamed(name):
                found = next(decoded, None)
            if found is None:
                return
            yield found


@contextmanager
def blamed(band: str) -> Iterator[None]:
    """Say of an error which band it is about."""
    try:
        yield
    except CbmError as error:
        raise BandError(band, error) from error


class NegativeShare:
    """Counts how many valid pixels of a band are negative in the stored unit."""

    def __init__(self, band: Band) -> None:
        """``band`` gives scale, offset and the raw values that are no observation."""
        self._nodata = band.nodata
        self._zero = -band.asset.offset / band.asset.scale
        self._negative = self._valid = 0

    def count(self, strip: Strip, values: NDArray[Any]) -> None:
        """Count the decoded blocks of a strip."""
        for block in strip.blocks:
            self._count(strip.block(values, *block))

    def _count(self, pixels: NDArray[Any]) -> None:
        valid, negative = pixels.size, int(np.count_nonzero(_below(pixels, self._zero)))
        for value in self._nodata:
            absent = int(np.count_nonzero(pixels == pixels.dtype.type(value)))
            valid -= absent
            negative -= absent if value < self._zero else 0
        if pixels.dtype.kind == "f":
            valid -= pixels.size - int(np.count_nonzero(np.isfinite(pixels)))
            negative -= int(np.count_nonzero(np.isneginf(pixels)))
        self._valid += valid
        self._negative += negative

    @property
    def share(self) -> float:
        """The negative share of the valid pixels, 0 to 1."""
        return self._negative / self._valid if self._valid else 0.0


def _below(pixels: NDArray[Any], limit: float) -> NDArray[np.bool_]:
    """Compare in the pixels' own type: several times as fast as in float64."""
    if pixels.dtype.kind == "f":
        return np.asarray(pixels < limit)
    # NumPy compares integers with any Python integer, also beyond their type.
    return np.asarray(pixels < math.ceil(limit))
