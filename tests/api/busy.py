"""A small country with images on object storage, and all that its users ask for at once."""

import base64
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests

from cbm_core.settings import Settings
from tests import country
from tests.api.conftest import PASSWORD, add_user
from tests.api.crowd import Wish, addresses
from tests.extraction import texture
from tests.factories import add_scene, asset, write_raster
from tests.seaweed import Seaweed

COLLECTION = "/v1/collections/bm_2024"
BANDS = ("B03", "B04", "B08")
FIRST_DAY = datetime(2024, 12, 1, 10, 30, tzinfo=UTC)
ANNA = {"Authorization": "Basic " + base64.b64encode(f"anna:{PASSWORD}".encode()).decode()}
# Parcels whose surroundings the images show: so many a side of the square in the south west.
_SHOWN = 10
_PIXELS = 400


@dataclass(frozen=True)
class Busy:
    """What there is: parcels P1 to ``parcels``, the first ``seasoned`` of them with a season."""

    parcels: int
    seasoned: int
    scenes: tuple[int, ...]
    """Those with images."""


def make(
    settings: Settings, store: Seaweed, folder: Path, parcels: int = 2000, seasoned: int = 200,
    scenes: int = 20, images: int = 8,
) -> Busy:  # fmt: skip
    """Fill a database that is empty but for its schema."""
    dataset = country.make(settings, parcels)
    country.season(settings, dataset, seasoned, scenes)
    add_user(settings, "anna", dataset)
    west, north = country.WEST - 1000, country.SOUTH - 1000 + _PIXELS * 10
    bounds = (west, north - _PIXELS * 10, west + _PIXELS * 10, north)
    shown = []
    for number in range(images):
        assets = {}
        for band in BANDS:
            path = write_raster(
                folder / f"{number}-{band}.tif", texture(_PIXELS, _PIXELS, seed=number),
                left=west, top=north, tiled=True, blockxsize=128, blockysize=128,
            )  # fmt: skip
            key = f"busy/{folder.name}/{path.name}"
            assets[band] = asset(store.put(key, path.read_bytes()), offset=-1000.0)
        day = FIRST_DAY + timedelta(days=number)
        scene = add_scene(
            settings, assets, reference=f"image{number}", tile="32TNT", bounds=bounds,
            crs=country.CRS, obstime=day,
        )  # fmt: skip
        shown.append(scene)
    return Busy(parcels, seasoned, tuple(shown))


def log_in(port: int) -> None:
    """Let each process look at the password once, which takes it a while."""
    for _ in range(10):
        requests.get(f"http://127.0.0.1:{port}{COLLECTION}", headers=ANNA, timeout=60)


Path_ = Callable[[random.Random], str]


def wishes(there: Busy) -> list[Wish]:
    """All kinds of requests: rows, tiles, images, the predecessor's routes, wrong logins."""
    return [*of_database(there), *of_storage(there), *others()]


def of_database(there: Busy) -> list[Wish]:
    """What needs the database only."""

    def pid(chance: random.Random) -> str:
        return f"P{chance.randint(1, there.seasoned)}"

    def tile(zoom: int) -> Path_:
        tiles = f"{COLLECTION}/tiles/WebMercatorQuad/"
        return lambda chance: tiles + country.tile(chance, there.parcels, zoom)

    named = "aoi=bm&year=2024"
    paths: dict[str, Path_] = {
        "series": lambda c: f"{COLLECTION}/items/{pid(c)}/signatures?product=s2",
        "series, Arrow": lambda c: f"{COLLECTION}/items/{pid(c)}/signatures?product=s2&f=arrow",
        "items": lambda c: f"{COLLECTION}/items?bbox={country.box(c, there.parcels, 2000)}",
        "item": lambda c: f"{COLLECTION}/items/{pid(c)}",
        "peers": lambda c: f"{COLLECTION}/items/{pid(c)}/peers",
        "tile": tile(14),
        "wide tile": tile(12),
        "grid tile": tile(8),
        "old info": lambda c: "/query/info",
        "old parcel": lambda c: f"/query/parcelByID?{named}&pid={pid(c)}&withGeometry=True",
        "old series": lambda c: f"/query/parcelTimeSeries?{named}&pid={pid(c)}&tstype=s2",
        "old peers": lambda c: f"/query/parcelPeers?{named}&pid={pid(c)}",
    }
    bulk = Wish(
        "bulk", lambda c: f"{COLLECTION}/signatures?f=arrow", ANNA,
        body=lambda c: {"product": "s2", "pids": [pid(c) for _ in range(20)]},
    )  # fmt: skip
    return [*(Wish(kind, path, ANNA, weight=3) for kind, path in paths.items()), bulk]


def of_storage(there: Busy) -> list[Wish]:
    """What needs images, too."""
    side = country.side_of(there.parcels)
    named = "aoi=bm&year=2024"
    period = "start_date=2024-12-01&end_date=2024-12-31"

    def pid(chance: random.Random) -> str:
        return f"P{1 + chance.randrange(_SHOWN) * side + chance.randrange(_SHOWN)}"

    paths: dict[str, Path_] = {
        "chips": lambda c: f"{COLLECTION}/items/{pid(c)}/chips.png?datetime=2024-12-01/2024-12-31",
        "window": lambda c: (
            f"{COLLECTION}/items/{pid(c)}/chips/{c.choice(there.scenes)}.tif?bands=B04,B08"
        ),
        "picture": lambda c: (
            f"{COLLECTION}/items/{pid(c)}/chips/{c.choice(there.scenes)}.png?bands=B08,B04,B03"
        ),
        "old chips": lambda c: (
            f"/query/rawChipByParcelID?{named}&pid={pid(c)}&{period}&band=B04&chipsize=640"
        ),
        "old page": lambda c: f"/query/chipsByParcelID?{named}&pid={pid(c)}&{period}&lut=5_95",
    }
    return [Wish(kind, path, ANNA) for kind, path in paths.items()]


def others() -> list[Wish]:
    """What is refused, and what everybody may ask."""
    wrong = base64.b64encode(b"anna:not her password").decode()
    refused = frozenset({401, 429})
    return [
        Wish("alive", lambda c: "/healthz"),
        Wish("nobody", lambda c: f"{COLLECTION}/items/P1", expected=frozenset({401})),
        Wish("no parcel", lambda c: f"{COLLECTION}/items/none", ANNA, expected=frozenset({404})),
        Wish("no number", lambda c: f"{COLLECTION}/items?limit=x", ANNA, expected=frozenset({400})),
        # Of other addresses than the others, whom it must not lock out.
        Wish(
            "wrong login", lambda c: f"{COLLECTION}/items/P1",
            {"Authorization": f"Basic {wrong}"}, source=addresses(), expected=refused,
        ),
    ]  # fmt: skip
