"""Coordinate reference systems of requests and answers, by their OGC names.

Coordinates come and go in the axis order that a system defines: EPSG:4326 has latitude first, CRS84
longitude; many national systems have northing first.
(OGC API - Features, part 2, https://docs.ogc.org/is/18-058r1/18-058r1.html)
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from cbm_core.errors import CbmError

CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
_EPSG = "http://www.opengis.net/def/crs/EPSG/0/"
_EVERYWHERE = (4326, 3857)
# Edges of a box are straight in its own system only.
_STEPS = 16
Ring = list[tuple[float, float]]
# A box without width or height is still a place: 0.1 mm.
_THIN = {True: 1e-9, False: 1e-4}
_NUMBER = re.compile(r"[+-]?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True)
class Crs:
    """A system by name and EPSG code; ``north_first`` when its first axis points north."""

    uri: str
    srid: int
    north_first: bool

    @property
    def digits(self) -> int:
        """Decimals of a coordinate that tell a millimetre."""
        return 8 if self.srid == 4326 else 3


def uri(srid: int) -> str:
    """Return the name of a system with an EPSG code."""
    return f"{_EPSG}{srid}"


def offered(storage: int | None) -> list[str]:
    """Return the names of the systems that parcels are given in, ``storage`` (the file's) last."""
    codes = dict.fromkeys([*_EVERYWHERE, storage])
    return [CRS84, *(uri(code) for code in codes if code is not None)]


def require(name: str, storage: int | None, parameter: str) -> Crs:
    """Return the system of a name.

    Raises:
        CbmError: ``bad_parameter`` when it is not offered.

    """
    if name == CRS84:
        return Crs(name, 4326, north_first=False)
    if name in offered(storage):
        srid = int(name.removeprefix(_EPSG))
        return Crs(name, srid, _north_first(srid))
    raise CbmError(
        "bad_parameter",
        f"{parameter} is {name[:80]!r}; expected one of {', '.join(offered(storage))}.",
    )


def known(srid: int) -> bool:
    """Whether a code is EPSG's: other systems of imported files have numbers of our own."""
    try:
        _north_first(srid)
    except CRSError:
        return False
    return True


def box(text: str, crs: Crs) -> str:
    """Return a box as EWKT in EPSG:4326: ``minx,miny,maxx,maxy``, or six numbers with heights.

    The first and second number are in the order of the system's axes. A box in degrees whose west
    is greater than its east crosses the antimeridian.

    Raises:
        CbmError: ``bad_parameter``.

    """
    parts = text.split(",")
    numbers = [float(part) for part in parts if _NUMBER.fullmatch(part)]
    if (
        len(numbers) != len(parts)
        or len(parts) not in {4, 6}
        or not all(map(math.isfinite, numbers))
    ):
        raise _bad(text, "expected four numbers with commas between")
    half = len(numbers) // 2
    low, high = numbers[:2], numbers[half : half + 2]
    if crs.north_first:
        low, high = low[::-1], high[::-1]
    thin = _THIN[crs.srid == 4326]
    high = [b + thin if a == b else b for a, b in zip(low, high, strict=True)]
    rings = _geographic(text, low, high) if crs.srid == 4326 else [_projected(text, low, high, crs)]
    polygons = (f"(({','.join(f'{x!r} {y!r}' for x, y in ring)}))" for ring in rings)
    return f"SRID=4326;MULTIPOLYGON({','.join(polygons)})"


def _geographic(text: str, low: list[float], high: list[float]) -> list[Ring]:
    (west, south), (east, north) = low, high
    if not (-90 <= south <= north <= 90 and -180 <= west <= 180 and -180 <= east <= 180):
        raise _bad(text, "expected degrees, the lower latitude first")
    spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    return [
        [(left, south), (right, south), (right, north), (left, north), (left, south)]
        for left, right in spans
    ]


def _projected(text: str, low: list[float], high: list[float], crs: Crs) -> Ring:
    (left, bottom), (right, top) = low, high
    if left > right or bottom > top:
        raise _bad(text, "expected the lower corner first")
    corners = [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
    points = [
        (x0 + (x1 - x0) * step / _STEPS, y0 + (y1 - y0) * step / _STEPS)
        for (x0, y0), (x1, y1) in pairwise(corners)
        for step in range(_STEPS)
    ]
    xs, ys = _to_degrees(crs.srid).transform([x for x, _ in points], [y for _, y in points])
    ring = [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
    if not all(math.isfinite(x) and math.isfinite(y) for x, y in ring):
        raise _bad(text, "expected a box within the area of the system")
    return [*ring, ring[0]]


def _bad(text: str, expected: str) -> CbmError:
    return CbmError("bad_parameter", f"bbox is {text[:80]!r}; {expected}.")


@lru_cache(maxsize=64)
def _north_first(srid: int) -> bool:
    axes = CRS.from_epsg(srid).axis_info
    return bool(axes) and axes[0].direction.lower() in {"north", "south"}


@lru_cache(maxsize=64)
def _to_degrees(srid: int) -> Transformer:
    return Transformer.from_crs(srid, 4326, always_xy=True)
