"""A collection's scenes, and the products that are extracted from them."""

from __future__ import annotations

from typing import Any, Literal

from flask import request, url_for
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, Field

from cbm_api import period
from cbm_api.context import reading
from cbm_api.images import Images
from cbm_api.parameters import CollectionPath
from cbm_api.queries import datasets, scenes
from cbm_api.queries.scenes import Item, Scene
from cbm_api.routes.ogc import NoParameters
from cbm_core.datasets.products import of_dataset

api = APIBlueprint(
    "scenes",
    __name__,
    url_prefix="/v1/collections",
    abp_tags=[Tag(name="scenes", description="Images and what is made of them")],
)
_MOST = 1000
_LARGEST_ID = 2**31 - 1


class ScenePath(CollectionPath):
    """A scene of a collection."""

    scene_id: int = Field(ge=1, le=_LARGEST_ID)


class SceneQuery(Images):
    """Which scenes."""

    state: Literal["active", "superseded", "held", "retracted"] | None = None
    orbit: str | None = Field(
        default=None,
        pattern=r"^(ascending|descending|[0-9]{1,3})$",
        description="The orbit's direction, or its relative number.",
    )
    max_cloud_percent: float | None = Field(
        default=None,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="Of the whole scene; scenes of which it is not known are left out.",
    )
    limit: int = Field(default=100, ge=1, le=_MOST)
    after: int | None = Field(
        default=None, ge=1, le=_LARGEST_ID, description="The last scene of the page before."
    )


class SceneDetail(Scene):
    """An image with its footprint and its bands."""

    footprint: dict[str, Any] = Field(description="GeoJSON, longitude and latitude.")
    bands: dict[str, Any] = Field(
        description="stored = raw x scale + offset; nodata are raw values without data."
    )
    extractions: list[Item]


class Link(BaseModel):
    """Where to go on."""

    rel: str
    href: str


class SceneList(BaseModel):
    """A page of scenes, by time."""

    scenes: list[Scene]
    links: list[Link]


class Product(BaseModel):
    """A definition of what is extracted."""

    name: str
    revision: int
    card: str
    unit: str | None = Field(description="Of the bands; indices have their own.")
    variables: list[str] = Field(description="Bands and indices.")
    buffer_m: float = Field(description="Inward buffer of the parcels, in metres.")


class ProductList(BaseModel):
    """A collection's products."""

    products: list[Product]


@api.get("/<collection_id>/scenes", responses={200: SceneList}, summary="Scenes by time")
def listed(path: CollectionPath, query: SceneQuery) -> dict[str, Any]:
    """List the scenes that the collection's extraction was asked for, whatever their state."""
    orbit = query.orbit
    wanted = scenes.Wanted(
        period=period.parse(query.datetime),
        card=query.card,
        state=query.state,
        direction=orbit if orbit and not orbit.isdigit() else None,
        relative_orbit=int(orbit) if orbit and orbit.isdigit() else None,
        cloud=query.max_cloud_percent,
    )
    with reading() as cursor:
        dataset = datasets.find(cursor, path.collection_id)
        found = scenes.listed(cursor, dataset, wanted, query.after, query.limit + 1)
    page = found[: query.limit]
    links = []
    if len(found) > query.limit:
        given: dict[str, Any] = {**request.args.to_dict(), "after": page[-1].id}
        href = url_for("scenes.listed", collection_id=path.collection_id, **given)
        links.append(Link(rel="next", href=href))
    answer = SceneList(scenes=page, links=links)
    return answer.model_dump(mode="json")


@api.get("/<collection_id>/scenes/<scene_id>", responses={200: SceneDetail}, summary="A scene")
def one(path: ScenePath, query: NoParameters) -> dict[str, Any]:
    """Say all about a scene, and what became of it."""
    with reading() as cursor:
        dataset = datasets.find(cursor, path.collection_id)
        scene, footprint, bands = scenes.get(cursor, dataset, path.scene_id)
        items = scenes.items(cursor, dataset, path.scene_id)
    answer = SceneDetail(
        **scene.model_dump(),
        footprint=footprint,
        bands=bands,
        extractions=items,
    )
    return answer.model_dump(mode="json")


@api.get("/<collection_id>/products", responses={200: ProductList}, summary="What is extracted")
def extracted(path: CollectionPath, query: NoParameters) -> dict[str, Any]:
    """List the products that the collection is extracted with, the newest revision first."""
    with reading() as cursor:
        dataset = datasets.find(cursor, path.collection_id)
        found = of_dataset(cursor, dataset.id)
    answer = ProductList(
        products=[
            Product(
                name=one.name,
                revision=one.revision,
                card=one.card,
                unit=one.unit,
                variables=list(one.variables),
                buffer_m=one.buffer_m,
            )
            for one in found
        ]
    )
    return answer.model_dump(mode="json")
