"""Parcels as vector tiles, for maps."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, Field

from cbm_api.context import log_read, reading
from cbm_api.parameters import CollectionPath, Parameters
from cbm_api.queries import datasets, tiles
from cbm_core import __version__
from cbm_core.errors import CbmError

api = APIBlueprint(
    "tiles",
    __name__,
    url_prefix="/v1/collections/<collection_id>/tiles/WebMercatorQuad",
    abp_tags=[Tag(name="tiles")],
)
_MVT = "application/vnd.mapbox-vector-tile"
_TILE: dict[Any, Any] = {
    200: {
        "description": "A Mapbox vector tile (2.1), empty where there are no parcels;"
        " Cbm-Left-Out says how many small parcels found no room.",
        "content": {_MVT: {"schema": {"type": "string", "format": "binary"}}},
    },
    304: {"description": "The tile is as the client has it (If-None-Match)."},
}
_CROP = {"crop_code": "String", "crop_name": "String"}


class _Tile(CollectionPath):
    z: int = Field(ge=0, le=tiles.MAX_ZOOM, description="Zoom: tile matrix.")
    y: int = Field(ge=0, lt=2**tiles.MAX_ZOOM, description="Row, from the north.")
    x: int = Field(ge=0, lt=2**tiles.MAX_ZOOM, description="Column, from the west.")


class VectorLayer(BaseModel):
    """A layer of the tiles."""

    id: str
    fields: dict[str, str]
    minzoom: int
    maxzoom: int


class TileJson(BaseModel):
    """What map libraries ask for first (TileJSON 3.0)."""

    tilejson: str
    name: str
    scheme: str
    tiles: list[str]
    minzoom: int
    maxzoom: int
    bounds: list[float] | None = Field(
        default=None, description="West, south, east and north in degrees, of whole tiles."
    )
    vector_layers: list[VectorLayer]


@api.get("", responses={200: TileJson}, summary="Where the tiles are and what they show")
def tilejson(path: CollectionPath, query: Parameters) -> dict[str, Any]:
    """Describe the tiles of a collection as TileJSON 3.0."""
    with reading() as cursor:
        dataset = datasets.find(cursor, path.collection_id)
        bounds = tiles.bounds(cursor, dataset)
    # Zooms above that of one metre a pixel show nothing new: map libraries enlarge.
    last, first = 16, tiles.PARCEL_ZOOM
    cells = {"parcels": "Number", "area_ha": "Number", **_CROP}
    document = TileJson(
        tilejson="3.0.0",
        name=dataset.name,
        scheme="xyz",
        tiles=[f"{request.base_url}/{{z}}/{{y}}/{{x}}"],
        minzoom=0,
        maxzoom=last,
        bounds=bounds,
        vector_layers=[
            VectorLayer(id="grid", fields=cells, minzoom=0, maxzoom=first - 1),
            VectorLayer(
                id="parcels", fields={"pid": "String", **_CROP}, minzoom=first, maxzoom=last
            ),
        ],
    )
    return document.model_dump(exclude_none=True)


@api.get("/<z>/<y>/<x>", responses=_TILE, summary="A vector tile")
def tile(path: _Tile, query: Parameters) -> Response:
    """Answer a tile: counts of parcels in cells up to zoom 11, parcels from 12 on."""
    if max(path.x, path.y) >= 2**path.z:
        raise CbmError("bad_parameter", f"Zoom {path.z} has rows and columns 0 to {2**path.z - 1}.")
    with reading() as cursor:
        dataset = datasets.find(cursor, path.collection_id)
        etag = f"{dataset.id}-{tiles.version(cursor, dataset)}-{__version__}"
        if request.if_none_match.contains(etag):
            body, left_out = b"", 0
        elif path.z < tiles.PARCEL_ZOOM:
            body, left_out = tiles.grid(cursor, dataset, path.z, path.x, path.y), 0
        else:
            body, shown, left_out = tiles.parcels(cursor, dataset, path.z, path.x, path.y)
            log_read(cursor, dataset.name, shown)
    response = Response(body, content_type=_MVT)
    response.set_etag(etag)
    if left_out:
        response.headers["Cbm-Left-Out"] = str(left_out)
    response.make_conditional(request)
    return response
