"""Plans where they are needed: found in the database, or made and saved there."""

from __future__ import annotations

from cbm_core.db import Connection, transaction
from cbm_core.errors import CbmError
from cbm_extract.plan import pipeline
from cbm_extract.plan.build import CHUNK_SIZE, build_chunks
from cbm_extract.plan.lattice import Lattice
from cbm_extract.plan.pipeline import Pipeline
from cbm_extract.store import plans
from cbm_extract.store.plans import PackedChunk, ParcelSet, StoredPlan


def ensure(
    connection: Connection,
    dataset_id: int,
    parcel_set: ParcelSet,
    lattice: Lattice,
    buffer_m: float,
) -> StoredPlan:
    """Return the plan of a parcel set on a lattice; make and save it the first time.

    The coordinate operation is chosen for the area of the parcel set. Each database transaction is
    short, so that a worker that stalls while planning locks nobody out.

    Raises:
        CbmError: as :func:`cbm_extract.plan.build.build_chunks` and
            :func:`cbm_extract.plan.pipeline.choose`; ``plan_missing`` when the dataset was purged
            meanwhile.

    """
    with transaction(connection) as cursor:
        found = plans.find(cursor, parcel_set.id, lattice.key, buffer_m)
        if found:
            return found
        area = plans.area(cursor, parcel_set.id)
    operation = pipeline.choose(parcel_set.crs, lattice.crs, area, parcel_set.allow_ballpark)
    chunks: list[PackedChunk] = []
    last: int | None = 0
    while last is not None:
        made, last = _batch(connection, parcel_set, last, lattice, buffer_m, operation)
        chunks += made
    with transaction(connection) as cursor:
        if chunks:
            plans.save(cursor, dataset_id, parcel_set.id, operation, chunks)
        found = plans.find(cursor, parcel_set.id, lattice.key, buffer_m)
    if found is None:
        raise CbmError(
            "plan_missing",
            f"Parcel set {parcel_set.id} has no geometries any more.",
            "Its dataset was purged while it was being extracted.",
        )
    return found


def _batch(
    connection: Connection,
    parcel_set: ParcelSet,
    after: int,
    lattice: Lattice,
    buffer_m: float,
    operation: Pipeline,
) -> tuple[list[PackedChunk], int | None]:
    """Plan the geometries that follow an id; return the last one's id, None after the end."""
    with transaction(connection) as cursor:
        ids, shapes = plans.geometries(cursor, parcel_set.id, after, CHUNK_SIZE)
    if not len(ids):
        return [], None
    made = build_chunks(ids, shapes, parcel_set.crs, lattice, buffer_m, operation)
    return [PackedChunk.of(chunk) for chunk in made], int(ids[-1])
