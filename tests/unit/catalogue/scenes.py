"""Scenes made for tests."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cbm_extract.catalogue import footprint
from cbm_extract.scene import BandAsset, Extent, Scene

EXTENT = Extent("EPSG:32632", (399960.0, 5190220.0, 509760.0, 5300020.0))
START = datetime(2022, 6, 20, 10, 20, 41, tzinfo=UTC)
STRIPS = (START - timedelta(seconds=5), START + timedelta(seconds=25))


def area(west: float = 8.0, east: float = 9.0) -> bytes:
    ring = [(west, 47.0), (east, 47.0), (east, 48.0), (west, 48.0), (west, 47.0)]
    return footprint.from_rings([[ring]])


def scene(reference: str = "A", **changes: Any) -> Scene:
    base = Scene(
        reference=reference,
        card="s2",
        platform="S2A",
        obstime=START + timedelta(minutes=5),
        datatake_start=START,
        tile="32TMT",
        extent=EXTENT,
        footprint=area(),
        assets={"B04": BandAsset(f"/data/{reference}/B04.tif", nodata=(0.0,))},
        baseline="N0400",
        generation_time=START + timedelta(hours=6),
        source="/data",
    )
    return replace(base, **changes)
