"""Series of many parcels: streamed, or written to a file by a job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa
from flask import Response, jsonify, stream_with_context, url_for
from flask_openapi3 import APIBlueprint
from pydantic import Field

from cbm_api.context import log_read, reading, user
from cbm_api.parameters import CollectionPath, Parameters
from cbm_api.queries import datasets, jobs, signatures
from cbm_api.queries.selection import Selection
from cbm_api.routes.jobs import JobStatus
from cbm_api.routes.signatures import (
    COLUMNS,
    PRODUCT,
    TAG,
    about,
    described,
    format_of,
)
from cbm_api.series import formats, table
from cbm_api.series.formats import CONTENT_TYPES, Format
from cbm_api.series.request import BulkBody, Chosen, understand

# More are for a job.
MOST_PARCELS = 10_000
# Read at a time, in a session of its own: some 50 MB of a season's images with all their bands.
CHUNK = 100

api = APIBlueprint("bulk", __name__, url_prefix="/v1/collections", abp_tags=[TAG])

_BULK = {
    "type": "object",
    "required": ["collection", "product", "parcels"],
    "properties": {
        "collection": {"type": "string"},
        "product": PRODUCT,
        "parcels": {
            "type": "array",
            "description": "Parcels with rows, ordered by place. One whose geometry changed may "
            "stand there once for each.",
            "items": {
                "type": "object",
                "required": ["pid", "columns"],
                "properties": {"pid": {"type": "string"}, "columns": COLUMNS},
            },
        },
    },
}
_RESPONSES: dict[Any, Any] = {200: described(_BULK), 202: JobStatus}


class BulkQuery(Parameters):
    """How the series are written."""

    f: Format | None = Field(
        default=None,
        description="The format; if left out, the header Accept says it, else JSON. Jobs write "
        "Parquet.",
    )


@api.post(
    "/<collection_id>/signatures",
    responses=_RESPONSES,
    summary="Many parcels' statistics, image by image",
)
def bulk(path: CollectionPath, query: BulkQuery, body: BulkBody) -> Response:
    """Stream the series of parcels; of more than 10,000, make a job and say where it is."""
    with reading() as cursor:
        dataset = datasets.find(cursor, path.collection_id)
        chosen = understand(cursor, dataset, body)
        meant = Selection(dataset, body.pids, body.area)
        if meant.surely_exceeds(MOST_PARCELS):
            jobs.require_room(cursor)
        ids = meant.up_to(cursor, MOST_PARCELS)
        if ids is None:
            kept = body.model_dump(mode="json", exclude_none=True)
            return _accepted(jobs.add(cursor, user(), dataset, kept))
    to = format_of(query.f)
    tables = _tables(path.collection_id, chosen, ids)
    # What fails at once still gets a status of its own.
    begun = chain([next(tables)], tables)
    pieces = formats.encode(to, table.schema(chosen), begun, about(chosen))
    response = Response(stream_with_context(pieces), content_type=CONTENT_TYPES[to])
    response.vary.add("Accept")
    return response


def _tables(collection_id: str, chosen: Chosen, ids: Sequence[int]) -> Iterator[pa.Table]:
    """Yield the series of a few parcels at a time, at least one table.

    Each is read in a session of its own: a grant that is revoked meanwhile ends the answer.
    """
    for start in range(0, max(len(ids), 1), CHUNK):
        with reading() as cursor:
            datasets.find(cursor, collection_id)
            parcels = signatures.parcels(cursor, ids[start : start + CHUNK])
            found = table.read(cursor, chosen, parcels)
            log_read(cursor, chosen.dataset.name, sorted({parcel.pid for parcel in parcels}))
        yield found


def _accepted(job: jobs.Job) -> Response:
    response = jsonify(JobStatus.of(job).model_dump(mode="json"))
    response.status_code = 202
    response.headers["Location"] = url_for("jobs.status", job_id=job.id)
    response.headers["Retry-After"] = "10"
    return response
