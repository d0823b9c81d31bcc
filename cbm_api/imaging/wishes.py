"""What requests say about pictures, understood: bands, shades, sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cbm_api.imaging import pictures
from cbm_api.imaging.pictures import Range
from cbm_api.imaging.windows import Asset, Chip
from cbm_core import bands as band_names
from cbm_core.errors import CbmError

SMALLEST_M, LARGEST_M = 20.0, 5120.0
"""Sides of squares on the ground."""
_COMPOSITES = {"s2": "B08,B04,B03", "bs": "VV", "c6": "VV", "c12": "VV"}
_MARGIN_M, _LEAST_M, _STEP_M = 200.0, 320.0, 20.0
_FARTHEST = 1e9


def side_of(parcel_side_m: float) -> float:
    """Return the side in metres of a square that shows a parcel and some of what is around it."""
    wanted = math.ceil((parcel_side_m + _MARGIN_M) / _STEP_M) * _STEP_M
    return min(max(wanted, _LEAST_M), LARGEST_M)


def chosen(
    assets: dict[str, Asset], card: str, names: Sequence[str], what: str
) -> dict[str, Asset]:
    """Return the bands of a scene that are named, in any spelling, in that order.

    Raises:
        CbmError: ``bad_parameter`` with the bands that there are.

    """
    found = {band: assets.get(band) for name in names for band in [band_names.stored(card, name)]}
    if len(found) != len(names) or None in found.values():
        there = ", ".join(sorted(assets))
        raise CbmError("bad_parameter", f"Expected different bands of {what}, which has {there}.")
    return {band: asset for band, asset in found.items() if asset}


def composite(card: str, text: str | None) -> list[str]:
    """Return the bands of a picture, one or three, by default those that suit a card.

    Raises:
        CbmError: ``bad_parameter``.

    """
    names = (text or _COMPOSITES.get(card, "")).split(",")
    if len(names) not in (1, 3) or not all(names):
        raise CbmError("bad_parameter", "Expected one band, or three for red, green and blue.")
    return names


def ranges(chip: Chip, card: str, stretch: str | None, limits: str | None) -> list[Range]:
    """Return what is black and white in each band of a picture.

    ``stretch``: two percentiles of the chip itself; ``limits``: values of all bands, or of each.

    Raises:
        CbmError: ``bad_parameter``.

    """
    if stretch and limits:
        raise CbmError("bad_parameter", "Expected stretch or range, not both.")
    if stretch:
        ((low, high),) = pairs(stretch, 1, 0.0, 100.0)
        return pictures.percentile_ranges(chip.values, low, high)
    if limits:
        found = pairs(limits, len(chip.bands), -_FARTHEST, _FARTHEST)
        return found if len(found) == len(chip.bands) else found * len(chip.bands)
    return pictures.default_ranges(card, chip.bands)


def check_lut(lut: str, bands: int) -> None:
    """Refuse what the predecessor's clients cannot mean by ``lut``.

    Raises:
        CbmError: ``bad_parameter``.

    """
    if lut.count("_") == 1:
        pairs(lut, 1, 0.0, 100.0)
    else:
        pairs(lut, bands, -_FARTHEST, _FARTHEST)


def pairs(text: str, most: int, least: float, greatest: float) -> list[Range]:
    """Read one pair of rising numbers, or ``most`` of them, with commas or underscores between.

    Raises:
        CbmError: ``bad_parameter``.

    """
    try:
        numbers = [float(part) for part in text.replace("_", ",").split(",")]
    except ValueError:
        numbers = []
    found = list(zip(numbers[::2], numbers[1::2], strict=False))
    fits = len(numbers) in (2, 2 * most) and all(least <= a < b <= greatest for a, b in found)
    if not fits:
        expected = "low,high" if most == 1 else f"low,high of all bands, or of each of {most}"
        raise CbmError(
            "bad_parameter",
            f"Expected {expected}, numbers from {least:g} to {greatest:g}; found {text[:80]!r}.",
        )
    return found
