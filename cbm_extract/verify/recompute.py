"""Slices computed anew from the scenes' files, and compared with what is stored."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import islice

import numpy as np

from cbm_core.db import Connection, transaction
from cbm_core.errors import CbmError
from cbm_extract.engine import scene_task
from cbm_extract.engine.areas import Areas
from cbm_extract.engine.jobs import Job
from cbm_extract.engine.scene_reading import SuspectOffsetError
from cbm_extract.ledger.states import FULL, Item
from cbm_extract.store import evidence, products, signatures, work
from cbm_extract.store.evidence import Slot
from cbm_extract.store.signatures import STATISTICS, Slice
from cbm_extract.verify.findings import Finding
from cbm_extract.verify.stored import Ids, Origins

_ROWS_SHOWN = 3
_COLUMNS = (
    "obstime geometry_id scene_id px_imaged px_clear dataset_id product_id tile_rank stats"
    " class_counts"
).split()


def check_scene(
    connection: Connection, dataset_id: int, slots: Sequence[Slot], origins: Origins, threads: int
) -> list[Finding]:
    """Read a scene again for its slices and compare; nothing is written.

    It is done as `cbm ledger redo` would do it: for the geometries that have rows, and those that
    should.
    """
    with transaction(connection) as cursor:
        scene = work.scene(cursor, slots[0].scene_id)
        known = products.load(cursor, [slot.product_id for slot in slots])
    pairs = []
    for number, slot in enumerate(slots):
        item = Item(number, dataset_id, slot.product_id, slot.covers, 0, FULL)
        pairs.append((slot, Job.of(item, known[slot.product_id])))
    areas = Areas(connection, scene.id)
    jobs = [job for _, job in pairs]
    try:
        results = scene_task.read_jobs(scene, areas, jobs, lambda: None, threads)
    except SuspectOffsetError as found:
        return [_impossible(slot, found.error) for slot in slots]
    findings = []
    for slot, job in pairs:
        if job.error is not None:
            findings.append(_impossible(slot, job.error))
            continue
        again = scene_task.slice_of(scene, job, results[job.item.id])
        findings += _compare(connection, slot, again, areas.stored(job.area), origins)
    return findings


def _impossible(slot: Slot, error: CbmError) -> Finding:
    text = f"it cannot be read again: {error}"
    return Finding("recompute_impossible", slot.scene, slot.product, text, {"code": error.code})


def _compare(
    connection: Connection, slot: Slot, again: Slice, stored: Ids, origins: Origins
) -> list[Finding]:
    findings = []
    has_row = np.isin(again.geometry_ids, stored)
    due = origins.sets_of(again.geometry_ids) <= slot.covers
    missing = again.geometry_ids[~has_row & due]
    # What is open may be just that.
    if len(missing) and slot.state == "done":
        text = f"{len(missing)} geometries have no row but would get one, such as {missing[0]}"
        findings.append(_found("rows_missing", slot, text, missing))
    gone = np.setdiff1d(stored, again.geometry_ids)
    if len(gone):
        text = f"{len(gone)} stored rows do not come out any more, such as of geometry {gone[0]}"
        findings.append(_found("rows_superfluous", slot, text, gone))
    same = again.rows(has_row)
    with transaction(connection) as cursor:
        found = evidence.stored_slice(cursor, again.scene_id, again.dataset_id, again.product_id)
        if found.digest == signatures.digest(same):
            return findings
        rows: dict[int, bytes] = {}
        evidence.copy_rows(
            cursor,
            again.dataset_id,
            evidence.moment(cursor, again.scene_id),
            lambda row: rows.update({_geometry_of(row): row}),
            scene_ids=[again.scene_id],
            product_ids=[again.product_id],
        )
        variables = products.variables(cursor, again.product_id)
    return findings + _differences(slot, same, rows, variables)


def _found(kind: str, slot: Slot, text: str, ids: Ids) -> Finding:
    return Finding(kind, slot.scene, slot.product, text, {"geometry_ids": ids[:20].tolist()})


def _geometry_of(row: bytes) -> int:
    """Return the geometry id of a row as COPY gives it: the second field."""
    return int.from_bytes(row[18:22], "big")


def _differences(
    slot: Slot, again: Slice, stored: dict[int, bytes], variables: Sequence[str]
) -> list[Finding]:
    """Say which rows differ, and of the first few in which columns."""
    packed = (bytes(row) for row in signatures.pack(again, batch_rows=1))
    computed = {_geometry_of(row): row for row in packed}
    differing = [number for number, row in computed.items() if stored.get(number) != row]
    if not differing:
        return []
    shown = [
        f"geometry {number}: " + ", ".join(_columns(stored[number], computed[number], variables))
        for number in differing[:_ROWS_SHOWN]
    ]
    text = f"{len(differing)} of {len(computed)} rows come out otherwise; {'; '.join(shown)}"
    details = {"geometry_ids": differing[:20], "rows": len(differing)}
    return [Finding("numbers_differ", slot.scene, slot.product, text, details)]


def _columns(stored: bytes, again: bytes, variables: Sequence[str]) -> list[str]:
    """Say in what two rows differ, as ``name stored -> computed``."""
    words = []
    for name, before, after in zip(_COLUMNS, _fields(stored), _fields(again), strict=True):
        if before == after:
            continue
        if name == "stats" and before and after and len(before) == len(after):
            old, new = _floats(before), _floats(after)
            names = [f"{variable}.{part}" for variable in variables for part in STATISTICS]
            pairs = zip(names, old, new, strict=True)
            words += [
                f"{one} {a:g} -> {b:g}"
                for one, a, b in pairs
                if struct.pack("f", a) != struct.pack("f", b)
            ]
        elif before and after and len(before) in {2, 4} and name != "class_counts":
            values = (int.from_bytes(one, "big", signed=True) for one in (before, after))
            words.append(f"{name} {' -> '.join(map(str, values))}")
        else:
            words.append(name)
    return list(islice(words, 4))


def _fields(row: bytes) -> list[bytes | None]:
    """Take a row in PostgreSQL's binary form apart."""
    found: list[bytes | None] = []
    at = 2
    while at < len(row):
        (length,) = struct.unpack_from(">i", row, at)
        at += 4
        found.append(None if length < 0 else row[at : at + length])
        at += max(length, 0)
    return found


def _floats(field: bytes) -> list[float]:
    elements = np.frombuffer(field[20:], dtype=[("length", ">i4"), ("value", ">f4")])
    values: list[float] = elements["value"].tolist()
    return values
