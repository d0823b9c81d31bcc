"""Why a parcel has a value of a date, or none."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from flask_openapi3 import APIBlueprint
from pydantic import BaseModel, Field

from cbm_api import period
from cbm_api.context import log_read, reading
from cbm_api.parameters import Parameters, ParcelPath
from cbm_api.queries import coverage, datasets, products, signatures
from cbm_api.routes.signatures import TAG

api = APIBlueprint("coverage", __name__, url_prefix="/v1/collections", abp_tags=[TAG])

WHY = {
    "ok": "There are statistics.",
    "clouded": "Imaged, but the product's mask left no pixel, or too few.",
    "no_image": "The scene holds no valid pixel of the parcel, or a better tile does.",
    "no_pixel": "No pixel's centre lies in the parcel.",
    "not_yet": "The extraction is still to come.",
    "not_asked": "The scene is catalogued; its extraction has not been asked for yet.",
    "failed": "The extraction failed; the operator knows why.",
    "held": "The scene was found unfit and is held back.",
    "superseded": "A newer processing of the scene took its place.",
    "retracted": "The operator took the scene out of use.",
}
Code = Literal[
    "ok", "clouded", "no_image", "no_pixel", "not_yet", "not_asked", "failed",
    "held", "superseded", "retracted",
]  # fmt: skip


class CoverageQuery(Parameters):
    """Of which product, and when."""

    product: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9_]{0,62}(@[0-9]{1,4})?$",
        description="A product; if left out, each in its newest revision.",
    )
    card: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9]{0,15}$")
    datetime: str | None = Field(
        default=None,
        max_length=80,
        description="When the image was taken (UTC): a day, a moment, or two with a slash "
        "between; '..' leaves an end open.",
    )


class Answer(BaseModel):
    """What there is of a scene for the parcel."""

    obstime: datetime
    product: str
    revision: int
    reference: str
    part: str
    tile: str
    cloud_percent: float | None = Field(description="Of the whole scene.")
    px_imaged: int | None
    px_clear: int | None
    code: Code
    why: str


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
        found = products.of_dataset(cursor, dataset.id)
        if query.product:
            chosen = [products.choose(found, query.product, query.card)]
        else:
            # The newest revision stands first.
            newest = {one.name: one for one in reversed(found)}
            chosen = [one for one in newest.values() if query.card in (None, one.card)]
        answers = coverage.of_parcel(cursor, dataset, path.pid, chosen, asked)
        log_read(cursor, dataset.name, [path.pid])
    document = Coverage(
        collection=dataset.name,
        pid=path.pid,
        answers=[Answer(**asdict(one), why=WHY[one.code]) for one in answers],
    )
    return document.model_dump(mode="json")
