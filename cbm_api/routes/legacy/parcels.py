"""The predecessor's routes to parcels."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response, jsonify
from flask_openapi3 import APIBlueprint, Tag

from cbm_api.context import log_read, reading
from cbm_api.queries import legacy_parcels
from cbm_api.queries.datasets import Dataset, find_legacy
from cbm_api.queries.legacy_parcels import Columns, Show
from cbm_api.routes.legacy import answers
from cbm_api.routes.legacy.parameters import (
    Named,
    ParcelById,
    ParcelByLocation,
    ParcelsByPolygon,
    Peers,
    Shown,
)
from cbm_core.db import Cursor

api = APIBlueprint(
    "legacy_parcels", __name__, url_prefix="/query", abp_tags=[Tag(name="predecessor's routes")]
)
MOST_PEERS = 10_000


@api.get("/parcelByID", responses={200: answers.Parcels}, summary="A parcel by its id")
@api.get("/parcelById", responses={200: answers.Parcels}, summary="The same as parcelByID")
def parcel_by_id(query: ParcelById) -> Response:
    """Answer with a parcel's data."""
    with reading() as cursor:
        dataset = dataset_of(cursor, query)
        if dataset is None:
            return jsonify({})
        log_read(cursor, dataset.name, [query.pid])
        found = legacy_parcels.by_id(cursor, dataset, query.pid, _show(query))
    return answers.columns(found)


@api.get("/parcelByLocation", responses={200: answers.Parcels}, summary="Parcels at a place")
def parcel_by_location(query: ParcelByLocation) -> Response:
    """Answer with the data of the parcels at a place."""
    return _answered(query, legacy_parcels.by_location, query.lon, query.lat, _show(query))


@api.get("/parcelsByPolygon", responses={200: answers.Parcels}, summary="Parcels in a polygon")
def parcels_by_polygon(query: ParcelsByPolygon) -> Response:
    """Answer with the data of up to 100 parcels that meet a polygon."""
    show = _show(query, ids_only=query.only_ids)
    return _answered(query, legacy_parcels.by_polygon, query.ring(), show)


@api.get("/parcelPeers", responses={200: answers.PeerColumns}, summary="Parcels alike nearby")
def parcel_peers(query: Peers) -> Response:
    """Answer with the nearest parcels of the same crop."""
    most = min(query.max, MOST_PEERS)
    with reading() as cursor:
        dataset = dataset_of(cursor, query)
        if dataset is None:
            return jsonify({})
        found = legacy_parcels.peers(cursor, dataset, query.pid, query.distance, most)
        peers = [str(pid) for pid in found["pids"]] if found else []
        log_read(cursor, dataset.name, [query.pid, *peers])
    return jsonify(found or {})


def dataset_of(cursor: Cursor, query: Named) -> Dataset | None:
    """Return the dataset that a request names; None when the user may read none of that name."""
    return find_legacy(cursor, query.aoi, query.year, query.ptype)


def _show(query: Shown, *, ids_only: bool = False) -> Show:
    return Show(geometry=query.withGeometry, wgs84=query.wgs84, ids_only=ids_only)


def _answered(query: Shown, look: Callable[..., Columns], *wanted: object) -> Response:
    """Answer with the parcels that a query finds, and write down which they were."""
    with reading() as cursor:
        dataset = dataset_of(cursor, query)
        if dataset is None:
            return jsonify({})
        found = look(cursor, dataset, *wanted)
        if found["pid"]:
            log_read(cursor, dataset.name, [str(pid) for pid in found["pid"]])
    return answers.columns(found)
