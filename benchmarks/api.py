"""The API as its clients meet it: gunicorn on loopback, HTTP, JSON and tiles.

Run ``python -m benchmarks.api [--parcels 1000000] [--rows 20000000]``. A country of parcels twenty
to a square kilometre; for the first of them a season of 100 scenes with ten bands, until there are
so many band-rows (one band of one scene and parcel). Requests are made one after the other for the
latencies, and by ``--clients`` at once for the rate. Parcels in a box are asked of pygeoapi and
tipg too, on the same database, in turn. Client, services and database share the machine's cores.
Chips are read from COGs on SeaweedFS by services that have just started.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks import api_chips, api_peers, database, workload
from benchmarks.harness import Report, main
from benchmarks.http_load import Target, body_of, latencies, rate
from cbm_core.settings import Settings
from tests import country
from tests.api.conftest import PASSWORD, add_user
from tests.api.serving import gunicorn
from tests.postgis import CARELESS, Server

SCENES = 100
COLLECTION = "/v1/collections/bm_2024"
TILE_MS, TIMES_PEERS = 200.0, 2.0
# Peers' drivers want TCP; the cache is that of a small server.
_TUNING = f"{CARELESS} -c shared_buffers=1GB -c listen_addresses=127.0.0.1 -c max_wal_size=8GB"
_LOGIN = {"Authorization": "Basic " + base64.b64encode(f"anna:{PASSWORD}".encode()).decode()}
_BOX_M = 2500.0

Paths = Callable[[], str]


@dataclass(frozen=True)
class Spread:
    """Seconds of requests that came one after the other, and requests per second at once.

    ``cpu`` are the CPU seconds of service and database for one request, ``size`` bytes.
    """

    p50: float
    p95: float
    cpu: float
    rate: float
    size: float


@contextmanager
def world(arguments: argparse.Namespace, report: Report) -> Iterator[tuple[Server, Settings]]:
    """Make the country in a database of its own."""
    with database.running(_TUNING) as (server, settings):
        start = time.perf_counter()
        dataset = country.make(settings, arguments.parcels)
        country.season(settings, dataset, seasoned(arguments), SCENES)
        add_user(settings, "anna", dataset)
        api_peers.prepare(server, settings)
        with closing(server.superuser(settings.database["dbname"])) as connection:
            connection.cursor().execute("VACUUM ANALYZE")
        report.note(f"Filled in {time.perf_counter() - start:.0f} s.\n")
        yield server, replace(settings, database={**settings.database, "host": "127.0.0.1"})


def seasoned(arguments: argparse.Namespace) -> int:
    """Return how many parcels have a season."""
    return min(arguments.parcels, arguments.rows // (SCENES * len(country.BANDS)))


def ask(
    target: Target, cpu: Callable[[], float], path: Paths, options: argparse.Namespace
) -> Spread:
    """Ask for different things: first one after the other, then all clients at once."""
    count: int = options.requests
    _warm(target, [path() for _ in range(40)])
    before = cpu()
    taken, size = latencies(target, [path() for _ in range(count)])
    used = (cpu() - before) / count
    p50, p95 = np.percentile(taken, [50, 95])
    together = rate(target, [path() for _ in range(count)], options.clients)
    return Spread(float(p50), float(p95), used, together, size)


def _warm(target: Target, paths: list[str]) -> None:
    """Ask unmeasured over many connections, so that all processes have loaded what they need."""
    rate(target, paths, 8)


def cases(arguments: argparse.Namespace) -> dict[str, Paths]:
    """Return what is asked, each time of another parcel, place or tile."""
    chance = random.Random(arguments.seed)
    count, with_series = arguments.parcels, seasoned(arguments)
    tiles = f"{COLLECTION}/tiles/WebMercatorQuad/"

    def tile(zoom: int) -> Paths:
        return lambda: tiles + country.tile(chance, count, zoom)

    def counts() -> str:
        return tiles + country.tile(chance, count, chance.randrange(12))

    return {
        "series, 100 scenes x 10 bands": lambda: (
            f"{COLLECTION}/items/P{chance.randint(1, with_series)}/signatures?product=s2"
        ),
        "the same by the predecessor's route": lambda: (
            "/query/parcelTimeSeries?aoi=bm&year=2024&tstype=s2"
            f"&pid=P{chance.randint(1, with_series)}"
        ),
        **{f"tile of parcels, zoom {zoom}": tile(zoom) for zoom in (12, 13, 14)},
        "tile of counts, zoom 0 to 11": counts,
    }


def own(report: Report, found: dict[str, Spread]) -> None:
    """Put down what this API's requests took."""
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
        if name.startswith("tile"):
            report.bar(f"{name}, p95 ms", one.p95 * 1e3, "<=", TILE_MS)
    report.note("\n".join([*lines, ""]))


# Parcels in a box, by this and others


def against_peers(
    report: Report, ours: Target, settings: Settings, arguments: argparse.Namespace, folder: Path
) -> None:
    """Hold ours against the faster one of the others, round by round."""
    with ExitStack() as stack:
        serving = [serve(settings, folder) for serve in (api_peers.pygeoapi, api_peers.tipg)]
        others = [stack.enter_context(one) for one in serving]
        middles, rates = _in_turn([ours, *others], arguments)
    names = [target.name for target in others]
    faster = [max(of_round) for of_round in zip(*(rates[name] for name in names), strict=True)]
    _compare(report, "rate of parcels in a box / the faster peer's", rates[ours.name], faster)
    faster = [min(of_round) for of_round in zip(*(middles[name] for name in names), strict=True)]
    _compare(report, "the faster peer's median time / ours", faster, middles[ours.name])
    lines = ["| parcels in a box | p50 ms | per second |", "|---|---|---|"]
    lines += [
        f"| {name} | {np.median(middles[name]) * 1e3:.1f} | {np.median(rates[name]):.1f} |"
        for name in rates
    ]
    report.note("\n".join([*lines, ""]))


def _in_turn(
    targets: list[Target], arguments: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Ask all for the same boxes; return the median seconds and the rates of each in each round."""
    chance = random.Random(arguments.seed)
    middles: dict[str, list[float]] = {target.name: [] for target in targets}
    rates: dict[str, list[float]] = {target.name: [] for target in targets}
    count = max(arguments.requests // arguments.rounds, 2 * arguments.clients)
    _same_parcels(targets, country.box(chance, arguments.parcels, _BOX_M))
    for _ in range(arguments.rounds):
        boxes = [country.box(chance, arguments.parcels, _BOX_M) for _ in range(count)]
        for target in targets:
            paths = [target.boxes.format(box=box) for box in boxes]
            _warm(target, paths[:8])
            taken, _ = latencies(target, paths)
            middles[target.name].append(float(np.median(taken)))
            rates[target.name].append(rate(target, paths, arguments.clients))
    return middles, rates


def _compare(report: Report, name: str, above: list[float], below: list[float]) -> None:
    ratios = [one / other for one, other in zip(above, below, strict=True)]
    middle = float(np.median(ratios))
    report.bar(name, middle, ">=", TIMES_PEERS, (max(ratios) - min(ratios)) / middle)


def _same_parcels(targets: list[Target], box: str) -> None:
    """See that all answer the same question."""
    found = []
    for target in targets:
        features = json.loads(body_of(target, target.boxes.format(box=box)))["features"]
        found.append({one["properties"].get("pid") or one["id"] for one in features})
    if not found[0] or any(one != found[0] for one in found):
        raise SystemExit(f"the services do not find the same parcels: {list(map(len, found))}")


def run(arguments: argparse.Namespace, report: Report) -> None:
    """Fill a database, serve it, ask."""
    arguments.collection, arguments.login = COLLECTION, _LOGIN
    report.workload = {
        "parcels": f"{arguments.parcels:,}",
        "band-rows": f"{seasoned(arguments) * SCENES * len(country.BANDS):,}",
        "clients at once": arguments.clients,
    }
    with (
        world(arguments, report) as (server, settings),
        tempfile.TemporaryDirectory(prefix="cbm-api-") as folder,
    ):
        with gunicorn(settings, Path(folder)) as served:
            boxes = f"{COLLECTION}/items?bbox={{box}}&limit={api_peers.LIMIT}"
            target = Target("cbm", served.port, _LOGIN, boxes)

            def cpu() -> float:
                return database.tree_cpu(served.process.pid) + database.backend_cpu(server)

            own(report, {name: ask(target, cpu, path, arguments)
                         for name, path in cases(arguments).items()})  # fmt: skip
            against_peers(report, target, settings, arguments, Path(folder))
        api_chips.measure(report, settings, arguments.parcels, arguments)


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own."""
    workload.file_options(parser)
    parser.add_argument("--parcels", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=20_000_000, help="band-rows")
    parser.add_argument("--requests", type=int, default=400, help="of each kind")
    parser.add_argument("--clients", type=int, default=4, help="at once")
    parser.add_argument("--chip-pixels", type=int, default=2_048, help="side of the COGs")


if __name__ == "__main__":
    main(Report("The API"), run, options)
