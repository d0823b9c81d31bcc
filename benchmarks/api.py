"""The API as its clients meet it: gunicorn on loopback, HTTP, JSON and tiles.

Run ``python -m benchmarks.api [--parcels 1000000] [--rows 20000000]``. A country of parcels ten to
a square kilometre; for the first of them a season of 100 scenes with ten bands, until there are so
many band-rows (one band of one scene and parcel). Requests are made one after the other for the
latencies, and by ``--clients`` at once for the rate. Client, service and database share the
machine's cores. Chips are read from COGs on SeaweedFS by a service that has just started.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import random
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyproj

from benchmarks import api_world, database, workload
from benchmarks.harness import Report, main
from cbm_core.settings import Settings
from tests import seaweed
from tests.api.conftest import PASSWORD, add_user
from tests.api.serving import Served, gunicorn
from tests.factories import add_scene, asset
from tests.postgis import Server

SCENES = 100
CHIPS = 24
COLLECTION = "/v1/collections/bm_2024"
_LOGIN = {
    "Authorization": "Basic " + base64.b64encode(f"anna:{PASSWORD}".encode()).decode(),
}
_CHIP_BANDS = ("B02", "B03", "B04")
_CHIP_M = 1280


@dataclass(frozen=True)
class Spread:
    """Seconds of requests that came one after the other, and requests per second at once.

    ``cpu`` are the CPU seconds of service and database for one request.
    """

    p50: float
    p95: float
    cpu: float
    rate: float
    size: float


def latencies(served: Served, paths: Sequence[str]) -> tuple[list[float], float]:
    """Return the seconds of each request on one connection, and the mean size of an answer."""
    client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=120)
    taken, size = [], 0
    for path in paths:
        start = time.perf_counter()
        client.request("GET", path, headers=_LOGIN)
        answer = client.getresponse()
        body = answer.read()
        taken.append(time.perf_counter() - start)
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {body[:300]!r}")
        size += len(body)
    client.close()
    return taken, size / len(paths)


def ask(
    served: Served, server: Server, path_of: Callable[[], str], arguments: argparse.Namespace
) -> Spread:
    """Ask for different things: first one after the other, then all clients at once."""
    count, clients = arguments.requests, arguments.clients
    latencies(served, [path_of() for _ in range(20)])
    before = database.tree_cpu(served.process.pid) + database.backend_cpu(server)
    taken, size = latencies(served, [path_of() for _ in range(count)])
    after = database.tree_cpu(served.process.pid) + database.backend_cpu(server)
    shares = [[path_of() for _ in range(count // clients)] for _ in range(clients)]
    threads = [threading.Thread(target=latencies, args=(served, share)) for share in shares]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = sum(map(len, shares)) / (time.perf_counter() - start)
    p50, p95 = np.percentile(taken, [50, 95])
    return Spread(float(p50), float(p95), (after - before) / count, rate, size)


# What is asked


def series(parcels: int) -> Callable[[], str]:
    """One parcel's whole series: 100 scenes, ten bands, the statistics that are the default."""
    return lambda: f"{COLLECTION}/items/P{random.randint(1, parcels)}/signatures?product=s2"


def boxes(count: int, side_m: float = 2500.0) -> Callable[[], str]:
    """Parcels in a box, some sixty of them."""

    def path() -> str:
        x, y = place(count)
        west, south, east, north = _DEGREES.transform_bounds(x, y, x + side_m, y + side_m)
        return f"{COLLECTION}/items?bbox={west:.6f},{south:.6f},{east:.6f},{north:.6f}&limit=1000"

    return path


def tiles(count: int, zoom: int) -> Callable[[], str]:
    """Tiles where there are parcels."""

    def path() -> str:
        x, y = _MERCATOR.transform(*place(count))
        half = 20037508.342789244
        column, row = ((x + half) / (2 * half), (half - y) / (2 * half))
        tile = f"{zoom}/{int(row * 2**zoom)}/{int(column * 2**zoom)}"
        return f"{COLLECTION}/tiles/WebMercatorQuad/{tile}"

    return path


def place(count: int) -> tuple[float, float]:
    """Return a place in the country, in its CRS."""
    side = api_world.side_of(count) * api_world.SPACING
    reach = max(side - 10_000, side / 2)
    return (
        api_world.WEST + random.random() * reach,
        api_world.SOUTH + random.random() * reach * (count / api_world.side_of(count) ** 2),
    )


_DEGREES = pyproj.Transformer.from_crs(api_world.CRS, 4326, always_xy=True)
_MERCATOR = pyproj.Transformer.from_crs(api_world.CRS, 3857, always_xy=True)


# Chips


def chip_scenes(settings: Settings, store: seaweed.Seaweed, arguments: argparse.Namespace) -> None:
    """Catalogue dates whose bands are COGs on the storage, each an object of its own."""
    side = arguments.chip_pixels * 10.0
    corner = (api_world.WEST - 3000, api_world.SOUTH + side - 3000)
    bounds = (corner[0], corner[1] - side, corner[0] + side, corner[1])
    files = {band: _cog(arguments, band, corner) for band in _CHIP_BANDS}
    for number in range(CHIPS):
        assets = {
            band: asset(store.put(f"chips/{number}/{band}.tif", path.read_bytes()), offset=-1000.0)
            for band, path in files.items()
        }
        day = datetime(2024, 12, 1, 10, 30, tzinfo=UTC) + timedelta(days=number)
        add_scene(
            settings, assets, reference=f"chip{number}", tile="32TNT", bounds=bounds,
            crs=api_world.CRS, obstime=day,
        )  # fmt: skip


def _cog(arguments: argparse.Namespace, band: str, corner: tuple[float, float]) -> Path:
    import rasterio
    from rasterio.transform import from_origin

    path: Path = arguments.folder / f"api-{arguments.chip_pixels}-{band}.tif"
    if not path.exists():
        arguments.folder.mkdir(parents=True, exist_ok=True)
        size = arguments.chip_pixels
        array = workload.texture(size, arguments.texture, band, arguments.seed)
        part = path.with_suffix(".part")
        workload.write_cog(part, array, 10.0)
        with rasterio.open(part, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as target:
            target.transform = from_origin(*corner, 10.0, 10.0)
            target.crs = api_world.CRS
        part.rename(path)
    return path


def chips(report: Report, settings: Settings, arguments: argparse.Namespace) -> None:
    """Measure one picture of 24 dates by services that have just started."""
    with tempfile.TemporaryDirectory(prefix="cbm-api-") as folder, seaweed.server() as store:
        reading = replace(settings, storage=store.settings(Path(folder)))
        chip_scenes(settings, store, arguments)
        path = (
            f"{COLLECTION}/items/P1/chips.png?size={_CHIP_M}&bands=B04,B03,B02&limit={CHIPS}"
            "&side=128&datetime=2024-12-01/2024-12-31"
        )
        taken = []
        for _ in range(arguments.rounds):
            with gunicorn(reading, Path(folder)) as served:
                latencies(served, [f"{COLLECTION}/items/P1"])
                (seconds,), size = latencies(served, [path])
                taken.append(seconds)
        report.note(f"A picture of {CHIPS} chips: {size / 1e3:.0f} kB.\n")
        report.bar(f"{CHIPS} chips of 128 x 128, cold, s", float(np.median(taken)), "<=", 2.0)


# All


def show(report: Report, found: dict[str, Spread]) -> None:
    """Put down what requests took."""
    lines = [
        "| request | p50 ms | p95 ms | CPU ms | per second | kB |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        figures = [one.p50 * 1e3, one.p95 * 1e3, one.cpu * 1e3, one.rate, one.size / 1e3]
        lines.append(f"| {name} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |")
        report.figures.append(
            {"case": name, "cpu_s": one.cpu, "wall_s": one.p50,
             "spread": one.p95 / one.p50 - 1, **vars(one)}
        )  # fmt: skip
    report.note("\n".join([*lines, ""]))


def run(arguments: argparse.Namespace, report: Report) -> None:
    """Fill a database, serve it, ask."""
    random.seed(arguments.seed)
    with_rows = min(arguments.parcels, arguments.rows // (SCENES * len(api_world.BANDS)))
    report.workload = {
        "parcels": f"{arguments.parcels:,}",
        "band-rows": f"{with_rows * SCENES * len(api_world.BANDS):,}",
        "clients at once": arguments.clients,
    }
    with database.running() as (server, settings), tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        dataset = api_world.country(settings, arguments.parcels)
        api_world.season(settings, dataset, with_rows, SCENES)
        add_user(settings, "anna", dataset)
        with closing(server.superuser(settings.database["dbname"])) as connection:
            connection.cursor().execute("VACUUM ANALYZE")
        report.note(f"Filled in {time.perf_counter() - start:.0f} s.\n")
        cases = {
            "series": series(with_rows),
            "parcels in a box": boxes(arguments.parcels),
            "tile of parcels, zoom 12": tiles(arguments.parcels, 12),
            "tile of parcels, zoom 14": tiles(arguments.parcels, 14),
            "tile of counts, zoom 8": tiles(arguments.parcels, 8),
        }
        with gunicorn(settings, Path(folder)) as served:
            found = {name: ask(served, server, of, arguments) for name, of in cases.items()}
        show(report, found)
        for name in cases:
            if name.startswith("tile"):
                report.bar(f"{name}, p95 ms", found[name].p95 * 1e3, "<=", 200.0)
        if arguments.chips:
            chips(report, settings, arguments)


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own."""
    workload.file_options(parser)
    parser.add_argument("--parcels", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=20_000_000, help="band-rows")
    parser.add_argument("--requests", type=int, default=400, help="of each kind")
    parser.add_argument("--clients", type=int, default=4, help="at once")
    parser.add_argument("--chip-pixels", type=int, default=2_048, help="side of the COGs")
    parser.add_argument("--no-chips", dest="chips", action="store_false")


if __name__ == "__main__":
    main(Report("The API"), run, options)
