"""The geometries a scene's items are about, as runs of pixels on whatever grid a band comes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from cbm_core.db import Connection, readable_errors, transaction
from cbm_extract.engine.plans import ensure
from cbm_extract.plan.lattice import Placement
from cbm_extract.plan.runs import Runs
from cbm_extract.plan.window import clip
from cbm_extract.store import evidence, plans, tiles
from cbm_extract.store.plans import ParcelSet
from cbm_extract.store.runs import PlanUsed

Ids = NDArray[np.int32]

NONE: Ids = np.empty(0, dtype=np.int32)


@dataclass(frozen=True)
class Area:
    """Geometries of a dataset: those that parcel sets after ``after`` introduced, less a buffer.

    With ``home`` those that a better tile of the same datatake covers are left out. Of the product
    ``stored_of``, geometries with a row of the scene are left out, or with ``again`` taken in,
    retired and better served ones as well.
    """

    dataset_id: int
    after: int
    buffer_m: float
    home: bool
    stored_of: int | None = None
    again: bool = False


class Areas:
    """Runs of areas in the grids of one scene; each is made once, and shared by all its bands.

    Parcel sets are looked up once, so that all bands of an item cover the same geometries whatever
    is imported meanwhile.
    """

    def __init__(self, connection: Connection, scene_id: int) -> None:
        """Look up the scene's tile; everything else when it is first asked for."""
        self._connection, self._scene_id = connection, scene_id
        with transaction(connection) as cursor:
            self._tile = tiles.find(cursor, scene_id)
        self._sets: dict[tuple[int, int, bool], list[ParcelSet]] = {}
        self._stored: dict[tuple[int, int], Ids] = {}
        self._served: dict[int, Ids] = {}
        self._strangers: dict[int, Ids] = {}
        self._runs: dict[tuple[Area, Placement], Runs] = {}
        self._used: dict[Area, dict[PlanUsed, None]] = {}

    def newest_set(self, area: Area) -> int:
        """Return the newest parcel set of an area; ``area.after`` where there is nothing new."""
        return max((one.id for one in self._parcel_sets(area)), default=area.after)

    def runs(self, area: Area, placement: Placement) -> Runs:
        """Return the runs of an area in a raster; missing plans are made and saved.

        Raises:
            CbmError: as :func:`cbm_extract.engine.plans.ensure`.

        """
        key = (area, placement)
        if key not in self._runs:
            with readable_errors():
                self._runs[key] = self._make(area, placement)
        return self._runs[key]

    def plans_used(self, area: Area) -> tuple[PlanUsed, ...]:
        """Return the plans that an area's runs were cut from so far."""
        return tuple(self._used.get(area, {}))

    def out_of_zone(self, dataset_id: int) -> Ids:
        """Return the geometries whose centroid lies outside the tile's UTM zone, rising."""
        if dataset_id not in self._strangers:
            self._strangers[dataset_id] = NONE
            if self._tile:
                with transaction(self._connection) as cursor:
                    self._strangers[dataset_id] = tiles.out_of_zone(cursor, self._tile, dataset_id)
        return self._strangers[dataset_id]

    def _parcel_sets(self, area: Area) -> list[ParcelSet]:
        key = (area.dataset_id, area.after, area.again)
        if key not in self._sets:
            with transaction(self._connection) as cursor:
                self._sets[key] = plans.parcel_sets(
                    cursor, area.dataset_id, area.after, retired=area.again
                )
        return self._sets[key]

    def _make(self, area: Area, placement: Placement) -> Runs:
        rows = (placement.row0, placement.row0 + placement.height)
        cols = (placement.col0, placement.col0 + placement.width)
        used_plans = []
        left_out = [self._served_elsewhere(area.dataset_id) if area.home else NONE]
        for one in self._parcel_sets(area):
            plan = ensure(self._connection, area.dataset_id, one, placement.lattice, area.buffer_m)
            used = PlanUsed(plan.lattice, one.id, area.buffer_m, plan.content_hash.hex())
            self._used.setdefault(area, {})[used] = None
            used_plans.append(plan.id)
            with transaction(self._connection) as cursor:
                left_out.append(plans.retired(cursor, one.id))
        stored = self.stored(area)
        without = np.concatenate([*left_out, *([] if area.again else [stored])])
        if area.again:
            without = np.setdiff1d(without, stored)
        with transaction(self._connection) as cursor:
            each = (plans.chunks_in(cursor, number, rows, cols) for number in used_plans)
            return clip(chain.from_iterable(each), placement, without)

    def stored(self, area: Area) -> Ids:
        """Return the geometries with a row of the scene and the area's ``stored_of``, rising."""
        if area.stored_of is None:
            return NONE
        key = (area.dataset_id, area.stored_of)
        if key not in self._stored:
            with transaction(self._connection) as cursor:
                self._stored[key] = evidence.stored_ids(cursor, self._scene_id, *key)
        return self._stored[key]

    def _served_elsewhere(self, dataset_id: int) -> Ids:
        if dataset_id not in self._served:
            self._served[dataset_id] = NONE
            if self._tile:
                with transaction(self._connection) as cursor:
                    self._served[dataset_id] = tiles.served_elsewhere(
                        cursor, self._tile, dataset_id
                    )
        return self._served[dataset_id]
