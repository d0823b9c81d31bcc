"""The field pattern: blocks between tracks, fields within blocks, and the odd cases of real files.

Coordinates are metres in the raster's CRS. Straight cuts make convex pieces; a smooth warp then
bends all boundaries alike, so neighbours keep their common line.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from cbm_core.errors import CbmError

HECTARE = 10_000.0
MARGIN_M = 200.0  # between the raster's edge and the pattern; tiny and edge parcels stand in it
_BLOCK_HA = 45.0
_TRACK_M = 5.0
_FIELD_HA = 4.2
_LARGEST_HA = 20.0
_SMALLEST_HA = 0.05
_DENSEST_HA = 0.4
_NARROWEST_M = 18.0
_CORNER_SHARE = 0.15
_WARP_M = 22.0


@dataclass(frozen=True)
class Fields:
    """Parcels and other land of the sample, in the raster's CRS.

    ``kinds`` says per parcel what is special about it: ``plain``, ``hole``, ``parts``, ``overlap``,
    ``duplicate``, ``tiny`` (under a pixel), ``edge`` (half outside the raster), ``outside``.
    ``other`` holds pairs of (index into ``crops.OTHER_LAND``, polygon).
    """

    geometries: list[shapely.Geometry]
    kinds: list[str]
    other: list[tuple[int, shapely.Geometry]]


def make_fields(
    rng: np.random.Generator, bounds: tuple[float, float, float, float], count: int
) -> Fields:
    """Divide the rectangle (left, bottom, right, top) into ``count`` parcels and other land.

    Raises:
        CbmError: ``sample_too_dense`` when that many parcels leave less than 0.4 ha for each.

    """
    left, bottom, right, top = bounds
    area = shapely.box(left + MARGIN_M, bottom + MARGIN_M, right - MARGIN_M, top - MARGIN_M)
    if area.area * 0.8 / HECTARE / count < _DENSEST_HA:
        raise CbmError(
            "sample_too_dense",
            f"{count} parcels do not fit: {area.area / HECTARE:.0f} ha would leave less than "
            f"{_DENSEST_HA} ha for each.",
            "Ask for fewer parcels or a larger size.",
        )
    tiny, copies = max(2, count // 200), max(1, count // 400)
    added = _tiny(rng, bounds, tiny) + _outliers(bounds)
    farmed, other = _blocks(rng, area, count)
    fields = _divide(rng, farmed, count - len(added) - copies)
    kinds = _make_odd(rng, fields)
    plain = [index for index, kind in enumerate(kinds) if kind == "plain"]
    for index in rng.choice(plain, copies, replace=False):
        fields.append(fields[index])
        kinds.append("duplicate")
    bend = _warp(rng)
    fields = [bend(field) for field in fields] + [geometry for _, geometry in added]
    kinds += [kind for kind, _ in added]
    order = rng.permutation(len(fields))
    return Fields(
        [fields[index] for index in order],
        [kinds[index] for index in order],
        [(label, bend(polygon)) for label, polygon in other],
    )


def _axis(polygon: shapely.Geometry) -> tuple[npt.NDArray[np.float64], float, float]:
    """Return the unit vector along the polygon's longer side, its length and its width."""
    corners = shapely.get_coordinates(shapely.oriented_envelope(polygon))
    first, second = corners[1] - corners[0], corners[2] - corners[1]
    lengths = float(np.hypot(*first)), float(np.hypot(*second))
    longer, length = (first, lengths[0]) if lengths[0] >= lengths[1] else (second, lengths[1])
    return longer / length, length, min(lengths)


def _cut(
    polygon: shapely.Geometry, along: npt.NDArray[np.float64], share: float
) -> list[shapely.Geometry]:
    """Cut a convex polygon across ``along`` so that ``share`` of its extent lies before the cut."""
    across = np.array([-along[1], along[0]])
    coordinates = shapely.get_coordinates(polygon)
    places, sides = coordinates @ along, coordinates @ across
    where = places.min() + share * np.ptp(places)
    reach = np.ptp(sides) + np.ptp(places) + 1.0
    middle = along * where + across * sides.mean()
    edge = np.array([middle - across * reach, middle + across * reach])
    halves = [shapely.Polygon([*edge, *(edge[::-1] + way * along * reach)]) for way in (-1, 1)]
    return [shapely.intersection(polygon, half) for half in halves]


def _turned(
    rng: np.random.Generator, axis: npt.NDArray[np.float64], degrees: float
) -> npt.NDArray[np.float64]:
    angle = np.radians(rng.uniform(-degrees, degrees))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(turn @ axis)


def _blocks(
    rng: np.random.Generator, area: shapely.Geometry, count: int
) -> tuple[list[shapely.Geometry], list[tuple[int, shapely.Geometry]]]:
    """Blocks to farm, big enough together for ``count`` fields, and the rest as other land."""
    waiting, done = [area], []
    while waiting:
        piece = waiting.pop()
        if piece.area <= _BLOCK_HA * HECTARE * rng.uniform(0.6, 1.8):
            done.append(shapely.buffer(piece, -_TRACK_M, join_style="mitre"))
        else:
            axis, _, _ = _axis(piece)
            waiting += _cut(piece, _turned(rng, axis, 14), rng.uniform(0.35, 0.65))
    farmed: list[shapely.Geometry] = []
    other: list[tuple[int, shapely.Geometry]] = []
    wanted = min(count * _FIELD_HA * HECTARE, area.area * 0.88)
    for index in rng.permutation(len(done)):
        if sum(block.area for block in farmed) < wanted:
            farmed.append(done[index])
        else:
            other += list(_other_land(rng, done[index]))
    return farmed, other


def _other_land(
    rng: np.random.Generator, block: shapely.Geometry
) -> Iterator[tuple[int, shapely.Geometry]]:
    label = int(rng.choice([1, 2, 3], p=[0.4, 0.35, 0.25]))
    yield label, block
    if rng.random() < 0.4:
        lake = shapely.buffer(shapely.centroid(block), rng.uniform(0.3, 0.6) * _axis(block)[2] / 2)
        yield 4, shapely.intersection(lake, block)


def _divide(
    rng: np.random.Generator, blocks: list[shapely.Geometry], count: int
) -> list[shapely.Geometry]:
    """Cut the blocks until there are ``count`` fields; half of the blocks into parallel strips."""
    queue: list[tuple[float, int, shapely.Geometry, npt.NDArray[np.float64] | None]] = []
    serial = 0

    def put(piece: shapely.Geometry, strips: npt.NDArray[np.float64] | None) -> None:
        nonlocal serial
        urge = piece.area / HECTARE * rng.lognormal(0.0, 0.75)
        if piece.area > _LARGEST_HA * HECTARE * 0.95:
            urge += 1e6
        heapq.heappush(queue, (-urge, serial, piece, strips))
        serial += 1

    for block in blocks:
        put(block, _axis(block)[0] if rng.random() < 0.5 else None)
    final: list[shapely.Geometry] = []
    while queue and len(queue) + len(final) < count:
        _, _, piece, strips = heapq.heappop(queue)
        axis, length, width = _axis(piece)
        along = _turned(rng, axis, 8) if strips is None or length > 6 * width else strips
        # Corners cut off are what makes the small fields of under half a hectare.
        share = (0.06, 0.2) if rng.random() < _CORNER_SHARE else (0.25, 0.75)
        parts = _cut(piece, along, rng.uniform(*share))
        if all(_is_field(part) for part in parts):
            for part in parts:
                put(part, strips)
        else:
            final.append(piece)
    return final + [piece for _, _, piece, _ in sorted(queue, key=lambda entry: entry[1])]


def _is_field(piece: shapely.Geometry) -> bool:
    return bool(piece.area >= _SMALLEST_HA * HECTARE and _axis(piece)[2] >= _NARROWEST_M)


def _make_odd(rng: np.random.Generator, fields: list[shapely.Geometry]) -> list[str]:
    """Give some fields a hole, two parts, or an overlap with their neighbours; in place."""
    kinds = ["plain"] * len(fields)
    large = [
        i for i, field in enumerate(fields) if field.area > 2 * HECTARE and _axis(field)[2] > 90
    ]
    each = max(1, min(len(fields) // 80, len(large) // 4))
    picked = rng.permutation(large)
    for index in picked[:each]:
        pond = shapely.buffer(shapely.centroid(fields[index]), rng.uniform(12, 28), quad_segs=4)
        fields[index] = shapely.difference(fields[index], pond)
        kinds[index] = "hole"
    for index in picked[each : 2 * each]:
        axis, length, _ = _axis(fields[index])
        first, rest = _cut(fields[index], axis, rng.uniform(0.35, 0.6))
        second = _cut(rest, axis, 14.0 / length)[1]
        fields[index] = shapely.MultiPolygon([first, second])
        kinds[index] = "parts"
    for index in picked[2 * each : 3 * each]:
        fields[index] = shapely.buffer(fields[index], rng.uniform(6, 14), join_style="mitre")
        kinds[index] = "overlap"
    return kinds


def _tiny(
    rng: np.random.Generator, bounds: tuple[float, float, float, float], count: int
) -> list[tuple[str, shapely.Geometry]]:
    left, bottom, _, top = bounds
    made: list[tuple[str, shapely.Geometry]] = []
    for place in np.linspace(bottom + MARGIN_M, top - MARGIN_M, count):
        x = left + rng.uniform(40, 120)
        width, height = rng.choice([(4.0, 5.0), (3.0, 12.0), (8.0, 9.0)])
        y = float(place + rng.uniform(-15, 15))
        box = shapely.box(round(x, 2), round(y, 2), round(x + width, 2), round(y + height, 2))
        made.append(("tiny", box))
    return made


def _outliers(bounds: tuple[float, float, float, float]) -> list[tuple[str, shapely.Geometry]]:
    """Two parcels across the raster's eastern edge and one wholly beyond it."""
    _, bottom, right, top = bounds
    middle = (bottom + top) / 2
    return [
        ("edge", shapely.box(right - 90.5, middle + 203, right + 110, middle + 353)),
        ("edge", shapely.box(right - 60, middle - 354, right + 155, middle - 202)),
        ("outside", shapely.box(right + 400, middle - 70, right + 580, middle + 90)),
    ]


class _warp:  # noqa: N801 - used as a function
    """A smooth shift of at most about 22 m with waves of 1 to 3 km."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._waves = [
            (
                2 * np.pi / rng.uniform(1100, 3000),
                np.radians(rng.uniform(0, 360)),
                rng.uniform(0, 2 * np.pi),
                np.radians(rng.uniform(0, 360)),
            )
            for _ in range(4)
        ]

    def _shift(self, xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        moved = xy.copy()
        for number, heading, phase, push in self._waves:
            way = np.array([np.cos(heading), np.sin(heading)])
            wave = np.sin((xy @ way) * number + phase) * _WARP_M / 2
            moved += np.outer(wave, [np.cos(push), np.sin(push)])
        return np.round(moved, 2)

    def __call__(self, geometry: shapely.Geometry) -> shapely.Geometry:
        return shapely.transform(shapely.segmentize(geometry, 60.0), self._shift)
