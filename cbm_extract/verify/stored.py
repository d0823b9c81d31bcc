"""The database against its own evidence: rows, digests, plans."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from cbm_core.db import Cursor
from cbm_extract.store import evidence
from cbm_extract.store.evidence import Shares, Slot, StoredRun
from cbm_extract.verify.findings import Finding

# Where a row in PostgreSQL's binary form has its keys (see cbm_extract.store.signatures).
_GEOMETRY, _SCENE, _PRODUCT = slice(18, 22), slice(26, 30), slice(56, 58)

Ids = NDArray[np.int32]


class Origins:
    """Which parcel set introduced each geometry: ``ids`` int32, rising, ``sets`` beside them."""

    def __init__(self, ids: Ids, sets: Ids) -> None:
        """Prepare for looking up single geometries."""
        self._first = int(ids[0]) if len(ids) else 0
        dense = np.zeros(int(ids[-1]) - self._first + 1 if len(ids) else 0, dtype=np.int32)
        dense[ids - self._first] = sets
        self._dense = dense
        # Much quicker than numpy's for one element.
        self._one_by_one = array("i", dense.tobytes())

    def of(self, geometry: int) -> int:
        """Return the parcel set of a geometry, 0 for an unknown one."""
        at = geometry - self._first
        return self._one_by_one[at] if 0 <= at < len(self._one_by_one) else 0

    def sets_of(self, ids: Ids) -> Ids:
        """Return the parcel sets of geometries of the dataset, int32."""
        return self._dense[ids - self._first]


class _Tally:
    """The rows of one slice, counted and digested by the run that wrote them."""

    def __init__(self, runs: Sequence[StoredRun], origins: Origins) -> None:
        self._runs, self._origins = runs, origins
        self._shares = Shares(runs)
        self._digests = [hashlib.sha256() for _ in runs]
        self._rows = [0] * len(runs)
        self._strays = 0

    def take(self, row: bytes) -> None:
        geometry = int.from_bytes(row[_GEOMETRY], "big")
        position = self._shares.owner(geometry, self._origins.of(geometry))
        if position is None:
            self._strays += 1
        else:
            self._digests[position].update(row)
            self._rows[position] += 1

    def findings(self, slot: Slot) -> list[Finding]:
        found = []
        if self._strays:
            text = f"{self._strays} rows of which no run tells"
            found.append(_finding("rows_without_run", slot, text, rows=self._strays))
        for run, digest, rows in zip(self._runs, self._digests, self._rows, strict=True):
            if rows != run.rows:
                text = f"run {run.id} wrote {run.rows} rows, {rows} are stored"
                found.append(_finding("rows_differ", slot, text, run=run.id, stored=rows))
            elif digest.digest() != run.digest:
                text = (
                    f"the {rows} stored rows are not those that run {run.id} wrote: digest"
                    f" {digest.hexdigest()[:12]}, expected {run.digest.hex()[:12]}"
                )
                found.append(_finding("digest_differs", slot, text, run=run.id))
        return found


def _finding(kind: str, slot: Slot, text: str, **details: object) -> Finding:
    return Finding(kind, slot.scene, slot.product, text, details)


def check_rows(
    cursor: Cursor,
    dataset_id: int,
    slots: Sequence[Slot],
    origins: Origins,
    advance: Callable[[], None],
    *,
    whole_months: bool,
) -> list[Finding]:
    """Compare the stored rows of slices with what their runs wrote.

    One pass over each month's rows, in the order of slices; memory is that of one slice's ids. With
    ``whole_months``, rows of scenes that no run tells of are found as well.
    """
    found = []
    products = sorted({slot.product_id for slot in slots})
    for month, some in _by_month(slots):
        scenes = sorted({slot.scene_id for slot in some})
        runs = evidence.live_runs(cursor, dataset_id, scenes)
        tallies = {slot.key: _Tally(runs.get(slot.key, ()), origins) for slot in some}
        reader = _Reader(tallies)
        evidence.copy_rows(
            cursor,
            dataset_id,
            month,
            reader.take,
            scene_ids=None if whole_months else scenes,
            product_ids=products,
        )
        for scene_id, rows in reader.unknown.items():
            text = f"{rows} rows of which no run tells"
            found.append(Finding("rows_without_run", f"scene {scene_id}", "", text))
        for slot in some:
            if slot.key not in runs and slot.covers:
                text = "the ledger has it as done, but there is no run"
                found.append(_finding("run_missing", slot, text))
            found += tallies[slot.key].findings(slot)
            advance()
    return found


class _Reader:
    """Gives each row to the tally of its slice, and counts those of no slice by scene."""

    def __init__(self, tallies: dict[tuple[int, int], _Tally]) -> None:
        self._tallies = tallies
        self._key = b""
        self._tally: _Tally | None = None
        self.unknown: Counter[int] = Counter()

    def take(self, row: bytes) -> None:
        key = row[_SCENE] + row[_PRODUCT]
        if key != self._key:
            self._key = key
            slot = int.from_bytes(key[:4], "big"), int.from_bytes(key[4:], "big")
            self._tally = self._tallies.get(slot)
        if self._tally:
            self._tally.take(row)
        else:
            self.unknown[int.from_bytes(key[:4], "big")] += 1


def _by_month(slots: Sequence[Slot]) -> list[tuple[tuple[datetime, datetime], list[Slot]]]:
    """Sort slices by months (UTC), in which their rows lie together."""
    months: dict[datetime, list[Slot]] = {}
    for slot in slots:
        seen = slot.obstime.astimezone(UTC)
        months.setdefault(datetime(seen.year, seen.month, 1, tzinfo=UTC), []).append(slot)
    return [
        ((start, (start + timedelta(days=31)).replace(day=1)), some)
        for start, some in months.items()
    ]


def check_plans(cursor: Cursor, dataset_id: int, slots: Sequence[Slot]) -> list[Finding]:
    """Compare the plans that runs used with those stored now."""
    stored = evidence.plan_hashes(cursor, dataset_id)
    runs = evidence.live_runs(cursor, dataset_id, sorted({slot.scene_id for slot in slots}))
    found = []
    for slot in slots:
        for run in runs.get(slot.key, ()):
            for used in run.plans:
                key = used["parcel_set_id"], used["lattice"], used["buffer_m"]
                kind = "plan_changed" if key in stored else "plan_missing"
                if stored.get(key) != used["content_hash"]:
                    text = (
                        f"run {run.id} used the plan of parcel set {key[0]} on {key[1]}, which"
                        f" {'has another content now' if key in stored else 'is not stored'}"
                    )
                    found.append(_finding(kind, slot, text, run=run.id))
    return found
