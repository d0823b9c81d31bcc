"""One parcel's series."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from pydantic import Field

from cbm_api.context import log_read, reading
from cbm_api.parameters import ParcelPath
from cbm_api.queries import datasets, signatures
from cbm_api.series import formats, table
from cbm_api.series.formats import CONTENT_TYPES, Format
from cbm_api.series.request import Chosen, Wanted, understand

TAG = Tag(name="signatures", description="Per-parcel statistics of images")

api = APIBlueprint("signatures", __name__, url_prefix="/v1/collections", abp_tags=[TAG])

_VALUES = {
    "type": "array",
    "items": {"anyOf": [{"type": kind} for kind in ("string", "number", "null")]},
}
COLUMNS = {
    "type": "object",
    "description": "Each column's values, a row per pass: obstime, what identifies the scene, "
    "px_imaged, px_clear, clouded, then B04_mean and the like.",
    "additionalProperties": _VALUES,
}
PRODUCT = {
    "type": "object",
    "required": ["name", "revision", "card", "unit"],
    "properties": {
        "name": {"type": "string"},
        "revision": {"type": "integer"},
        "card": {"type": "string"},
        "unit": {
            "anyOf": [{"type": "string"}, {"type": "null"}],
            "description": "Of the bands; indices have their own.",
        },
    },
}
_SERIES = {
    "type": "object",
    "required": ["collection", "product", "pid", "rows", "columns"],
    "properties": {
        "collection": {"type": "string"},
        "product": PRODUCT,
        "pid": {"type": "string"},
        "rows": {"type": "integer"},
        "columns": COLUMNS,
    },
}


def described(json: dict[str, Any]) -> dict[str, Any]:
    """Return the answer's entry in the OpenAPI document, in all its formats."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        "description": "The series. Numbers are in the product's unit, null where there are none.",
        "content": {
            "application/json": {"schema": json},
            "text/csv": {"schema": {"type": "string"}},
            CONTENT_TYPES["arrow"]: binary,
            CONTENT_TYPES["parquet"]: binary,
        },
    }


class ParcelQuery(Wanted):
    """Which numbers, and how they are written."""

    f: Format | None = Field(
        default=None, description="The format; if left out, the header Accept says it, else JSON."
    )


def format_of(named: Format | None) -> Format:
    """Return the format that a request asks for."""
    if named:
        return named
    kinds = {kind.partition(";")[0]: name for name, kind in CONTENT_TYPES.items()}
    best = request.accept_mimetypes.best_match(list(kinds), "application/json")
    return kinds[best]


def about(chosen: Chosen) -> dict[str, Any]:
    """Return what a document says of itself."""
    product = chosen.product
    return {
        "collection": chosen.dataset.name,
        "product": {
            "name": product.name,
            "revision": product.revision,
            "card": product.card,
            "unit": product.unit,
        },
    }


_RESPONSES: dict[Any, Any] = {200: described(_SERIES)}


@api.get(
    "/<collection_id>/items/<path:pid>/signatures",
    responses=_RESPONSES,
    summary="A parcel's statistics, image by image",
)
def series(path: ParcelPath, query: ParcelQuery) -> Response:
    """Give a parcel's series: one row per pass and parcel, the preferred one where images overlap.

    Images taken while the parcel was not valid are left out.
    """
    with reading() as cursor:
        dataset = datasets.find(cursor, path.collection_id)
        periods = signatures.parcel_periods(cursor, dataset, path.pid)
        if not periods:
            raise signatures.unknown([path.pid])
        chosen = understand(cursor, dataset, query)
        found = table.read(cursor, chosen, periods)
        log_read(cursor, dataset.name, [path.pid])
    to = format_of(query.f)
    document = about(chosen)
    body: Any = (
        formats.one_parcel(found, {**document, "pid": path.pid})
        if to == "json"
        else b"".join(formats.encode(to, found.schema, [found], document))
    )
    response = Response(body, content_type=CONTENT_TYPES[to])
    response.vary.add("Accept")
    return response
