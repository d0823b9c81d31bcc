"""Parcels of a collection, in the manner of OGC API - Features."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from flask import Response, json, request
from flask_openapi3 import APIBlueprint, Tag
from pydantic import Field

from cbm_api import crs, period
from cbm_api.context import log_read, reading
from cbm_api.crs import CRS84, Crs
from cbm_api.parameters import CollectionPath, Parameters, ParcelPath, Text
from cbm_api.queries import datasets, parcels
from cbm_api.queries.datasets import Dataset
from cbm_api.queries.parcels import START, Key, Search
from cbm_api.routes.collections import storage
from cbm_api.routes.ogc import GEOJSON, Link, document, link
from cbm_core.errors import CbmError

api = APIBlueprint(
    "items",
    __name__,
    url_prefix="/v1/collections",
    abp_tags=[Tag(name="parcels", description="Parcels as GeoJSON, and those alike nearby")],
)

# More are not given at once, however many are asked for.
MOST_ITEMS = 10_000
_KEY = re.compile(r"([0-9]{1,10})\.([0-9]{1,19})")
_LAST_KEY: Key = (2**31 - 1, 2**63 - 1)


class When(Parameters):
    """Which time is meant, and in which reference system coordinates are given."""

    datetime: str | None = Field(
        default=None,
        max_length=80,
        description="When the parcel is valid in the field: a day, a moment, or two with a slash "
        "between; '..' leaves an end open. Of several periods of a parcel the last one counts; "
        "left out, the one without an end.",
    )
    as_of: str | None = Field(
        default=None,
        max_length=40,
        description="As it was known then: a moment, or the beginning of a day (UTC).",
    )
    crs: str = Field(
        default=CRS84,
        max_length=128,
        description="The reference system of the answer, one that the collection lists.",
    )


class ItemsQuery(When):
    """Which parcels, and how many at once."""

    bbox: str | None = Field(
        default=None,
        max_length=400,
        description="Parcels that meet a box: its lower and its upper corner, four numbers with "
        "commas between (six with heights), in the axis order of bbox-crs.",
    )
    bbox_crs: str = Field(
        default=CRS84, alias="bbox-crs", max_length=128, description="The box's reference system."
    )
    crop_code: Text | None = None
    crop_name: Text | None = None
    limit: int = Field(
        default=100, ge=1, description=f"How many at once; more than {MOST_ITEMS} are not given."
    )
    cursor: str | None = Field(
        default=None, max_length=40, description="Where to go on: follow the link 'next'."
    )


_LINKS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["href", "rel"],
        "properties": {name: {"type": "string"} for name in ("href", "rel", "type", "title")},
    },
}
_TEXT_OR_NULL = {"anyOf": [{"type": "string"}, {"type": "null"}]}
FEATURE: dict[str, Any] = {
    "type": "object",
    "required": ["type", "id", "geometry", "properties"],
    "properties": {
        "type": {"const": "Feature"},
        "id": {"type": "string"},
        "geometry": {
            "type": "object",
            "required": ["type", "coordinates"],
            "properties": {"type": {"const": "MultiPolygon"}, "coordinates": {"type": "array"}},
        },
        "properties": {
            "type": "object",
            "description": "The columns that were imported with the file as well.",
            "required": ["pid", "crop_code", "crop_name", "area_m2", "valid_from", "valid_to"],
            "properties": {
                "pid": {"type": "string"},
                "crop_code": _TEXT_OR_NULL,
                "crop_name": _TEXT_OR_NULL,
                "area_m2": {"type": "number", "description": "In EPSG:3035 (equal area)."},
                "valid_from": {"type": "string", "format": "date"},
                "valid_to": {**_TEXT_OR_NULL, "description": "Exclusive; null without an end."},
            },
        },
        "links": _LINKS,
    },
}
FEATURES: dict[str, Any] = {
    "type": "object",
    "required": ["type", "features", "numberReturned", "timeStamp", "links"],
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {"type": "array", "items": FEATURE},
        "numberMatched": {"type": "integer", "description": "Only where it costs nothing."},
        "numberReturned": {"type": "integer"},
        "timeStamp": {"type": "string", "format": "date-time"},
        "links": _LINKS,
    },
}


def described(schema: dict[str, Any], text: str) -> dict[Any, Any]:
    """Return an answer of GeoJSON for the OpenAPI document."""
    header = {"description": "The reference system.", "schema": {"type": "string"}}
    return {
        200: {
            "description": text,
            "content": {GEOJSON: {"schema": schema}},
            "headers": {"Content-Crs": header},
        }
    }


@api.get(
    "/<collection_id>/items",
    responses=described(FEATURES, "A page of parcels."),
    summary="Parcels, page by page",
)
def items(path: CollectionPath, query: ItemsQuery) -> Response:
    """Give parcels that meet a box, a time and a crop, and a link to the next page.

    A page of a search that takes long has fewer parcels than asked for, and a link to go on.
    """
    with reading() as cursor:
        dataset = datasets.find(cursor, path.collection_id)
        system = crs.require(query.crs, storage(dataset), "crs")
        search = _search(query, dataset)
        after, limit = _key(query.cursor), min(query.limit, MOST_ITEMS)
        features, following = parcels.page(cursor, dataset, search, system, after, limit)
        log_read(cursor, dataset.name, len(features))
    here = {"collection_id": dataset.name, **request.args.to_dict()}
    links = [link("self", GEOJSON, "items.items", **here)]
    if following:
        here["cursor"] = f"{following[0]}.{following[1]}"
        if not features:
            raise _too_wide(here["cursor"])
        links.append(link("next", GEOJSON, "items.items", **here))
    whole = len(features) if after == START and not following else None
    return collection(dataset, features, system, links, _matched(dataset, query, whole))


@api.get(
    "/<collection_id>/items/<path:pid>",
    responses=described(FEATURE, "The parcel."),
    summary="One parcel",
)
def item(path: ParcelPath, query: When) -> Response:
    """Give one parcel: its last period, or the last that meets the time."""
    with reading() as cursor:
        dataset = datasets.find(cursor, path.collection_id)
        system = crs.require(query.crs, storage(dataset), "crs")
        found = parcels.item(cursor, dataset, path.pid, time_of(query), system)
        log_read(cursor, dataset.name, [path.pid])
    names = {"collection_id": dataset.name, "pid": path.pid}
    links = [
        link("self", GEOJSON, "items.item", **names, **request.args.to_dict()),
        _up(dataset),
        link("related", GEOJSON, "peers.peers", "Parcels of the same crop nearby", **names),
    ]
    text = json.dumps([document(one) for one in links])
    return geojson(f'{found.feature[:-1]},"links":{text}}}', system)


def collection(
    dataset: Dataset, features: list[str], system: Crs, links: list[Link], matched: int | None
) -> Response:
    """Return features as a FeatureCollection."""
    rest = {
        **({} if matched is None else {"numberMatched": matched}),
        "numberReturned": len(features),
        "timeStamp": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "links": [document(one) for one in (*links, _up(dataset))],
    }
    listed = ",".join(features)
    text = f'{{"type":"FeatureCollection","features":[{listed}],{json.dumps(rest)[1:]}'
    return geojson(text, system)


def geojson(text: str, system: Crs) -> Response:
    """Return GeoJSON whose coordinates are in a system."""
    return Response(text, content_type=GEOJSON, headers={"Content-Crs": f"<{system.uri}>"})


def time_of(query: When) -> Search:
    """Return the search for the time that is meant.

    Raises:
        CbmError: ``bad_parameter``.

    """
    days: tuple[date, date] | None = None
    if query.datetime is not None:
        meant = period.parse(query.datetime)
        days = meant.start.date(), (meant.end - timedelta(microseconds=1)).date()
    if query.as_of is None:
        return Search(days=days)
    if "/" in query.as_of:
        raise CbmError("bad_parameter", "as_of is an interval; expected a moment or a day.")
    return Search(days=days, as_of=period.parse(query.as_of).start)


def _search(query: ItemsQuery, dataset: Dataset) -> Search:
    box_system = crs.require(query.bbox_crs, storage(dataset), "bbox-crs")
    area = None if query.bbox is None else crs.box(query.bbox, box_system)
    return replace(time_of(query), area=area, crop_code=query.crop_code, crop_name=query.crop_name)


def _key(text: str | None) -> Key:
    if text is None:
        return START
    parts = _KEY.fullmatch(text)
    key = (int(parts[1]), int(parts[2])) if parts else _LAST_KEY
    if key[0] >= _LAST_KEY[0] or key[1] >= _LAST_KEY[1]:
        raise CbmError(
            "bad_parameter",
            f"cursor is {text!r}; expected what a link 'next' has.",
            "Begin without it, and follow the links.",
        )
    return key


def _too_wide(cursor: str) -> CbmError:
    # An empty page with a link would be right too, but GDAL takes it for the end.
    return CbmError(
        "search_too_wide",
        f"In {parcels.PAGE_SECONDS:.0f} s no such parcel was found, and not all were looked at.",
        f"Ask for a smaller bbox, or go on with cursor={cursor}.",
        cursor=cursor,
    )


def _matched(dataset: Dataset, query: ItemsQuery, whole: int | None) -> int | None:
    """Return how many parcels there are on all pages, where that is known without counting."""
    chosen = (query.bbox, query.datetime, query.as_of, query.crop_code, query.crop_name)
    return dataset.parcels if all(one is None for one in chosen) else whole


def _up(dataset: Dataset) -> Link:
    return link(
        "collection", "application/json", "collections.collection", collection_id=dataset.name
    )
