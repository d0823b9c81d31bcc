"""Facts about Sentinel-1: cards, and what the names of products and of coherence pairs say.

Sources: Sentinel-1 Product Specification (S1-RS-MDA-52-7441), naming convention; for the relative
orbits ESA's formula, (absolute orbit - first) modulo 175 + 1.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from cbm_core.errors import CbmError
from cbm_extract.catalogue import names
from cbm_extract.catalogue.facts import Facts

BACKSCATTER = "bs"
# Days between the two images of a coherence pair.
PAIR_DAYS = {"c6": 6, "c12": 12}
CARDS = frozenset({BACKSCATTER, *PAIR_DAYS})
BANDS = ("VV", "VH")
# Processors fill what they do not see with zeros; measured power and coherence are never exactly 0.
NO_DATA = (0.0,)

_ORBITS_PER_CYCLE = 175
_FIRST_ORBIT = {"S1A": 73, "S1B": 27, "S1C": 172, "S1D": 42}
# Sentinel-1C was moved along its orbit in June 2026: from then on only metadata know its orbits.
_FORMULA_ENDS = {"S1C": datetime(2026, 6, 9, tzinfo=UTC)}

_PRODUCT = re.compile(
    r"(?<![A-Z0-9])(S1[A-Z])_(?:S[1-6]|IW|EW|WV|N[1-6]|EN)_(?:RAW|SLC|GRD|OCN)[FHM_]_\d[SAN][DSHV]{2}"
    r"_(\d{8}T\d{6})_\d{8}T\d{6}_(\d{6})_[0-9A-F]{6}(?![0-9A-F])"
)
_TIME = re.compile(r"(?<!\d)(20\d{6})(?:T(\d{6}))?(?!\d)")
_PLATFORM = re.compile(r"(?<![A-Z0-9])S1[A-Z](?![A-Z0-9])")
_ONE_LOOK = timedelta(hours=12)


def relative_orbit(platform: str, absolute_orbit: int, time: datetime) -> int | None:
    """Return the relative orbit (1 to 175), None where the platform has no formula at the time."""
    first = _FIRST_ORBIT.get(platform)
    ends = _FORMULA_ENDS.get(platform)
    if first is None or (ends and time >= ends):
        return None
    return (absolute_orbit - first) % _ORBITS_PER_CYCLE + 1


def from_name(card: str, name: str) -> Facts:
    """Return what a scene's name says: the product's own name is looked for in it."""
    if card in PAIR_DAYS:
        return _from_pair(name)
    match = _PRODUCT.search(name)
    return _of_product(match) if match else Facts()


def _of_product(match: re.Match[str]) -> Facts:
    return Facts(
        platform=match[1],
        sensing=names.compact_utc(match[2]),
        absolute_orbit=int(match[3]),
    )


def _from_pair(name: str) -> Facts:
    """Read two products' names, or the times of two images with their platforms in that order.

    Times less than twelve hours apart are of one image. Platforms may be named once, for both.
    """
    times = [
        (names.compact_utc(f"{match[1]}T{match[2] or '000000'}"), match.start())
        for match in _TIME.finditer(name)
    ]
    looks = _looks([time for time, _ in sorted(times)])
    if len(looks) != 2:
        return Facts()
    earlier, later = looks
    products = {names.compact_utc(match[2]): match for match in _PRODUCT.finditer(name)}
    if later in products:
        return replace(_of_product(products[later]), reference_time=earlier)
    platforms = _PLATFORM.findall(name)
    platform = None
    if len(set(platforms)) == 1:
        platform = platforms[0]
    elif len(platforms) == 2:
        first, second = (min(at for time, at in times if time == look) for look in looks)
        platform = platforms[1 if first < second else 0]
    return Facts(platform=platform, sensing=later, reference_time=earlier)


def pair_days(name: str) -> int | None:
    """Return how many days lie between the images that a name names, None without two of them."""
    facts = _from_pair(name)
    if facts.sensing is None or facts.reference_time is None:
        return None
    return round((facts.sensing - facts.reference_time) / timedelta(days=1))


def _looks(times: list[datetime]) -> list[datetime]:
    """Return the first time of each image, of times in rising order."""
    gaps = [after for before, after in pairwise(times) if after - before > _ONE_LOOK]
    return [*times[:1], *gaps]


def complete(card: str, facts: Facts) -> Facts:
    """Return facts with what follows from them, checked against the card.

    One product is one slice of the pass and is known by its own start, which stands for the
    datatake's too where that is not told: slices never replace each other, while a newer
    processing of the same slice does.

    Raises:
        CbmError: ``pair_incomplete``, ``pair_mismatch``.

    """
    taken = facts.sensing
    if taken is None:
        return facts
    if card in PAIR_DAYS:
        _check_pair(card, taken, facts.reference_time)
    orbit = facts.orbit
    if orbit is None and facts.platform and facts.absolute_orbit is not None:
        orbit = relative_orbit(facts.platform, facts.absolute_orbit, taken)
    return replace(
        facts,
        orbit=orbit,
        datatake=facts.datatake or taken,
        datastrip=facts.datastrip or taken,
    )


def _check_pair(card: str, later: datetime, earlier: datetime | None) -> None:
    if earlier is None:
        raise CbmError(
            "pair_incomplete",
            f"Coherence of card {card} is of two images; only that of {later:%Y-%m-%d} is named.",
            "Give the earlier one's time as `reference_time`.",
        )
    days = round((later - earlier) / timedelta(days=1))
    if days != PAIR_DAYS[card]:
        raise CbmError(
            "pair_mismatch",
            f"Card {card} is coherence of images {PAIR_DAYS[card]} days apart; these,"
            f" {earlier:%Y-%m-%d} and {later:%Y-%m-%d}, are {days} days apart.",
            f"Cards of coherence: {', '.join(f'{c} ({d} days)' for c, d in PAIR_DAYS.items())}.",
        )
