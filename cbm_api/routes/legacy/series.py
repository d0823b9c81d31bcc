"""The predecessor's routes to time series."""

from __future__ import annotations

from typing import Annotated, Literal

from flask import Response, jsonify
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BeforeValidator, Field

from cbm_api.context import log_read, reading
from cbm_api.queries import legacy_series
from cbm_api.queries.datasets import Dataset
from cbm_api.queries.legacy_parcels import Columns
from cbm_api.queries.legacy_series import Asked
from cbm_api.routes.legacy import answers
from cbm_api.routes.legacy.parameters import ById, Flag, Text
from cbm_api.routes.legacy.parcels import dataset_of
from cbm_core.db import Cursor

api = APIBlueprint(
    "legacy_series", __name__, url_prefix="/query", abp_tags=[Tag(name="predecessor's routes")]
)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class SeriesOf(ById):
    """A time series of a parcel."""

    tstype: Annotated[Literal["s2", "bs", "c6", "scl"], BeforeValidator(_lower)] = Field(
        default="s2", description="Sentinel-2, backscatter, coherence, or scene classes."
    )
    band: Text = Field(default="", description="One band: B04 or B4, VVb or VV.")
    scl: Flag = Field(default=True, description="Of s2, add histograms of scene classes.")
    ref: Flag = Field(default=False, description="Add the images' names.")
    tsformat: str = Field(default="json", description="csv for a file.")


@api.get(
    "/parcelTimeSeries",
    responses={
        200: {
            "description": "Columns; `{}` where nothing is found.",
            "content": {
                "application/json": {"schema": answers.Series.model_json_schema()},
                "text/csv": {"schema": {"type": "string"}},
            },
        }
    },
    summary="A parcel's time series",
)
def parcel_time_series(query: SeriesOf) -> Response:
    """Answer with a row per image and band, as columns or as a CSV file."""
    with reading() as cursor:
        dataset = dataset_of(cursor, query)
        if dataset is None:
            return jsonify({})
        log_read(cursor, dataset.name, [query.pid])
        found = _found(cursor, dataset, query)
    if query.tsformat == "csv" and found:
        stem = "_".join(
            part for part in (f"{dataset.aoi}{dataset.year}", dataset.layer, query.pid) if part
        )
        return answers.table(found, f"timeseries_{stem}_{query.tstype}.csv")
    return answers.columns(found)


@api.get("/weatherTimeSeries", responses={200: answers.Nothing}, summary="A parcel's weather")
def weather_time_series(query: ById) -> Response:
    """Answer with nothing: no weather is held."""
    return jsonify({})


@api.get("/markers", responses={200: answers.Nothing}, summary="A parcel's markers")
def markers(query: ById) -> Response:
    """Answer with nothing: no markers are held."""
    return jsonify({})


def _found(cursor: Cursor, dataset: Dataset, query: SeriesOf) -> Columns:
    """Return the columns that are asked for; none where no product serves."""
    card = "s2" if query.tstype == "scl" else query.tstype
    product = legacy_series.serving(cursor, dataset).get(card)
    if product is None:
        return {}
    if query.tstype == "scl":
        return legacy_series.histograms(cursor, dataset, query.pid, product)
    asked = Asked(query.band, histograms=query.scl and card == "s2", references=query.ref)
    return legacy_series.series(cursor, dataset, query.pid, product, asked)
