"""Why a parcel has a value of a date, or none."""

from __future__ import annotations

from typing import Any

from flask_openapi3 import APIBlueprint
from pydantic import BaseModel, Field

from cbm_api import period
from cbm_api.context import log_read, reading
from cbm_api.images import Images
from cbm_api.parameters import ParcelPath
from cbm_api.queries import coverage, datasets, products, signatures
from cbm_api.queries.coverage import Answer
from cbm_api.routes.signatures import TAG
from cbm_core.datasets.products import newest, of_dataset

api = APIBlueprint("coverage", __name__, url_prefix="/v1/collections", abp_tags=[TAG])


class CoverageQuery(Images):
    """Of which product, and when."""

    product: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9_]{0,62}(@[0-9]{1,4})?$",
        description="A product; if left out, each in its newest revision.",
    )


class Coverage(BaseModel):
    """An answer per scene and product, by time; none on a date means: no scene is catalogued."""

    collection: str
    pid: str
    answers: list[Answer]


@api.get(
    "/<collection_id>/items/<path:pid>/coverage",
    responses={200: Coverage},
    summary="Why there is a value of a date or not",
)
def of_parcel(path: ParcelPath, query: CoverageQuery) -> dict[str, Any]:
    """Say of each scene that shows the parcel's place whether there is a value, and why not."""
    asked = period.parse(query.datetime)
    with reading() as cursor:
        dataset = datasets.find(cursor, path.collection_id)
        if not signatures.parcel_periods(cursor, dataset, path.pid):
            raise signatures.unknown([path.pid])
        found = of_dataset(cursor, dataset.id)
        if query.product:
            chosen = [products.choose(found, query.product, query.card)]
        else:
            chosen = [one for one in newest(found) if query.card in (None, one.card)]
        answers = coverage.of_parcel(cursor, dataset, path.pid, chosen, asked)
        log_read(cursor, dataset.name, [path.pid])
    document = Coverage(
        collection=dataset.name,
        pid=path.pid,
        answers=answers,
    )
    return document.model_dump(mode="json")
