"""The predecessor's routes to pictures of the ground, from an agency's own orthophoto.

The parameter ``tms`` named providers whose pictures must not be passed on; here it only names the
file that is answered.
"""

from __future__ import annotations

from html import escape
from typing import Annotated, Any, Literal

from flask import Response, jsonify, url_for
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, BeforeValidator, Field
from rasterio.crs import CRS

from cbm_api.context import log_read, public, reading, user
from cbm_api.imaging import backgrounds, pictures, rasters, wishes
from cbm_api.imaging.tickets import Desk
from cbm_api.imaging.windows import Place
from cbm_api.queries import assets
from cbm_api.queries.assets import Parcel
from cbm_api.queries.datasets import find_legacy
from cbm_api.routes.legacy.parameters import ById, Flag, Latitude, Longitude
from cbm_api.security import with_ticket
from cbm_core.datasets.background import Background
from cbm_core.db import Cursor
from cbm_core.errors import CbmError

api = APIBlueprint(
    "legacy_backgrounds", __name__, url_prefix="/query", abp_tags=[Tag(name="predecessor's routes")]
)
# What backgrounds are in.
_MERCATOR = CRS.from_epsg(3857)


class _Wanted(BaseModel):
    chipsize: int = Field(default=256, ge=16, le=1024, description="Pixels of a side.")
    extend: float = Field(
        default=256,
        ge=wishes.SMALLEST_M,
        le=wishes.LARGEST_M,
        allow_inf_nan=False,
        description="Metres of a side.",
    )
    tms: str = Field(
        default="google", pattern=r"^[A-Za-z0-9_-]{1,32}$", description="Names the file."
    )
    iformat: Annotated[Literal["tif", "png"], BeforeValidator(str.lower)] = "png"
    raw: str | None = Field(
        default=None, max_length=16, description="If given, the answer is the file's address alone."
    )


class BackgroundByLocation(_Wanted):
    """A picture of the ground around a place."""

    lon: Longitude = Field(description="Longitude in degrees.")
    lat: Latitude = Field(description="Latitude in degrees.")


class BackgroundByParcel(_Wanted, ById):
    """A picture of the ground around a parcel."""

    withGeometry: Flag = Field(  # noqa: N815
        default=False, description="Draw the parcel's borders; into png only."
    )


class _File(BaseModel):
    ticket: str = Field(max_length=2000)
    name: str = Field(max_length=100)


_PAGE: dict[Any, Any] = {
    200: {
        "description": "A page with the picture; with `raw`, and of tif, the file's address; `{}`"
        " where there is no parcel of yours, or its dataset has no orthophoto.",
        "content": {"text/html": {}, "text/plain": {}, "application/json": {}},
    }
}
_FILES: dict[Any, Any] = {
    200: {"description": "The picture.", "content": {"image/tiff": {}, "image/png": {}}}
}


@api.get("/backgroundByLocation", responses=_PAGE, summary="The ground around a place")
def background_by_location(query: BackgroundByLocation) -> Response:
    """Show the ground around a place that lies on your parcels."""
    with reading() as cursor:
        if _shown(cursor, query.lon, query.lat, query.extend) is None:
            return jsonify({})
        return _answer(cursor, query.lon, query.lat, query)


@api.get("/backgroundByParcelID", responses=_PAGE, summary="The ground around a parcel")
@api.get("/backgroundByParcelId", responses=_PAGE, summary="The same")
def background_by_parcel(query: BackgroundByParcel) -> Response:
    """Show the ground around a parcel."""
    with reading() as cursor:
        dataset = find_legacy(cursor, query.aoi, query.year, query.ptype)
        if dataset is None or Background.of(dataset.settings) is None:
            return jsonify({})
        log_read(cursor, dataset.name, [query.pid])
        try:
            parcel = assets.parcel(cursor, dataset, query.pid)
        except CbmError:
            return jsonify({})
        named = (query.aoi, query.year, query.ptype, query.pid)
        drawn = named if query.withGeometry else None
        return _answer(cursor, parcel.lon, parcel.lat, query, drawn)


@api.get("/backgrounds/<ticket>/<name>", responses=_FILES, summary="A background, by its address")
@public
def background(path: _File) -> Response:
    """Answer with the picture that an address was given for; a login is not needed."""
    lon, lat, size, side, drawn = with_ticket("background", path.ticket)
    with reading() as cursor:
        found = _shown(cursor, lon, lat, size)
        parcel = _drawn(cursor, *drawn) if found and drawn else None
    if found is None:
        raise CbmError("not_found", "None of your parcels with an orthophoto is there.")
    pixels, grid = rasters.current().ground(found, Place(lon, lat, size), side)
    if not path.name.endswith(".png"):
        return Response(backgrounds.geotiff(pixels, grid), content_type="image/tiff")
    picture = backgrounds.picture(pixels)
    if parcel:
        pictures.outline(picture, parcel.outline, _MERCATOR, grid)
    return Response(pictures.png(picture), content_type="image/png")


def _shown(cursor: Cursor, lon: float, lat: float, size: float) -> Background | None:
    """Return the background of a parcel of the user's in a square; write down the look at it."""
    near = assets.parcel_near(cursor, assets.square(lon, lat, size), "background")
    if near is None:
        return None
    log_read(cursor, near.dataset, [near.pid])
    return Background.of(near.settings)


def _drawn(cursor: Cursor, aoi: str, year: int, layer: str, pid: str) -> Parcel:
    dataset = find_legacy(cursor, aoi, year, layer)
    if dataset is None:
        raise CbmError("not_found", "The parcel is not yours to look at.")
    log_read(cursor, dataset.name, [pid])
    return assets.parcel(cursor, dataset, pid)


def _answer(
    cursor: Cursor,
    lon: float,
    lat: float,
    query: _Wanted,
    drawn: tuple[str, int, str, str] | None = None,
) -> Response:
    """Answer with the picture's address; ``drawn`` names a parcel to be drawn into it."""
    desk = Desk(cursor, "background")
    ticket = desk.issue(user(), lon, lat, query.extend, query.chipsize, drawn)
    # A browser shows no GeoTIFF: who asks for one wants its address.
    is_program = query.raw is not None or query.iformat == "tif"
    address = url_for(
        "legacy_backgrounds.background",
        ticket=ticket,
        name=f"{query.tms.lower()}.{query.iformat}",
        _external=True,
    )
    if is_program:
        return Response(address, content_type="text/plain; charset=utf-8")
    page = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Background</title>'
        f'</head><body><img alt="The ground" src="{escape(address)}"></body></html>'
    )
    return Response(page, content_type="text/html; charset=utf-8")
