"""Collections: the layers of the datasets that are granted to who asks."""

from __future__ import annotations

from typing import Any

from flask import request
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, Field

from cbm_api import crs
from cbm_api.context import reading
from cbm_api.parameters import CollectionPath
from cbm_api.queries import datasets
from cbm_api.queries.datasets import Dataset
from cbm_api.routes.ogc import GEOJSON, Link, NoParameters, document, link

api = APIBlueprint(
    "collections",
    __name__,
    url_prefix="/v1/collections",
    abp_tags=[Tag(name="collections", description="Parcels, by dataset")],
)


class Spatial(BaseModel):
    """Where the parcels are."""

    bbox: list[list[float]] = Field(description="One box: west, south, east, north in degrees.")
    crs: str = crs.CRS84


class Temporal(BaseModel):
    """When the images were taken."""

    interval: list[list[str]] = Field(description="One interval, both ends inclusive, UTC.")


class Extent(BaseModel):
    """Where the parcels are, and when the images were taken."""

    spatial: Spatial | None = None
    temporal: Temporal


class Collection(BaseModel):
    """A layer of a dataset."""

    id: str
    title: str
    aoi: str
    year: int = Field(description="The year of declaration.")
    layer: str = Field(description="'' for the default layer.")
    parcels: int = Field(description="How many the latest import had.")
    extent: Extent
    item_type: str = Field(default="feature", serialization_alias="itemType")
    crs: list[str] = Field(description="What parcels are given in, by parameter crs.")
    storage_crs: str | None = Field(
        default=None,
        serialization_alias="storageCrs",
        description="What the file was in: coordinates in it are those of the file.",
    )
    links: list[Link]


class Collections(BaseModel):
    """The collections that are granted to who asks."""

    links: list[Link]
    collections: list[Collection]


@api.get("", responses={200: Collections}, summary="The collections that you may read")
def collections(query: NoParameters) -> dict[str, Any]:
    """List the collections that are granted to who asks."""
    with reading() as cursor:
        found = datasets.list_all(cursor)
    page = Collections(
        links=[Link(href=request.base_url, rel="self", type="application/json")],
        collections=[_collection(dataset) for dataset in found],
    )
    return document(page)


@api.get("/<collection_id>", responses={200: Collection}, summary="One collection")
def collection(path: CollectionPath, query: NoParameters) -> dict[str, Any]:
    """Describe a collection."""
    with reading() as cursor:
        found = datasets.find(cursor, path.collection_id)
    return document(_collection(found))


def storage(dataset: Dataset) -> int | None:
    """Return the EPSG code of the file's reference system, None where it has none."""
    return dataset.crs if dataset.crs is not None and crs.known(dataset.crs) else None


def _collection(dataset: Dataset) -> Collection:
    code = storage(dataset)
    layer = f", layer {dataset.layer}" if dataset.layer else ""
    spatial = Spatial(bbox=[dataset.extent]) if dataset.extent else None
    days = f"{dataset.imagery_start}T00:00:00Z", f"{dataset.imagery_end}T23:59:59Z"
    name = {"collection_id": dataset.name}
    return Collection(
        id=dataset.name,
        title=f"Parcels of {dataset.aoi.upper()} {dataset.year}{layer}",
        aoi=dataset.aoi,
        year=dataset.year,
        layer=dataset.layer,
        parcels=dataset.parcels,
        extent=Extent(spatial=spatial, temporal=Temporal(interval=[list(days)])),
        crs=crs.offered(code),
        storage_crs=crs.uri(code) if code else crs.CRS84,
        links=[
            link("self", "application/json", "collections.collection", **name),
            link("items", GEOJSON, "items.items", "The parcels", **name),
        ],
    )
