"""Other ways to the same numbers: what is installable and used for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import exactextract
import geopandas as gpd
import numpy as np
import numpy.typing as npt
import rasterio
import rasterstats
import shapely
from rasterio.features import rasterize
from rasterio.windows import Window

from benchmarks.workload import CRS, Polygons
from cbm_extract.read.strips import strip_height

QUARTILES = (0.25, 0.5, 0.75)
# As rasterstats calls them, in the order of our eight.
_RASTERSTATS = (
    "count",
    "mean",
    "std",
    "min",
    "max",
    "percentile_25",
    "percentile_50",
    "percentile_75",
)


def gdal_strips(path: Path) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Decode whole rows of blocks with GDAL into one buffer: (first row, values [rows, width])."""
    with rasterio.Env(GDAL_CACHEMAX=64), rasterio.open(path) as dataset:
        height = strip_height(dataset.block_shapes[0][0])
        buffer = np.empty((height, dataset.width), dataset.dtypes[0])
        for row in range(0, dataset.height, height):
            rows = min(height, dataset.height - row)
            window = Window(0, row, dataset.width, rows)
            dataset.read(1, window=window, out=buffer[:rows])
            yield row, buffer[:rows]


def decode_strips(path: Path) -> None:
    """Decode a band strip by strip, and do nothing with it."""
    for _ in gdal_strips(path):
        pass


def read_whole(path: Path) -> npt.NDArray[Any]:
    """Decode a band the plain way."""
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read(1))


def by_exactextract(path: Path, polygons: Polygons) -> Any:
    """Reduce by exactextract, reading the raster once from top to bottom."""
    frame = gpd.GeoDataFrame({"id": np.arange(len(polygons))}, geometry=polygons, crs=CRS)
    operations = ["count", "mean", "stdev", "min", "max"]
    operations += [f"quantile(q={q})" for q in QUARTILES]
    return exactextract.exact_extract(
        str(path),
        frame,
        operations,
        include_cols=["id"],
        strategy="raster-sequential",
        output="pandas",
    )


def labels_of(path: Path, polygons: Polygons) -> npt.NDArray[np.int32]:
    """Rasterise parcels' numbers, from 1, onto the band's grid; the later one wins an overlap."""
    with rasterio.open(path) as dataset:
        return np.asarray(
            rasterize(
                zip(polygons, range(1, len(polygons) + 1), strict=True),
                out_shape=dataset.shape,
                transform=dataset.transform,
                dtype="int32",
            )
        )


def by_group(path: Path, labels: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Reduce by a group-by of duckdb over labelled pixels; labels are made beforehand."""
    pixels = read_whole(path)
    inside = labels > 0
    table = {"parcel": labels[inside], "value": pixels[inside]}
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.register("pixel", table)
        found = connection.execute(
            """SELECT parcel, count(value), avg(value), stddev_pop(value), min(value), max(value),
                      quantile_cont(value, [0.25, 0.5, 0.75])
               FROM pixel WHERE value <> 0 GROUP BY parcel"""
        ).fetchnumpy()
    return np.asarray(found["parcel"])


def by_rasterstats(path: Path, polygons: Polygons) -> npt.NDArray[np.float64]:
    """Reduce by rasterstats, parcel by parcel: float64 [n, 8]."""
    shapes = [json.loads(text) for text in shapely.to_geojson(polygons)]
    found = rasterstats.zonal_stats(shapes, str(path), stats=_RASTERSTATS, nodata=0)
    rows = [[np.nan if row[key] is None else row[key] for key in _RASTERSTATS] for row in found]
    return np.array(rows, dtype=np.float64)
