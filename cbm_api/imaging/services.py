"""Pictures of map tiles and of Web Map Services, in Web Mercator (EPSG:3857).

GDAL's driver WMS is not used: its web access follows redirects, goes through any proxy and may be
held up for ever by a server that sends a byte now and then.
"""

from __future__ import annotations

import io
import logging
import math
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import Affine

from cbm_core.datasets.background import Background
from cbm_core.errors import CbmError
from cbm_core.remote.addresses import shown
from cbm_core.remote.web import FAILURES, Access, reason

Bounds = tuple[float, float, float, float]  # west, south, east, north in metres
Pixels = NDArray[np.uint8]  # [4, rows, columns]: red, green, blue, opacity

_log = logging.getLogger("cbm_api")
_HALF_WORLD = 20_037_508.342_789_244  # metres
_TILE = 256  # pixels of a side
_NOT_THERE = frozenset({204, 404})
_MOST_BYTES, _MOST_PIXELS = 16 * 2**20, 4096**2
_AT_ONCE = 4
_FORMATS = ("PNG", "JPEG", "WEBP")


def tiles(
    background: Background, bounds: Bounds, side: int, access: Access
) -> tuple[Pixels, Affine]:
    """Return the tiles that meet a square of ``side`` pixels, and the transform from them to it.

    They are of the zoom that is as fine as the square or up to twice, if there is one. Numbers as
    in https://wiki.openstreetmap.org/wiki/Slippy_map_tilenames; tiles that are not there (204, 404)
    are transparent.

    Raises:
        CbmError: ``raster_unreachable``.

    """
    west, south, east, north = bounds
    finest = math.ceil(math.log2(2 * _HALF_WORLD * side / (east - west) / _TILE))
    zoom = min(max(finest, 0), background.zoom)
    span = 2 * _HALF_WORLD / 2**zoom
    left, right = _numbers(west + _HALF_WORLD, east + _HALF_WORLD, span, zoom)
    top, bottom = _numbers(_HALF_WORLD - north, _HALF_WORLD - south, span, zoom)
    pixels = np.zeros((4, (bottom - top) * _TILE, (right - left) * _TILE), np.uint8)

    def fetch(place: tuple[int, int]) -> None:
        row, column = place
        names = {"z": zoom, "x": column, "y": row}
        address = background.source
        for name, number in names.items():
            address = address.replace(f"{{{name}}}", str(number))
        down, across = (row - top) * _TILE, (column - left) * _TILE
        pixels[:, down : down + _TILE, across : across + _TILE] = _picture(address, _TILE, access)

    with ThreadPoolExecutor(_AT_ONCE, "cbm-tile") as pool:
        list(pool.map(fetch, product(range(top, bottom), range(left, right))))
    size = span / _TILE
    corner = left * span - _HALF_WORLD, _HALF_WORLD - top * span
    return pixels, Affine(size, 0.0, corner[0], 0.0, -size, corner[1])


def _numbers(first: float, last: float, span: float, zoom: int) -> tuple[int, int]:
    """Return the tiles [from, to) between two distances from the edge of the world."""
    start = max(math.floor(first / span), 0)
    return start, max(min(math.ceil(last / span), 2**zoom), start)


def service(background: Background, bounds: Bounds, side: int, access: Access) -> Pixels:
    """Return a square as a Web Map Service draws it: GetMap of OGC 01-068r3 (WMS 1.1.1).

    Raises:
        CbmError: ``raster_unreachable``.

    """
    query = {
        "SERVICE": "WMS", "VERSION": "1.1.1", "REQUEST": "GetMap", "LAYERS": background.layers,
        "STYLES": "", "SRS": "EPSG:3857", "BBOX": ",".join(map(repr, bounds)), "WIDTH": side,
        "HEIGHT": side, "FORMAT": "image/png", "TRANSPARENT": "TRUE",
    }  # fmt: skip
    source = background.source
    mark = "" if source.endswith(("?", "&")) else "&" if "?" in source else "?"
    return _picture(f"{source}{mark}{urlencode(query)}", side, access)


def _picture(address: str, side: int, access: Access) -> Pixels:
    """Return the picture at an address with ``side`` pixels a side, nothing where there is none."""
    try:
        body = _body(address, access)
        return np.zeros((4, side, side), np.uint8) if body is None else _decoded(body, side)
    except (*FAILURES, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        _log.warning("the background: %s: %s", shown(address), reason(error))
        raise CbmError(
            "raster_unreachable", "The map service did not hand out the ground.", "Ask again later."
        ) from None


def _body(address: str, access: Access) -> bytes | None:
    status, body = access.whole(address, _MOST_BYTES)
    if status not in {200, *_NOT_THERE}:
        raise ValueError(f"HTTP {status} instead of a picture")
    return body if status == 200 else None


def _decoded(body: bytes, side: int) -> Pixels:
    with Image.open(io.BytesIO(body), formats=_FORMATS) as picture:
        if picture.width * picture.height > _MOST_PIXELS:
            raise ValueError(f"the picture has {picture.width} x {picture.height} pixels")
        return np.moveaxis(np.asarray(picture.convert("RGBA").resize((side, side))), -1, 0)
