"""Stored statistics of parcels, read in bulk: rows of ``cbm.signature`` as arrays.

Which of several rows of a pass is shown is decided in :mod:`cbm_api.series.preferred`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg2 import sql

from cbm_api.period import Period
from cbm_api.queries.datasets import Dataset
from cbm_core.datasets.products import Product
from cbm_core.db import Cursor
from cbm_core.errors import CbmError

STATISTICS = ("count", "mean", "std", "min", "max", "p25", "p50", "p75")
CLASSES = 12

# Rows of one pass are at most this far apart.
PASS = timedelta(hours=1)

# array_send's form: five integers, then a length before each number.
_ARRAY_HEADER = 5

_ROWS = """
SELECT geometry_id, scene_id, obstime, tile_rank, px_imaged, px_clear, array_send({stats}),
  class_counts
FROM cbm.signature
WHERE dataset_id = %(dataset)s AND product_id = %(product)s AND geometry_id = ANY(%(geometries)s)
  AND obstime >= %(start)s AND obstime < %(end)s"""


@dataclass(frozen=True)
class Parcel:
    """A parcel in one period of validity (``valid_to`` exclusive)."""

    pid: str
    geometry_id: int
    valid_from: date
    valid_to: date


@dataclass(frozen=True)
class Rows:
    """``n`` stored rows, by geometry and time.

    ``geometry_ids``, ``scene_ids``, ``tile_ranks``, ``px_imaged``, ``px_clear``: int64 [n];
    ``obstimes``: datetime64[us] [n], UTC; ``stats``: float32 [n, k], NaN where there is no value;
    """

    geometry_ids: NDArray[np.int64]
    scene_ids: NDArray[np.int64]
    obstimes: NDArray[np.datetime64]
    tile_ranks: NDArray[np.int64]
    px_imaged: NDArray[np.int64]
    px_clear: NDArray[np.int64]
    stats: NDArray[np.float32]
    classes: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.geometry_ids)

    def take(self, chosen: NDArray[Any]) -> Rows:
        """Return the chosen rows (indices, or bool [n])."""
        return Rows(*(array[chosen] for array in vars(self).values()))


@dataclass(frozen=True)
class Scene:
    """What rows say of their scene."""

    id: int
    reference: str
    part: str
    tile: str
    platform: str
    orbit_direction: str | None
    relative_orbit: int | None
    absolute_orbit: int | None
    datatake_start: datetime


def parcels(cursor: Cursor, ids: Sequence[int]) -> list[Parcel]:
    """Return parcels by the ids of their rows, in the order of their geometries."""
    cursor.execute(
        """SELECT pid, geometry_id, valid_from, valid_to FROM cbm.parcel WHERE id = ANY(%s)
           ORDER BY geometry_id, pid, valid_from""",
        (list(ids),),
    )
    return [Parcel(*row) for row in cursor.fetchall()]


def parcel_periods(cursor: Cursor, dataset: Dataset, pid: str) -> list[Parcel]:
    """Return the periods of a parcel as known now, none where there is no such parcel."""
    cursor.execute(
        """SELECT pid, geometry_id, valid_from, valid_to FROM cbm.parcel
           WHERE dataset_id = %s AND layer = %s AND pid = %s AND known_to = 'infinity'
           ORDER BY valid_from""",
        (dataset.id, dataset.layer, pid),
    )
    return [Parcel(*row) for row in cursor.fetchall()]


def unknown(pids: Sequence[str]) -> CbmError:
    """Return the error of parcels that are not in a collection."""
    more = f" and {len(pids) - 5} more" if len(pids) > 5 else ""
    return CbmError(
        "parcel_unknown",
        f"The collection has no parcel {', '.join(repr(pid[:80]) for pid in pids[:5])}{more}.",
        "GET /v1/collections/{id}/items lists its parcels.",
    )


def rows(
    cursor: Cursor,
    dataset_id: int,
    product: Product,
    geometry_ids: Sequence[int],
    period: Period,
    wanted: Sequence[int],
) -> Rows:
    """Return all stored rows of geometries in a period, and an hour before and after it.

    ``wanted`` are places in ``signature.stats``, counted from 0.
    """
    stats: sql.Composable = sql.SQL("stats")
    if list(wanted) != list(range(len(STATISTICS) * len(product.variables))):
        places = sql.SQL(", ").join(
            sql.SQL("stats[{}]").format(sql.Literal(place + 1)) for place in wanted
        )
        # An empty array is sent in another form.
        stats = (
            sql.SQL("CASE WHEN px_clear > 0 THEN ARRAY[{}] END").format(places)
            if wanted
            else sql.SQL("NULL::real[]")
        )
    cursor.execute(
        sql.SQL(_ROWS).format(stats=stats),
        {
            "dataset": dataset_id,
            "product": product.id,
            "geometries": list(geometry_ids),
            "start": period.start - PASS,
            "end": period.end + PASS,
        },
    )
    return _arrays(cursor.fetchall(), len(wanted))


def _arrays(found: list[tuple[Any, ...]], width: int) -> Rows:
    columns = list(zip(*found, strict=True)) if found else [()] * 8
    geometry_ids, scene_ids, tile_ranks, px_imaged, px_clear = (
        np.array(columns[place], dtype=np.int64) for place in (0, 1, 3, 4, 5)
    )
    # The session's times are UTC; numpy knows no zones.
    obstimes = np.array([time.replace(tzinfo=None) for time in columns[2]], dtype="datetime64[us]")
    made = Rows(
        geometry_ids=geometry_ids,
        scene_ids=scene_ids,
        obstimes=obstimes,
        tile_ranks=tile_ranks,
        px_imaged=px_imaged,
        px_clear=px_clear,
        stats=_stats(columns[6], width),
        classes=_classes(columns[7]),
    )
    return made.take(np.lexsort((scene_ids, obstimes, geometry_ids)))


def _stats(sent: Sequence[memoryview | None], width: int) -> NDArray[np.float32]:
    present = np.array([one is not None for one in sent], dtype=bool)
    whole = np.frombuffer(b"".join(one for one in sent if one is not None), dtype=">i4")
    numbers = whole.reshape(-1, _ARRAY_HEADER + 2 * width)[:, _ARRAY_HEADER + 1 :: 2]
    stats = np.full((len(sent), width), np.nan, dtype=np.float32)
    stats[present] = np.ascontiguousarray(numbers).view(">f4")
    return stats


def _classes(sent: Sequence[memoryview | None]) -> NDArray[np.int32]:
    """Unpack the pixels per scene class: 4 bytes per class present, class and 3 bytes of count."""
    counts = np.zeros((len(sent), CLASSES), dtype=np.int32)
    parts = [b"" if one is None else bytes(one) for one in sent]
    packed = np.frombuffer(b"".join(parts), dtype=np.uint8).reshape(-1, 4).astype(np.int32)
    row = np.repeat(np.arange(len(sent)), [len(part) // 4 for part in parts])
    counts[row, packed[:, 0]] = packed[:, 1] << 16 | packed[:, 2] << 8 | packed[:, 3]
    return counts


def scenes(cursor: Cursor, ids: Sequence[int]) -> list[Scene]:
    """Return those of some scenes that are in use."""
    cursor.execute(
        """SELECT id, reference, part, tile, platform, orbit_direction, relative_orbit,
             absolute_orbit, datatake_start
           FROM cbm.scene WHERE id = ANY(%s) AND state = 'active' ORDER BY id""",
        (list(ids),),
    )
    return [Scene(*row) for row in cursor.fetchall()]
