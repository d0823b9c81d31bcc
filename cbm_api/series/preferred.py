"""Which of several rows of one parcel and pass speaks for it: the rule of ``cbm.signature_long``.

A row is hidden where another of the same geometry, within an hour, of the same platform and the
same datatake or orbit, comes before it by (tile rank, tile, most pixels, scene). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray

from cbm_api.queries.signatures import PASS, Rows, Scene

_HOUR = np.timedelta64(PASS)


def preferred(rows: Rows, scenes: Sequence[Scene]) -> NDArray[np.bool_]:
    """Return which rows (by geometry and time) are shown, bool [n].

    All rows of their geometries must be there, and every scene of theirs that is in use among
    ``scenes``; ``rows`` of others must not.
    """
    shown = np.ones(len(rows), dtype=bool)
    if not len(rows):
        return shown
    ids = np.array([scene.id for scene in scenes])
    of_row = np.argsort(ids)[np.searchsorted(np.sort(ids), rows.scene_ids)]
    tiles, platforms, takes = (
        np.unique(values, return_inverse=True)[1][of_row]
        for values in (
            [scene.tile for scene in scenes],
            [scene.platform for scene in scenes],
            [scene.datatake_start.timestamp() for scene in scenes],
        )
    )
    absolute = _numbers([scene.absolute_orbit for scene in scenes])[of_row]
    relative = _numbers([scene.relative_orbit for scene in scenes])[of_row]
    place = np.empty(len(rows), dtype=np.int64)
    order = np.lexsort((rows.scene_ids, -rows.px_imaged, tiles, rows.tile_ranks))
    place[order] = np.arange(len(rows))

    # Rows of a geometry within an hour lie next to each other.
    for step in count(1):
        a, b = slice(None, -step), slice(step, None)
        near = (rows.geometry_ids[a] == rows.geometry_ids[b]) & (
            rows.obstimes[b] - rows.obstimes[a] <= _HOUR
        )
        if not near.any():
            return shown
        # An absolute orbit that is not known (-1) leaves it to the relative one.
        known = (absolute[a] >= 0) & (absolute[b] >= 0)
        orbit = np.where(
            known, absolute[a] == absolute[b], (relative[a] == relative[b]) & (relative[a] >= 0)
        )
        rivals = near & (platforms[a] == platforms[b]) & ((takes[a] == takes[b]) | orbit)
        shown[b] &= ~(rivals & (place[a] < place[b]))
        shown[a] &= ~(rivals & (place[b] < place[a]))
    return shown


def _numbers(values: Sequence[int | None]) -> NDArray[np.int64]:
    return np.array([-1 if value is None else value for value in values], dtype=np.int64)
