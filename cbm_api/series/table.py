"""Series of parcels as one table: a row per parcel and pass, a column per number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cbm_api.queries import signatures
from cbm_api.queries.signatures import CLASSES, Parcel, Rows, Scene
from cbm_api.series.preferred import preferred
from cbm_api.series.request import Chosen
from cbm_core.db import Cursor

# Cloud shadow, clouds of medium and high probability, thin cirrus, snow or ice.
CLOUDED_CLASSES = (3, 8, 9, 10, 11)

_TIME = pa.timestamp("us", tz="UTC")
_OF_SCENE = (
    pa.field("reference", pa.string(), nullable=False),
    pa.field("part", pa.string(), nullable=False),
    pa.field("tile", pa.string(), nullable=False),
    pa.field("platform", pa.string(), nullable=False),
    pa.field("orbit_direction", pa.string()),
    pa.field("relative_orbit", pa.int16()),
)


@dataclass(frozen=True)
class Laid:
    """Rows laid out by parcel and time: ``pids`` [n] of ``rows``, ``scenes`` by place [n]."""

    pids: list[str]
    rows: Rows
    scenes: Sequence[Scene]
    scene_of_row: NDArray[np.int64]


def schema(chosen: Chosen) -> pa.Schema:
    """Return the columns of a request's table.

    ``pid``, ``obstime`` (UTC), what identifies the scene, ``px_imaged``, ``px_clear``, ``clouded``
    (share, null where no pixel was classified), then ``B04_mean`` and the like: float32 in the
    product's unit, null where there is no value; ``B04_count`` is an integer, 0 there.
    """
    numbers = [
        pa.field(f"{band}_{statistic}", pa.int32() if statistic == "count" else pa.float32())
        for band, statistic in chosen.numbers
    ]
    decibels = [pa.field(f"{band}_mean_db", pa.float32()) for band in chosen.decibel_bands]
    counts = [pa.field(f"class_{n}", pa.int32()) for n in range(CLASSES)] if chosen.classes else []
    return pa.schema(
        [
            pa.field("pid", pa.string(), nullable=False),
            pa.field("obstime", _TIME, nullable=False),
            *_OF_SCENE,
            pa.field("px_imaged", pa.int32(), nullable=False),
            pa.field("px_clear", pa.int32(), nullable=False),
            pa.field("clouded", pa.float32()),
            *numbers,
            *decibels,
            *counts,
        ]
    )


def read(cursor: Cursor, chosen: Chosen, parcels: Sequence[Parcel]) -> pa.Table:
    """Return the series of some parcels (in their order, each by time), as :func:`schema` says."""
    geometry_ids = sorted({parcel.geometry_id for parcel in parcels})
    rows = signatures.rows(
        cursor, chosen.dataset.id, chosen.product, geometry_ids, chosen.period, chosen.places
    )
    scenes = signatures.scenes(cursor, np.unique(rows.scene_ids).tolist())
    rows = rows.take(np.isin(rows.scene_ids, [scene.id for scene in scenes]))
    rows = rows.take(preferred(rows, scenes))
    of_row = _places(rows, scenes)
    wanted = _wanted(chosen, rows, scenes, of_row)
    rows, of_row = rows.take(wanted), of_row[wanted]
    pids, order = _by_parcel(rows, parcels)
    return _table(chosen, Laid(pids, rows.take(order), scenes, of_row[order]))


def clouded_share(rows: Rows) -> NDArray[np.float32]:
    """Return the share of classes 3, 8, 9, 10 and 11 among the classified pixels; NaN: none."""
    with np.errstate(invalid="ignore"):
        share = rows.classes[:, CLOUDED_CLASSES].sum(axis=1) / rows.classes.sum(axis=1)
    return np.asarray(share, dtype=np.float32)


def _places(rows: Rows, scenes: Sequence[Scene]) -> NDArray[np.int64]:
    """Return where in ``scenes``, which are by id, each row's is."""
    ids = np.array([scene.id for scene in scenes], dtype=np.int64)
    return np.searchsorted(ids, rows.scene_ids)


def _wanted(
    chosen: Chosen, rows: Rows, scenes: Sequence[Scene], of_row: NDArray[np.int64]
) -> NDArray[np.bool_]:
    start, end = (
        np.datetime64(time.replace(tzinfo=None), "us")
        for time in (chosen.period.start, chosen.period.end)
    )
    wanted = (rows.obstimes >= start) & (rows.obstimes < end)
    of_orbit = [
        (chosen.direction in (None, scene.orbit_direction))
        and (chosen.relative_orbit in (None, scene.relative_orbit))
        for scene in scenes
    ]
    wanted &= np.array(of_orbit, dtype=bool)[of_row]
    if chosen.max_cloud is not None:
        wanted &= clouded_share(rows) <= np.float32(chosen.max_cloud)
    return wanted


def _by_parcel(rows: Rows, parcels: Sequence[Parcel]) -> tuple[list[str], NDArray[np.int64]]:
    """Return parcels' ids and rows, parcel by parcel: a geometry may be of several, or in parts."""
    first = np.searchsorted(rows.geometry_ids, [one.geometry_id for one in parcels], "left")
    after = np.searchsorted(rows.geometry_ids, [one.geometry_id for one in parcels], "right")
    pids: list[str] = []
    chosen = [np.empty(0, dtype=np.int64)]
    for parcel, start, end in zip(parcels, first, after, strict=True):
        seen = rows.obstimes[start:end]
        valid = (seen >= _midnight(parcel.valid_from)) & (seen < _midnight(parcel.valid_to))
        found = start + np.flatnonzero(valid)
        pids += [parcel.pid] * len(found)
        chosen.append(found)
    return pids, np.concatenate(chosen)


def _midnight(day: date) -> np.datetime64:
    return np.datetime64(day, "us")


def _table(chosen: Chosen, laid: Laid) -> pa.Table:
    columns = schema(chosen)
    rows, scenes = laid.rows, laid.scenes
    place = pa.array(laid.scene_of_row)
    stats = np.ascontiguousarray(rows.stats.T)
    numbers = [
        pa.array(np.nan_to_num(values).astype(np.int32)) if statistic == "count" else _some(values)
        for values, (_, statistic) in zip(stats, chosen.numbers, strict=False)
    ]
    arrays = [
        pa.array(laid.pids, pa.string()),
        pa.array(rows.obstimes).cast(_TIME),
        *(
            pa.array([getattr(scene, field.name) for scene in scenes], field.type).take(place)
            for field in _OF_SCENE
        ),
        pa.array(rows.px_imaged.astype(np.int32)),
        pa.array(rows.px_clear.astype(np.int32)),
        _some(clouded_share(rows)),
        *numbers,
        *(_some(decibels(values)) for values in stats[len(numbers) :]),
        *((pa.array(one) for one in rows.classes.T.copy()) if chosen.classes else ()),
    ]
    return pa.Table.from_arrays(arrays, schema=columns)


def decibels(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 10 log10 of linear power, NaN where there is none to take it of."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = 10 * np.log10(power.astype(np.float64))
    return np.where(np.isfinite(found), found, np.nan).astype(np.float32)


def _some(values: NDArray[np.float32]) -> Any:
    """Return numbers with null where there is none."""
    return pa.array(values, mask=~np.isfinite(values))
