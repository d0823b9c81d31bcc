"""The predecessor's page about what there is."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from flask import Response, jsonify, request
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, Field

from cbm_api.context import log_read, reading
from cbm_api.queries import datasets, legacy_parcels, legacy_series
from cbm_api.queries.datasets import Dataset
from cbm_api.routes.legacy.parameters import Name
from cbm_core.datasets.background import Background
from cbm_core.db import Cursor

api = APIBlueprint(
    "legacy_info", __name__, url_prefix="/query", abp_tags=[Tag(name="predecessor's routes")]
)
_EXAMPLES = 5


class Asked(BaseModel):
    """What is asked about."""

    aoi: Name = Field(default="", description="An area of interest; all by default.")


class Info(BaseModel):
    """What there is."""

    server: dict[str, str]
    helpers: dict[str, str]
    aois: dict[str, dict[str, Any]] = Field(
        description="Per area: `years`, `datasets` (names of layers), `time_series`, `tms`, "
        "`id_table_column`, and of the latest year `id_examples_<year>[_<layer>]` and "
        "`request_examples`."
    )


@api.get("/info", responses={200: Info}, summary="The datasets that are granted")
def info(query: Asked) -> Response:
    """Answer with the areas of interest that the user may read."""
    host = request.host_url.rstrip("/")
    aois: dict[str, list[Dataset]] = {}
    with reading() as cursor:
        for dataset in datasets.list_all(cursor):
            if query.aoi in ("", dataset.aoi):
                aois.setdefault(dataset.aoi, []).append(dataset)
        about = {aoi: _about(cursor, found, host) for aoi, found in aois.items()}
    helpers = {"information_page": f"{host}/query/info", "swagger": f"{host}/openapi"}
    return jsonify({"server": {"host": host}, "helpers": helpers, "aois": about})


def _about(cursor: Cursor, found: list[Dataset], host: str) -> dict[str, Any]:
    """Describe an area; its datasets are in order, the latest year last."""
    year = found[-1].year
    # The unnamed layer comes first.
    latest = next(dataset for dataset in found if dataset.year == year)
    cards = list(legacy_series.serving(cursor, latest))
    pids = legacy_parcels.examples(cursor, latest, _EXAMPLES)
    if pids:
        log_read(cursor, latest.name, [str(pid) for pid in pids])
    suffix = f"_{latest.layer}" if latest.layer else ""
    return {
        "years": list(dict.fromkeys(str(dataset.year) for dataset in found)),
        "datasets": sorted({dataset.layer for dataset in found if dataset.layer}),
        "time_series": cards,
        "tms": ["orthophoto"] if Background.of(latest.settings) else [],
        "id_table_column": "pid",
        f"id_examples_{year}{suffix}": pids,
        "request_examples": _requests(latest, pids[0], cards, host) if pids else {},
    }


def _requests(dataset: Dataset, pid: str | int, cards: list[str], host: str) -> dict[str, str]:
    """Return complete addresses by route."""
    base = {"aoi": dataset.aoi, "year": dataset.year, "pid": pid}
    if dataset.layer:
        base["ptype"] = dataset.layer

    def address(route: str, **more: str) -> str:
        return f"{host}/query/{route}?{urlencode(base | more)}"

    found = {"parcelByID": address("parcelByID", withGeometry="True")}
    for card in cards:
        found[f"parcelTimeSeries_{card}"] = address("parcelTimeSeries", tstype=card)
    if Background.of(dataset.settings):
        found["backgroundByParcelID"] = address("backgroundByParcelID", tms="orthophoto")
    found["parcelPeers"] = address("parcelPeers")
    return found
