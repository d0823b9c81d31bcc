"""Image chips of a parcel: which there are, as pictures, as numbers, many dates in one picture."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any, Literal

from flask import Response, url_for
from flask_openapi3 import APIBlueprint, Tag
from PIL.Image import Image as Drawing
from pydantic import BaseModel, ConfigDict, Field

from cbm_api import period
from cbm_api.context import log_read, reading
from cbm_api.images import Images
from cbm_api.imaging import backgrounds, geotiff, pictures, rasters, wishes
from cbm_api.imaging.windows import Chip, Place
from cbm_api.parameters import ParcelPath
from cbm_api.queries import assets, datasets
from cbm_api.queries.assets import Image, Parcel
from cbm_api.queries.datasets import Dataset
from cbm_core.datasets.background import Background
from cbm_core.db import Cursor
from cbm_core.errors import CbmError

api = APIBlueprint(
    "chips",
    __name__,
    url_prefix="/v1/collections/<collection_id>/items/<path:pid>",
    abp_tags=[Tag(name="chips", description="Windows of the images that show a parcel")],
)

Bands = Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,8}(,[A-Za-z0-9]{1,8}){0,15}$")]
Numbers = Annotated[str, Field(max_length=200)]
_LARGEST_ID = 2**31 - 1
_KEPT = "private, max-age=3600"


def _file(kind: str, what: str) -> dict[str, Any]:
    return {
        "description": what,
        "content": {kind: {"schema": {"type": "string", "format": "binary"}}},
    }


class _ScenePath(ParcelPath):
    scene: int = Field(ge=1, le=_LARGEST_ID, description="The scene's number, from the list.")


class _Sized(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: float | None = Field(
        default=None,
        ge=wishes.SMALLEST_M,
        le=wishes.LARGEST_M,
        allow_inf_nan=False,
        description="Side of the square around the parcel in metres; by default the parcel fits.",
    )


class _Which(Images):
    """Which images: by default those of the dataset's imagery."""

    card: Literal["s2", "bs", "c6", "c12"] = Field(default="s2", description="The kind of image.")
    max_cloud: float | None = Field(
        default=None,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="Highest cloud percentage of the whole scene.",
    )


class ListQuery(_Which, _Sized):
    """Which images are listed."""

    limit: int = Field(default=100, ge=1, le=500)


class _Shown(BaseModel):
    bands: Bands | None = Field(
        default=None, description="One band, or red, green and blue: `B08,B04,B03`."
    )
    stretch: Numbers | None = Field(
        default=None, description="Percentiles of the chip that are black and white: `2,98`."
    )
    range: Numbers | None = Field(
        default=None,
        description="Values that are black and white, in the unit of the statistics: `0,3000`, or"
        " a pair for each band. By default they are the same on all dates.",
    )
    outline: bool = Field(default=True, description="Draw the parcel's borders.")


class PictureQuery(_Shown, _Sized):
    """How one picture is made."""

    side: int = Field(default=256, ge=16, le=1024, description="Pixels of the picture's side.")


class GroundQuery(_Sized):
    """How large the picture is."""

    side: int = Field(default=512, ge=16, le=1024, description="Pixels of the picture's side.")


class WindowQuery(_Sized):
    """Which bands."""

    bands: Bands | None = Field(default=None, description="By default those of the picture.")


class MosaicQuery(_Which, _Shown, _Sized):
    """Which dates, and how they are shown."""

    limit: int = Field(default=24, ge=1, le=60, description="So many of the period's first.")
    columns: int = Field(default=6, ge=1, le=20)
    side: int = Field(default=128, ge=32, le=256, description="Pixels of each chip's side.")


class ChipEntry(BaseModel):
    """An image that shows the parcel."""

    scene: int
    reference: str
    card: str
    platform: str
    tile: str
    obstime: datetime
    cloud_percent: float | None = Field(description="Of the whole scene.")
    orbit_direction: str | None
    relative_orbit: int | None
    bands: list[str]
    png: str = Field(description="Where the picture is.")
    tiff: str = Field(description="Where the numbers are.")


class ChipList(BaseModel):
    """The images of a parcel, by time."""

    collection: str
    pid: str
    size: float = Field(description="Side of the chips in metres, unless another is asked for.")
    complete: bool = Field(description="Whether the period has no more images than these.")
    chips: list[ChipEntry]


@api.get("/chips", responses={200: ChipList}, summary="Images that show a parcel")
def chips(path: ParcelPath, query: ListQuery) -> dict[str, Any]:
    """List a parcel's images, one per pass of the satellite."""
    with reading() as cursor:
        dataset, parcel = _parcel(cursor, path)
        found = _images(cursor, dataset, parcel, query, query.limit + 1)
    listed = ChipList(
        collection=dataset.name,
        pid=parcel.pid,
        size=query.size or wishes.side_of(parcel.side_m),
        complete=len(found) <= query.limit,
        chips=[_entry(one, path) for one in found[: query.limit]],
    )
    return listed.model_dump(mode="json")


@api.get(
    "/chips/<int:scene>.png",
    responses={200: _file("image/png", "The picture; transparent where the image has no data.")},
    summary="A chip as a picture",
)
def picture(path: _ScenePath, query: PictureQuery) -> Response:
    """Show a parcel in one image."""
    parcel, image = _one(path)
    bands = wishes.composite(image.card, query.bands)
    chip = _read(image, bands, _place(parcel, query.size))
    shown = _picture(chip, image, parcel, query, query.side)
    return _answer(pictures.png(shown), "image/png", f"{image.name}.png")


@api.get(
    "/chips/<int:scene>.tif",
    responses={
        200: _file(
            "image/tiff",
            "GeoTIFF, float32 in the unit of the statistics, NaN without data; bands in the grid"
            " of the finest.",
        )
    },
    summary="A chip as numbers",
)
def window(path: _ScenePath, query: WindowQuery) -> Response:
    """Cut a parcel out of one image."""
    parcel, image = _one(path)
    bands = query.bands.split(",") if query.bands else wishes.composite(image.card, None)
    chip = _read(image, bands, _place(parcel, query.size))
    tags = {"reference": image.reference, "obstime": image.obstime.isoformat(), "pid": parcel.pid}
    return _answer(geotiff.numbers(chip, tags), "image/tiff", f"{image.name}.tif")


@api.get(
    "/chips.png",
    responses={200: _file("image/png", "The pictures in rows, each with its date below.")},
    summary="Many dates in one picture",
)
def mosaic(path: ParcelPath, query: MosaicQuery) -> Response:
    """Show a parcel on many dates; an image whose file is gone leaves its place empty."""
    bands = wishes.composite(query.card, query.bands)
    with reading() as cursor:
        dataset, parcel = _parcel(cursor, path)
        found = _images(cursor, dataset, parcel, query, query.limit)
    place = _place(parcel, query.size)
    wanted = [
        (wishes.chosen(one.assets, one.card, bands, one.name), place, one.name) for one in found
    ]
    read = rasters.current().chips(wanted)
    cells = [
        pictures.Cell(
            _label(image),
            _picture(chip, image, parcel, query, query.side) if isinstance(chip, Chip) else None,
        )
        for image, chip in zip(found, read, strict=True)
    ]
    sheet = pictures.mosaic(cells, query.side, query.columns)
    return _answer(pictures.png(sheet), "image/png", "chips.png")


@api.get(
    "/background.png",
    responses={200: _file("image/png", "The ground, from the dataset's own orthophoto.")},
    summary="The ground around a parcel",
)
def background(path: ParcelPath, query: GroundQuery) -> Response:
    """Show the orthophoto around a parcel; 404 where the dataset has none."""
    with reading() as cursor:
        dataset, parcel = _parcel(cursor, path)
    source = Background.of(dataset.settings)
    if source is None:
        raise CbmError("not_found", f"The collection {dataset.name} has no orthophoto.")
    pixels, _ = rasters.current().ground(source, _place(parcel, query.size), query.side)
    return _answer(pictures.png(backgrounds.picture(pixels)), "image/png", "background.png")


def _parcel(cursor: Cursor, path: ParcelPath) -> tuple[Dataset, Parcel]:
    dataset = datasets.find(cursor, path.collection_id)
    log_read(cursor, dataset.name, [path.pid])
    return dataset, assets.parcel(cursor, dataset, path.pid)


def _one(path: _ScenePath) -> tuple[Parcel, Image]:
    with reading() as cursor:
        _, parcel = _parcel(cursor, path)
        return parcel, assets.image(cursor, path.scene, parcel.shape)


def _images(
    cursor: Cursor, dataset: Dataset, parcel: Parcel, query: _Which, most: int
) -> list[Image]:
    start = datetime.combine(dataset.imagery_start, time(), UTC)
    end = datetime.combine(dataset.imagery_end, time(), UTC) + timedelta(days=1)
    if query.datetime:
        asked = period.parse(query.datetime)
        start, end = asked.start, asked.end
    return assets.images(cursor, query.card, parcel.shape, (start, end), most, query.max_cloud)


def _place(parcel: Parcel, size: float | None) -> Place:
    return Place(parcel.lon, parcel.lat, size or wishes.side_of(parcel.side_m))


def _read(image: Image, bands: list[str], place: Place) -> Chip:
    chosen = wishes.chosen(image.assets, image.card, bands, image.name)
    return rasters.current().chip(chosen, place, image.name)


def _picture(chip: Chip, image: Image, parcel: Parcel, query: _Shown, side: int) -> Drawing:
    shades = wishes.ranges(chip, image.card, query.stretch, query.range)
    shown = pictures.picture(chip, shades, side)
    if query.outline:
        pictures.outline(shown, parcel.outline, chip.crs, pictures.grid_of(shown, chip))
    return shown


def _label(image: Image) -> str:
    cloud = "" if image.cloud_percent is None else f" {image.cloud_percent:.0f} %"
    return f"{image.obstime:%Y-%m-%d}{cloud}"


def _entry(image: Image, path: ParcelPath) -> ChipEntry:
    place: dict[str, Any] = {**path.model_dump(), "scene": image.id}
    return ChipEntry(
        scene=image.id,
        reference=image.reference,
        card=image.card,
        platform=image.platform,
        tile=image.tile,
        obstime=image.obstime,
        cloud_percent=image.cloud_percent,
        orbit_direction=image.orbit_direction,
        relative_orbit=image.relative_orbit,
        bands=sorted(image.assets),
        png=url_for("chips.picture", **place),
        tiff=url_for("chips.window", **place),
    )


def _answer(body: bytes, kind: str, name: str) -> Response:
    response = Response(body, content_type=kind)
    response.headers.set("Content-Disposition", "inline", filename=name)
    response.headers["Cache-Control"] = _KEPT
    response.vary.add("Authorization")
    return response
