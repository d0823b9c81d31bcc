"""How far the extraction is."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, Field

from cbm_api.context import reading
from cbm_api.parameters import CollectionPath
from cbm_api.queries import coverage, datasets
from cbm_api.queries.coverage import Counts
from cbm_api.routes.ogc import NoParameters

api = APIBlueprint(
    "progress", __name__, url_prefix="/v1/collections", abp_tags=[Tag(name="scenes")]
)


class Progress(BaseModel):
    """How far the extraction of a collection's dataset is."""

    collection: str
    products: list[Counts]
    failures: dict[str, int] = Field(description="Failed scenes by cause.")
    rate_per_hour: float | None = Field(
        description="Of the last quarter of an hour; null where nothing was done in it."
    )
    seconds_left: float | None = Field(description="At that rate.")
    last_done_at: datetime | None


@api.get("/<collection_id>/progress", responses={200: Progress}, summary="How far it is")
def progress(path: CollectionPath, query: NoParameters) -> dict[str, Any]:
    """Count the scenes that are done and to be done, product by product."""
    with reading() as cursor:
        dataset = datasets.find(cursor, path.collection_id)
        counts = coverage.counts(cursor, dataset)
        failures = coverage.failures(cursor, dataset)
        pace = coverage.pace(cursor, dataset)
        last = coverage.last_done_at(cursor, dataset)
    document = Progress(
        collection=dataset.name,
        products=counts,
        failures=failures,
        **pace.as_json(),
        last_done_at=last,
    )
    return document.model_dump(mode="json")
