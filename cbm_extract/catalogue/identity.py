"""Which products show the same acquisition, and which of them is the one in use. Pure.

An acquisition is (card, platform, datatake start, tile, part) and, within it, the datastrip. Among
its products the newest by (baseline, generation time) is in use; N9999, the baseline of test
processing, ranks lowest. Different datastrips never supersede each other: each shows another part
of the tile. Where a datastrip is unknown, a product of another baseline supersedes, and one of the
same baseline only if its footprint covers the older one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import shapely
from shapely.geometry.base import BaseGeometry

from cbm_extract.catalogue import footprint, names
from cbm_extract.scene import Scene

# Two processings of the same data draw the edge of the imaged area a little differently; two
# datastrips of one tile differ by far more. Share of the older footprint that may stay uncovered.
COVER_TOLERANCE = 0.01


class Acquisition(NamedTuple):
    """What one look of a platform at one tile (and chip) is known by; times in whole seconds."""

    card: str
    platform: str
    datatake_start: datetime
    tile: str
    part: str


@dataclass(frozen=True)
class Candidate:
    """What decides between the products of one acquisition.

    ``datastrip`` is the sensing start in whole seconds, None where unknown; ``only_datastrip``
    says that the acquisition is known to have a single one. ``footprint`` is the imaged area in
    EPSG:4326, None where only the raster's rectangle is known: that covers everything and proves
    nothing.
    """

    reference: str
    baseline: str | None = None
    generation_time: datetime | None = None
    datastrip: datetime | None = None
    only_datastrip: bool = False
    footprint: BaseGeometry | None = None


def acquisition(scene: Scene) -> Acquisition:
    """Return what a scene's acquisition is known by."""
    start = names.whole_second(scene.datatake_start)
    return Acquisition(scene.card, scene.platform, start, scene.tile, scene.part)


def candidate(scene: Scene) -> Candidate:
    """Return what decides about a scene.

    A datastrip equal to the datatake's start is how a source says that there is only one
    (a datastrip's own start lies seconds away from it).
    """
    datastrip = scene.datastrip and names.whole_second(scene.datastrip)
    only = datastrip == names.whole_second(scene.datatake_start)
    rectangle = scene.footprint == footprint.from_extent(scene.extent)
    return Candidate(
        reference=scene.reference,
        baseline=scene.baseline,
        generation_time=scene.generation_time,
        datastrip=None if only else datastrip,
        only_datastrip=only,
        footprint=None if rectangle else shapely.from_wkb(scene.footprint),
    )


def rank(product: Candidate) -> tuple[int, datetime, str]:
    """Return what orders the products of an acquisition; the newest is the greatest.

    An unknown baseline ranks above N9999 and below all others; the reference decides ties, so
    that the order is total.
    """
    number = names.baseline_number(product.baseline)
    if number is None:
        number = -2 if product.baseline == "N9999" else -1
    oldest = datetime.min.replace(tzinfo=UTC)
    return number, product.generation_time or oldest, product.reference


def supersedes(newer: Candidate, older: Candidate) -> bool:
    """Tell whether a product takes the place of another one of the same acquisition."""
    if rank(newer) <= rank(older):
        return False
    if newer.only_datastrip or older.only_datastrip:
        return True
    if newer.datastrip is not None and older.datastrip is not None:
        return newer.datastrip == older.datastrip
    if None not in (newer.baseline, older.baseline) and newer.baseline != older.baseline:
        return True
    return covers(newer.footprint, older.footprint)


def covers(newer: BaseGeometry | None, older: BaseGeometry | None) -> bool:
    """Tell whether an imaged area covers another but for a sliver; unknown areas do not."""
    if newer is None or older is None:
        return False
    return bool(older.difference(newer).area <= COVER_TOLERANCE * older.area)


def resolve(products: Iterable[Candidate]) -> dict[str, str | None]:
    """Decide among all products of one acquisition.

    Returns, per reference, the reference of the product that supersedes it, None for those in
    use. A product falls only to one that is in use itself, so nothing is hidden by a product that
    is itself hidden. The answer depends on the set alone, not on the order of its arrival.
    """
    in_use: list[Candidate] = []
    result: dict[str, str | None] = {}
    for product in sorted(products, key=rank, reverse=True):
        winner = next((other for other in in_use if supersedes(other, product)), None)
        result[product.reference] = winner.reference if winner else None
        if winner is None:
            in_use.append(product)
    return result
