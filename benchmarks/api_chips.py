"""A picture of many dates from object storage, by services that have just started."""

from __future__ import annotations

import argparse
import random
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from benchmarks import workload
from benchmarks.harness import Report
from benchmarks.http_load import Target, latencies
from cbm_core.settings import Settings
from tests import country, seaweed
from tests.api.serving import gunicorn
from tests.factories import add_scene, asset

CHIPS, SIDE_M = 24, 1280
MOST_SECONDS = 2.0
BANDS = ("B02", "B03", "B04")
_FIRST_DAY = datetime(2024, 12, 1, 10, 30, tzinfo=UTC)
# From the files' border to the first parcel, in metres.
_MARGIN = 3000


def measure(
    report: Report, settings: Settings, parcels: int, arguments: argparse.Namespace
) -> None:
    """Ask each round a service that has just started for another parcel's picture."""
    chance = random.Random(arguments.seed)
    taken = []
    with tempfile.TemporaryDirectory(prefix="cbm-api-") as folder, seaweed.server() as store:
        reading = replace(settings, storage=store.settings(Path(folder)))
        catalogue(settings, store, arguments)
        for _ in range(arguments.rounds):
            item = f"{arguments.collection}/items/P{shown(chance, parcels, arguments.chip_pixels)}"
            picture = (
                f"{item}/chips.png?size={SIDE_M}&bands=B04,B03,B02&limit={CHIPS}&side=128"
                "&datetime=2024-12-01/2024-12-31"
            )
            # What is slow is measured, not given up.
            with gunicorn(reading, Path(folder), raster_seconds=120) as served:
                target = Target("cbm", served.port, arguments.login)
                # The same connection: the process that answers has looked at the login.
                (_, seconds), size = latencies(target, [item, picture])
                taken.append(seconds)
    low, high = min(taken), max(taken)
    report.note(
        f"A picture of {CHIPS} dates, three bands each: {2 * size / 1e3:.0f} kB;"
        f" {low:.2f} to {high:.2f} s.\n"
    )
    middle = float(np.median(taken))
    report.bar(
        f"{CHIPS} chips of 128 x 128, cold, s", middle, "<=", MOST_SECONDS, (high - low) / middle
    )


def shown(chance: random.Random, parcels: int, pixels: int) -> int:
    """Return the number of a parcel whose chip lies within the files."""
    across = int((pixels * 10 - _MARGIN - SIDE_M) / country.SPACING)
    side = country.side_of(parcels)
    across = min(across, side, parcels // side)
    return 1 + chance.randrange(across) * side + chance.randrange(across)


def catalogue(settings: Settings, store: seaweed.Seaweed, arguments: argparse.Namespace) -> None:
    """Catalogue dates whose bands are COGs on the storage, each an object of its own."""
    side = arguments.chip_pixels * 10.0
    west, south = country.WEST - _MARGIN, country.SOUTH - _MARGIN
    bounds = (west, south, west + side, south + side)
    files = {band: _cog(arguments, band, (west, south + side)) for band in BANDS}
    for number in range(CHIPS):
        assets = {
            band: asset(store.put(f"chips/{number}/{band}.tif", path.read_bytes()), offset=-1000.0)
            for band, path in files.items()
        }
        add_scene(
            settings, assets, reference=f"chip{number}", tile="32TNT", bounds=bounds,
            crs=country.CRS, obstime=_FIRST_DAY + timedelta(days=number),
        )  # fmt: skip


def _cog(arguments: argparse.Namespace, band: str, corner: tuple[float, float]) -> Path:
    size = arguments.chip_pixels
    path: Path = arguments.folder / f"api-{size}-{band}.tif"
    if not path.exists():
        arguments.folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        workload.write_cog(
            part, workload.texture(size, arguments.texture, band, arguments.seed), 10.0
        )
        with rasterio.open(part, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as target:
            target.transform = from_origin(*corner, 10.0, 10.0)
            target.crs = country.CRS
        part.rename(path)
    return path
