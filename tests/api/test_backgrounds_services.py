"""Map services that send elsewhere, drip or answer nonsense: 503 in time, and nobody follows."""

import math
import socket
import threading
import time
from itertools import product
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image
from rasterio import warp

from cbm_api.imaging import backgrounds
from cbm_api.imaging.windows import Place
from cbm_core.datasets.background import Background
from cbm_core.errors import CbmError
from cbm_core.remote.web import Access
from tests.api.test_backgrounds import pictures_of, tile_of
from tests.unit.remote.test_objects import drip, talking

PLACE = Place(9.1, 48.7, 600)
PNG = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 90000\r\n\r\n"
KINDS = pytest.mark.parametrize("kind", ["tiles", "service"])


def described(url: str, kind: str) -> Background:
    if kind == "tiles":
        return Background(source=url + "/{z}/{x}/{y}.png")
    return Background(source=f"{url}/wms", layers="ortho")


def read(background, access=None, side=256):
    return backgrounds.read(background, PLACE, side, access or Access())


def refused(background, access=None) -> CbmError:
    with pytest.raises(CbmError) as caught:
        read(background, access)
    assert caught.value.code == "raster_unreachable"
    assert "http" not in str(caught.value)
    return caught.value


@KINDS
def test_redirects_are_not_followed(kind, caplog):
    with pictures_of(lambda _path: Image.new("RGB", (256, 256))) as (inner, asked):

        def talk(connection: socket.socket, _over: threading.Event) -> None:
            head = f"HTTP/1.1 302 Found\r\nLocation: {inner}/secret\r\nContent-Length: 0\r\n\r\n"
            connection.sendall(head.encode())

        with talking(talk) as raw:
            refused(described(raw.url, kind))
        assert asked == []
    assert "HTTP 302" in caplog.text


@KINDS
def test_a_dripping_service_is_left_at_the_deadline(kind):
    with talking(drip(PNG + bytes(90_000))) as raw:
        begun = time.monotonic()
        refused(described(raw.url, kind), Access(until=begun + 1))
        assert time.monotonic() - begun < 10


@KINDS
def test_what_is_no_picture_is_refused(kind):
    nonsense = b"<ServiceException/>"
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(nonsense)}\r\n\r\n".encode()
    with talking(lambda connection, _over: connection.sendall(head + nonsense)) as raw:
        refused(described(raw.url, kind))
    with pictures_of(lambda _path: Image.new("1", (20_000, 4_000))) as (url, _asked):
        refused(described(url, kind))


def test_tiles_lie_where_they_belong():
    """Every pixel shows the number of the tile that the Slippy Map formula gives for its place."""

    def answer(path):
        _, z, x, y = path.removesuffix(".png").split("/")
        return Image.new("RGB", (256, 256), (int(z), int(x) % 256, int(y) % 256))

    with pictures_of(answer) as (url, _asked):
        pixels, grid = read(described(url, "tiles"))
    zoom = int(pixels[0, 128, 128])
    seen = set()
    for row, column in product(range(16, 256, 32), repeat=2):
        (lon,), (lat,) = warp.transform(
            "EPSG:3857", "EPSG:4326", *([at] for at in grid @ (column + 0.5, row + 0.5))
        )
        x, y = tile_of(lon, lat, zoom)
        colour = tuple(int(value) for value in pixels[:, row, column])
        # Between tiles colours are mixed.
        if colour != (zoom, x % 256, y % 256, 255):
            neighbours = {
                tile_of(lon + a, lat + b, zoom) for a in (-1e-4, 1e-4) for b in (-1e-4, 1e-4)
            }
            assert len(neighbours) > 1
        seen.add(colour)
    assert len(seen) >= 4


def test_the_service_draws_the_square_that_is_shown():
    wanted = []

    def answer(path):
        query = {name: value for name, (value, *_) in parse_qs(urlsplit(path).query).items()}
        wanted.append([float(value) for value in query["BBOX"].split(",")])
        return Image.new("RGBA", (int(query["WIDTH"]), int(query["HEIGHT"])), (1, 2, 3, 4))

    with pictures_of(answer) as (url, _asked):
        pixels, grid = read(described(url, "service"), side=100)
    assert pixels.shape == (4, 100, 100)
    assert (pixels == np.array([1, 2, 3, 4])[:, None, None]).all()
    west, south, east, north = wanted[0]
    assert grid @ (0, 0) == pytest.approx((west, north))
    assert grid @ (100, 100) == pytest.approx((east, south))
    assert east - west == pytest.approx(600 / math.cos(math.radians(48.7)))
    (x, _), (y, _) = warp.transform("EPSG:4326", "EPSG:3857", [9.1, 0], [48.7, 0])
    assert ((west + east) / 2, (south + north) / 2) == pytest.approx((x, y))


def test_few_tiles_are_asked_for():
    with pictures_of(lambda _path: 404) as (url, asked):
        pixels, _ = read(described(url, "tiles"), side=1024)
        assert not pixels.any()
        assert len(asked) <= 81
        asked.clear()
        read(Background(source=url + "/{z}/{x}/{y}", zoom=3), side=1024)
        assert asked == ["/3/4/2"]
