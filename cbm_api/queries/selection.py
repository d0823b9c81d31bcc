"""Which parcels a bulk request means: those with given ids, those that meet a polygon, or all.

A country has millions: they are looked up piece by piece, and no further than is needed.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cbm_api.queries import areas
from cbm_api.queries.datasets import Dataset
from cbm_api.queries.signatures import unknown
from cbm_core.db import Cursor

# Rows of a piece, and geometries near a polygon that are looked at for one.
PIECE = 10_000


@dataclass(frozen=True)
class Selection:
    """Parcels of a dataset as known now; ``polygon`` is GeoJSON in degrees (CRS84)."""

    dataset: Dataset
    pids: Sequence[str] | None = None
    polygon: str | None = None

    def surely_exceeds(self, most: int) -> bool:
        """Say whether there are more than ``most`` parcels, where that is known without looking."""
        if self.pids is not None:
            return len(set(self.pids)) > most
        return self.polygon is None and self.dataset.parcels > most

    def up_to(self, cursor: Cursor, most: int) -> list[int] | None:
        """Return the ids of the parcels' rows, by geometry; None where they are more than ``most``.

        Raises:
            CbmError: ``parcel_unknown`` when there are none of some ids; as
                :func:`cbm_api.queries.areas.usable`.

        """
        if self.pids is None and self.surely_exceeds(most):
            return None
        found: list[int] = []
        for piece in self._pieces(cursor):
            found += piece
            if len(found) > most:
                return None
        return found

    def all(self, cursor: Cursor) -> array[int]:
        """Return the ids of all the parcels' rows, by geometry, in 8 bytes each.

        Raises:
            CbmError: as :meth:`up_to`.

        """
        found = array("q")
        for piece in self._pieces(cursor):
            found.extend(piece)
        return found

    def _pieces(self, cursor: Cursor) -> Iterator[list[int]]:
        values = {"dataset": self.dataset.id, "layer": self.dataset.layer}
        if self.pids is not None:
            yield _named(cursor, values, self.pids)
        elif self.polygon is not None:
            yield from _within(cursor, values, areas.usable(cursor, self.polygon))
        else:
            yield from _everywhere(cursor, values)


_OF_LAYER = "p.dataset_id = %(dataset)s AND p.layer = %(layer)s AND p.known_to = 'infinity'"
_EVERYWHERE = f"""
DECLARE chosen NO SCROLL CURSOR FOR
SELECT p.id FROM cbm.parcel p WHERE {_OF_LAYER} ORDER BY p.geometry_id, p.id"""  # noqa: S608
_NAMED = f"""
SELECT p.id, p.pid FROM cbm.parcel p WHERE {_OF_LAYER} AND p.pid = ANY(%(pids)s)
ORDER BY p.geometry_id, p.id"""  # noqa: S608
_NEAR = """
SELECT id FROM cbm.geometries_in(%(dataset)s::smallint, %(area)s::geometry, %(seen)s, %(look)s)"""
_MEET = f"""
SELECT p.id FROM cbm.parcel p JOIN cbm.parcel_geometry g ON g.id = p.geometry_id
WHERE {_OF_LAYER} AND p.geometry_id = ANY(%(near)s::integer[])
  AND ST_Intersects(g.geom, %(area)s::geometry)
ORDER BY p.geometry_id, p.id"""  # noqa: S608


def _everywhere(cursor: Cursor, values: dict[str, Any]) -> Iterator[list[int]]:
    cursor.execute(_EVERYWHERE, values)
    while True:
        cursor.execute("FETCH %s FROM chosen", (PIECE,))
        piece = [number for (number,) in cursor.fetchall()]
        yield piece
        if len(piece) < PIECE:
            return


def _named(cursor: Cursor, values: dict[str, Any], pids: Sequence[str]) -> list[int]:
    cursor.execute(_NAMED, {**values, "pids": list(pids)})
    found: dict[int, str] = dict(cursor.fetchall())
    missing = sorted(set(pids) - set(found.values()))
    if missing:
        raise unknown(missing)
    return list(found)


def _within(cursor: Cursor, values: dict[str, Any], area: str) -> Iterator[list[int]]:
    seen = 0
    while True:
        cursor.execute(_NEAR, {**values, "area": area, "seen": seen, "look": PIECE})
        near = [number for (number,) in cursor.fetchall()]
        cursor.execute(_MEET, {**values, "area": area, "near": near})
        yield [number for (number,) in cursor.fetchall()]
        if len(near) < PIECE:
            return
        seen = near[-1]
