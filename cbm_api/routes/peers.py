"""Parcels of the same crop near a parcel, and how it compares with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, Field

from cbm_api import crs
from cbm_api.context import log_read, reading
from cbm_api.parameters import ParcelPath
from cbm_api.queries import datasets, parcels, signatures
from cbm_api.queries.parcels import Reach, Search
from cbm_api.routes.collections import storage
from cbm_api.routes.items import FEATURES, When, collection, described, time_of
from cbm_api.routes.ogc import GEOJSON, link
from cbm_api.routes.signatures import COLUMNS, PRODUCT, about
from cbm_api.series import formats, table
from cbm_api.series.compared import compare
from cbm_api.series.request import Chosen, Statistic, Statistics, Wanted, understand

api = APIBlueprint(
    "peers",
    __name__,
    url_prefix="/v1/collections",
    abp_tags=[Tag(name="parcels", description="Parcels as GeoJSON, and those alike nearby")],
)

MOST_PEERS = 1000
# Their series are compared in memory: with all numbers of all bands some 100 MB of them.
MOST_COMPARED = 200
# Whose series are read at a time, in a session of its own.
CHUNK = 50
_MEAN: list[Statistic] = ["mean"]


class Near(BaseModel):
    """Which parcels of the same crop count as peers."""

    distance: float = Field(
        default=2000, gt=0, le=20_000, allow_inf_nan=False, description="At most, in metres."
    )
    min_area: float = Field(
        default=3000, ge=0, allow_inf_nan=False, description="Square metres, at least."
    )
    limit: int = Field(
        default=100, ge=1, description=f"The nearest; more than {MOST_PEERS} are not given."
    )

    def reach(self, most: int) -> Reach:
        """Return what a query takes; it gives no more than ``most``."""
        return Reach(self.distance, min(self.limit, most), self.min_area)


class PeersQuery(Near, When):
    """Which peers, and how they are shown."""


class StatisticsQuery(Near, Wanted):
    """Which peers, and which numbers of which images."""

    limit: int = Field(
        default=100,
        ge=1,
        description=f"The nearest; more than {MOST_COMPARED} are not compared with.",
    )
    statistics: Statistics | None = Field(
        default=_MEAN,
        max_length=8,
        description="Of the parcel's pixels: numbers that the parcel is compared by.",
    )


_STATISTICS: dict[Any, Any] = {
    200: {
        "description": "A row per pass: the parcel's numbers, and the spread of its peers'.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["collection", "product", "pid", "peers", "rows", "columns"],
                    "properties": {
                        "collection": {"type": "string"},
                        "product": PRODUCT,
                        "pid": {"type": "string"},
                        "peers": {"type": "array", "items": {"type": "string"}},
                        "rows": {"type": "integer"},
                        "columns": COLUMNS,
                    },
                }
            }
        },
    }
}


@api.get(
    "/<collection_id>/items/<path:pid>/peers",
    responses=described(FEATURES, "Peers, the nearest first; each has distance_m."),
    summary="Parcels of the same crop nearby",
)
def peers(path: ParcelPath, query: PeersQuery) -> Response:
    """Give the parcels of the same crop nearby, from border to border, the nearest first.

    The crop is the code, or the name where there is no code; without either there are no peers.
    """
    with reading() as cursor:
        dataset = datasets.find(cursor, path.collection_id)
        system = crs.require(query.crs, storage(dataset), "crs")
        reach = query.reach(MOST_PEERS)
        found = parcels.peers(cursor, dataset, path.pid, time_of(query), system, reach)
        log_read(cursor, dataset.name, [path.pid, *(peer.pid for peer in found)])
    here = {"collection_id": dataset.name, "pid": path.pid, **request.args.to_dict()}
    links = [link("self", GEOJSON, "peers.peers", **here)]
    features = [peer.feature for peer in found]
    return collection(dataset, features, system, links, matched=None)


@api.get(
    "/<collection_id>/items/<path:pid>/peers/statistics",
    responses=_STATISTICS,
    summary="A parcel's statistics beside those of its peers",
)
def statistics(path: ParcelPath, query: StatisticsQuery) -> Response:
    """Compare a parcel with its peers, image by image.

    Of each number, B04_mean say, there are the parcel's, and of its peers B04_mean_peers_count (how
    many have one on that pass), _mean, _std, _min, _p25, _p50, _p75 and _max.
    """
    here = crs.require(crs.CRS84, None, "crs")
    with reading() as cursor:
        dataset = datasets.find(cursor, path.collection_id)
        reach = query.reach(MOST_COMPARED)
        found = parcels.peers(cursor, dataset, path.pid, Search(), here, reach)
        chosen = understand(cursor, dataset, query)
        own = table.read(cursor, chosen, signatures.parcel_periods(cursor, dataset, path.pid))
        log_read(cursor, dataset.name, [path.pid, *(peer.pid for peer in found)])
    others = pa.concat_tables(_series(path.collection_id, chosen, [one.row_id for one in found]))
    names = {"pid": path.pid, "peers": [peer.pid for peer in found]}
    return Response(
        formats.one_parcel(compare(own, others), {**about(chosen), **names}),
        content_type="application/json",
    )


def _series(collection_id: str, chosen: Chosen, rows: Sequence[int]) -> Iterator[pa.Table]:
    """Yield the series of a few parcels at a time; at least one table, which may be empty."""
    for start in range(0, max(len(rows), 1), CHUNK):
        with reading() as cursor:
            datasets.find(cursor, collection_id)
            some = signatures.parcels(cursor, rows[start : start + CHUNK])
            series = table.read(cursor, chosen, some)
        yield series
