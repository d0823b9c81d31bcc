"""Boxes in degrees."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Degrees are at least as long as this, those of longitude at the equator.
_METRES_PER_DEGREE = 110_500
_HIGHEST = 89.0


def widened(bounds: Sequence[float], metres: float) -> dict[str, float]:
    """Return bounds (west, south, east, north in degrees) with all within metres of them."""
    west, south, east, north = bounds
    high = metres / _METRES_PER_DEGREE
    wide = high / math.cos(math.radians(min(max(abs(south), abs(north)) + high, _HIGHEST)))
    return {
        "west": west - wide,
        "south": south - high,
        "east": east + wide,
        "north": north + high,
    }
