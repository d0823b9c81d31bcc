"""The predecessor's routes to image chips.

Nothing is made in advance: a list names addresses, each a ticket that says what to read, and the
file is cut out when the address is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from html import escape
from typing import Annotated, Any, Literal

from flask import Response, jsonify, url_for
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, Field

from cbm_api.context import log_read, public, reading, user
from cbm_api.imaging import geotiff, pictures, rasters, wishes
from cbm_api.imaging.tickets import Desk
from cbm_api.imaging.windows import Place
from cbm_api.queries import assets
from cbm_api.queries.assets import Image
from cbm_api.queries.datasets import find_legacy
from cbm_api.routes.legacy.parameters import ById, Flag, Latitude, Longitude, Text
from cbm_api.security import with_ticket
from cbm_core.db import Cursor
from cbm_core.errors import CbmError

api = APIBlueprint(
    "legacy_chips", __name__, url_prefix="/query", abp_tags=[Tag(name="predecessor's routes")]
)
MOST_CHIPS, MOST_OF_BATCH, MOST_NAMES = 24, 36, 2000
_PICTURE_PIXELS, _PICTURE_M, _COLUMNS = 128, 1280.0, 8
_CARDS = {"LEVEL2A": "s2", "LEVEL2AP": "s2", "CARD-BS": "bs", "CARD-COH6": "c6"}
_TIME = "%Y%m%dT%H%M%S"
Band = Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,8}$")]
Size = Annotated[float, Field(ge=wishes.SMALLEST_M, le=wishes.LARGEST_M, allow_inf_nan=False)]


class _Period(BaseModel):
    start_date: date = Field(description="First day, YYYY-MM-DD.")
    end_date: date = Field(description="Last day.")
    plevel: Literal["LEVEL2A", "LEVEL2AP"] = "LEVEL2A"

    def bounds(self) -> tuple[datetime, datetime]:
        """Return from when to before when, UTC."""
        return _bounds(self.start_date, self.end_date)

    def most(self) -> int:
        """Return how many images are looked for: one more than are answered with."""
        return MOST_CHIPS + 1


class _At(BaseModel):
    lon: Longitude = Field(description="Longitude in degrees.")
    lat: Latitude = Field(description="Latitude in degrees.")


class _Raw(_Period):
    band: Band = "B08"
    chipsize: Size = Field(default=1280, description="Metres.")
    onlylist: Flag = Field(default=False, description="The names of the images alone, up to 2,000.")

    def most(self) -> int:
        """Return how many images are looked for."""
        return MOST_NAMES if self.onlylist else super().most()


class _Pictured(_Period):
    bands: str = Field(
        default="B08_B04_B03",
        pattern=r"^[A-Za-z0-9]{1,8}(_[A-Za-z0-9]{1,8}){0,2}$",
        description="Red, green and blue.",
    )
    lut: str = Field(
        default="5_95",
        max_length=100,
        description="Two percentiles, or the values that are black and white in each of three.",
    )


class RawByLocation(_Raw, _At):
    """Chips of one band around a place."""


class RawByParcel(_Raw, ById):
    """Chips of one band around a parcel."""


class PicturesByLocation(_Pictured, _At):
    """Pictures around a place."""


class PicturesByParcel(_Pictured, ById):
    """Pictures around a parcel."""


class Batch(_At):
    """Bands of images whose names are known."""

    tiles: list[Text] = Field(
        min_length=1, max_length=MOST_OF_BATCH, description="Names of images."
    )
    bands: list[Band] = Field(min_length=1, max_length=MOST_OF_BATCH)
    chipsize: Size = 1280


class RadarBatch(_At):
    """Sentinel-1 images of a period."""

    dates: tuple[date, date] = Field(description="First and last day.")
    chipsize: Size = 1280
    plevel: Literal["CARD-BS", "CARD-COH6"] = "CARD-BS"


class ChipUrls(BaseModel):
    """Times (UTC) and addresses, relative to this server and valid for an hour.

    With `onlylist` there are no times, and `chips` are the names of the images.
    """

    dates: list[str] | None = None
    chips: list[str] | None = None


class _File(BaseModel):
    ticket: str = Field(max_length=2000)
    name: str = Field(max_length=300)


_PAGE: dict[Any, Any] = {
    200: {
        "description": "A page with the pictures; `{}` where there is no parcel of yours.",
        "content": {"text/html": {}, "application/json": {}},
    }
}
_FILES: dict[Any, Any] = {
    200: {"description": "The chip.", "content": {"image/tiff": {}, "image/png": {}}}
}


@api.get("/rawChipByLocation", responses={200: ChipUrls}, summary="Chips around a place")
def raw_chip_by_location(query: RawByLocation) -> Response:
    """List GeoTIFF chips of one band around a place that lies on your parcels."""
    with reading() as cursor:
        found = _around(cursor, query, query.chipsize, query)
        return _answer(cursor, found, query)


@api.get("/rawChipByParcelID", responses={200: ChipUrls}, summary="Chips around a parcel")
@api.get("/rawChipByParcelId", responses={200: ChipUrls}, summary="The same")
def raw_chip_by_parcel(query: RawByParcel) -> Response:
    """List GeoTIFF chips of one band around a parcel."""
    with reading() as cursor:
        found = _of_parcel(cursor, query, query)
        return _answer(cursor, found, query)


@api.post("/rawChipsBatch", responses={200: ChipUrls}, summary="Bands of images that are known")
def raw_chips_batch(body: Batch) -> Response:
    """List GeoTIFF chips of images and bands by name."""
    with reading() as cursor:
        if not _is_shown(cursor, body, body.chipsize):
            return jsonify({})
        point = assets.point(body.lon, body.lat)
        found = assets.named(cursor, body.tiles, point, MOST_OF_BATCH)
        return _listed(
            cursor, (body, found), body.bands, body.chipsize, most=MOST_OF_BATCH, labels=True
        )


@api.post("/rawS1ChipsBatch", responses={200: ChipUrls}, summary="Sentinel-1 chips")
def raw_s1_chips_batch(body: RadarBatch) -> Response:
    """List GeoTIFF chips of backscatter or coherence: VV and VH of each image."""
    card = _CARDS[body.plevel]
    with reading() as cursor:
        if not _is_shown(cursor, body, body.chipsize):
            return jsonify({})
        point, period = assets.point(body.lon, body.lat), _bounds(*body.dates)
        found = assets.images(cursor, card, point, period, MOST_OF_BATCH + 1)
        return _listed(
            cursor, (body, found), ["VV", "VH"], body.chipsize, most=MOST_OF_BATCH, labels=True
        )


@api.get("/chipsByLocation", responses=_PAGE, summary="A page of pictures around a place")
def chips_by_location(query: PicturesByLocation) -> Response:
    """Show pictures of a place that lies on your parcels."""
    with reading() as cursor:
        return _page(cursor, _around(cursor, query, _PICTURE_M, query), query)


@api.get("/chipsByParcelID", responses=_PAGE, summary="A page of pictures around a parcel")
@api.get("/chipsByParcelId", responses=_PAGE, summary="The same")
def chips_by_parcel(query: PicturesByParcel) -> Response:
    """Show pictures of a parcel."""
    with reading() as cursor:
        return _page(cursor, _of_parcel(cursor, query, query), query)


@api.get("/chips/<ticket>/<name>", responses=_FILES, summary="A chip, by an address of a list")
@public
def chip(path: _File) -> Response:
    """Cut out the chip that a list gave the address of; a login is not needed."""
    scene, bands, lon, lat, size, lut = with_ticket("chip", path.ticket)
    with reading() as cursor:
        _require_shown(cursor, lon, lat, size)
        image = assets.image(cursor, scene, assets.square(lon, lat, size))
    chosen = wishes.chosen(image.assets, image.card, bands, image.name)
    found = rasters.current().chip(chosen, Place(lon, lat, size), image.name)
    if lut is None:
        return Response(geotiff.legacy(found, image.card), content_type="image/tiff")
    is_stretch = lut.count("_") == 1
    shades = wishes.ranges(
        found, image.card, lut if is_stretch else None, None if is_stretch else lut
    )
    shown = pictures.picture(found, shades, _PICTURE_PIXELS)
    return Response(pictures.png(shown), content_type="image/png")


Found = tuple[_At, list[Image]] | None


def _around(cursor: Cursor, at: _At, size: float, asked: _Period) -> Found:
    if not _is_shown(cursor, at, size):
        return None
    point = assets.point(at.lon, at.lat)
    return at, assets.images(cursor, "s2", point, asked.bounds(), asked.most())


def _of_parcel(cursor: Cursor, named: ById, asked: _Period) -> Found:
    dataset = find_legacy(cursor, named.aoi, named.year, named.ptype)
    if dataset is None:
        return None
    log_read(cursor, dataset.name, [named.pid])
    try:
        parcel = assets.parcel(cursor, dataset, named.pid)
    except CbmError:
        return None
    found = assets.images(cursor, "s2", parcel.shape, asked.bounds(), asked.most())
    return _At(lon=parcel.lon, lat=parcel.lat), found


def _is_shown(cursor: Cursor, at: _At, size: float) -> bool:
    """Say whether the user has parcels in a square, and write down by which one it was seen."""
    near = assets.parcel_near(cursor, assets.square(at.lon, at.lat, size))
    if near:
        log_read(cursor, near.dataset, [near.pid])
    return near is not None


def _require_shown(cursor: Cursor, lon: float, lat: float, size: float) -> None:
    if not _is_shown(cursor, _At(lon=lon, lat=lat), size):
        raise CbmError("not_found", "None of your parcels is there.")


def _answer(cursor: Cursor, found: Found, asked: _Raw) -> Response:
    if found and asked.onlylist:
        return jsonify({"chips": [image.reference for image in found[1]]})
    return _listed(cursor, found, [asked.band], asked.chipsize)


def _listed(
    cursor: Cursor,
    found: Found,
    bands: Sequence[str],
    size: float,
    *,
    most: int = MOST_CHIPS,
    labels: bool = False,
) -> Response:
    """Answer with times and addresses; with ``labels`` the band stands in the times."""
    if found is None:
        return jsonify({})
    at, images = found
    _require_few(len(images) * len(bands), most)
    desk = Desk(cursor, "chip")
    rows = []
    for image in images:
        for band in bands:
            # The catalogue's own names are refused here rather than when the chip is fetched.
            wishes.chosen(image.assets, image.card, [band], image.name)
            ticket = desk.issue(user(), image.id, [band], at.lon, at.lat, size, None)
            mark = "." if image.card == "s2" else "_"
            name = f"{_safe(image.name)}{mark}{band}.tif"
            time_of = f"{image.obstime:{_TIME}}" + (f"_{band}" if labels else "")
            rows.append((time_of, _address(ticket, name)))
    rows.sort(key=lambda row: row[0])
    return jsonify({"dates": [row[0] for row in rows], "chips": [row[1] for row in rows]})


def _page(cursor: Cursor, found: Found, asked: _Pictured) -> Response:
    if found is None:
        return jsonify({})
    at, images = found
    _require_few(len(images), MOST_CHIPS)
    bands = wishes.composite("s2", asked.bands.replace("_", ","))
    wishes.check_lut(asked.lut, len(bands))
    desk = Desk(cursor, "chip")
    cells = []
    for image in images:
        wishes.chosen(image.assets, image.card, bands, image.name)
        ticket = desk.issue(user(), image.id, bands, at.lon, at.lat, _PICTURE_M, asked.lut)
        when, address = f"{image.obstime:{_TIME}}", _address(ticket, f"{_safe(image.name)}.png")
        cells.append(
            f'<td><label><img id="{when}" alt="{when}" src="{escape(address)}"><br>{when}'
            "</label></td>"
        )
    rows = [cells[start : start + _COLUMNS] for start in range(0, len(cells), _COLUMNS)]
    table = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    page = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Chips</title></head>'
        f"<body><table>{table}</table></body></html>"
    )
    return Response(page, content_type="text/html; charset=utf-8")


def _address(ticket: str, name: str) -> str:
    return url_for("legacy_chips.chip", ticket=ticket, name=name)


def _safe(name: str) -> str:
    # Clients take what stands before the first dot for the image's name.
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:200]


def _require_few(count: int, most: int) -> None:
    if count > most:
        raise CbmError(
            "bad_parameter",
            f"That would be more than {most} chips.",
            "Ask for a shorter period, or for fewer images or bands.",
        )


def _bounds(first: date, last: date) -> tuple[datetime, datetime]:
    start = datetime.combine(first, time(), UTC)
    try:
        return start, datetime.combine(last, time(), UTC) + timedelta(days=1)
    except OverflowError:
        return start, datetime.max.replace(tzinfo=UTC)
