"""What is measured: parcels and bands of one Sentinel-2 tile, the same every time.

The tile is one of UTM zone 32: EPSG:32632, upper left corner 399960, 5300040, 109.8 km a side:
10980 pixels of 10 m, 5490 of 20 m. Files are made once and kept in a folder (``--folder``); later
runs use those that are there. To make them all beforehand: ``python -m benchmarks.workload``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from rasterio.transform import from_origin

from cbm_extract.plan.build import build_chunks
from cbm_extract.plan.lattice import Grid, Placement, place
from cbm_extract.plan.pipeline import choose
from cbm_extract.plan.runs import Runs
from cbm_extract.plan.window import clip
from cbm_extract.sample.sky import CIRRUS, CLOUD_HIGH, CLOUD_MEDIUM, SHADOW, fractal

CRS = "EPSG:32632"
WEST, NORTH = 399_960.0, 5_300_040.0
ROWS_10M, ROWS_20M = 10_980, 5_490
SIDE = 109_800.0
# Of the tile, in degrees; for the choice of coordinate operations.
AREA = (7.6, 46.8, 9.2, 47.9)
BANDS_10M = ("B02", "B03", "B04", "B08")
BANDS_20M = ("B05", "B06", "B07", "B8A", "B11", "B12")

MEDIAN_HA = 1.36
_SPREAD = 0.952  # of the logarithm; the mean is then 2.14 ha
_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

Polygons = npt.NDArray[np.object_]


def options(parser: argparse.ArgumentParser) -> None:
    """Add what most scripts have in common: --folder, --seed, --texture, --count."""
    file_options(parser)
    parser.add_argument("--count", type=int, default=100_000, help="parcels (default 100000)")


def file_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which files are made: --folder, --seed, --texture."""
    default = Path(tempfile.gettempdir()) / "cbm-benchmarks"
    parser.add_argument(
        "--folder", type=Path, default=default, help=f"where rasters are kept (default {default})"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--texture",
        choices=("real", "synthetic"),
        default="real" if real_band("B04") else "synthetic",
        help="pixels of a real scene (CBM_TEST_DATA), or made up",
    )


# Parcels


def parcels(count: int, seed: int = 1, side: float = SIDE) -> Polygons:
    """Return ``count`` valid polygons in the tile's CRS, in the order of a Hilbert curve.

    They fill a square of ``side`` metres that has its upper left corner in common with the tile.

    Median 1.36 ha, mean 2.14 ha (100,000 give about 21 million pixels of 10 m); 5 to 40 corners;
    2 % are slivers of a few metres' width, 2 % have a hole, and neighbours overlap here and there.
    """
    rng = np.random.default_rng(seed)
    corners = rng.integers(5, 41, count)
    size = MEDIAN_HA * 1e4 * np.exp(_SPREAD * rng.standard_normal(count))
    stretch = np.exp(rng.uniform(0, 1, count) * 0.6)
    slivers = rng.random(count) < 0.02
    stretch[slivers] = rng.uniform(4, 6, slivers.sum())
    outlines = _stars(rng, corners, stretch)
    first = np.concatenate([[0], np.cumsum(corners + 1)])
    shells = _polygons(outlines, first)
    outlines *= np.repeat(np.sqrt(size / shapely.area(shells)), corners + 1)[:, None]
    centres = _centres(rng, count, side)
    moved = np.round(outlines + np.repeat(centres, corners + 1, axis=0), 2)
    made = _polygons(moved, first)
    holed = np.flatnonzero(rng.random(count) < 0.02)
    for k in holed:
        part = slice(first[k], first[k + 1])
        hole = np.round(outlines[part][::-1] * 0.3 + centres[k], 2)
        made[k] = shapely.Polygon(moved[part], [hole])
    made = made[shapely.is_valid(made)]  # rounding may fold one in a million
    order = np.argsort(gpd.GeoSeries(made).hilbert_distance().to_numpy(), kind="stable")
    return np.asarray(made[order], dtype=object)


def _stars(
    rng: np.random.Generator, corners: npt.NDArray[np.int64], stretch: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Closed rings around the origin, one corner in each of as many equal sectors."""
    owner = np.repeat(np.arange(len(corners)), corners + 1)
    sector = np.arange(len(owner)) - np.repeat(
        np.concatenate([[0], np.cumsum(corners + 1)[:-1]]), corners + 1
    )
    angle = 2 * np.pi * (sector + rng.uniform(0.1, 0.9, len(owner))) / corners[owner]
    reach = rng.uniform(0.65, 1.0, len(owner))
    xy = np.column_stack([np.cos(angle), np.sin(angle)]) * reach[:, None]
    xy *= np.column_stack([stretch, 1 / stretch])[owner]
    turn = rng.uniform(0, np.pi, len(corners))[owner]
    cos, sin = np.cos(turn), np.sin(turn)
    xy = np.column_stack([cos * xy[:, 0] - sin * xy[:, 1], sin * xy[:, 0] + cos * xy[:, 1]])
    first = np.concatenate([[0], np.cumsum(corners + 1)])
    xy[first[1:] - 1] = xy[first[:-1]]
    return xy


def _polygons(xy: npt.NDArray[np.float64], first: npt.NDArray[np.int64]) -> Polygons:
    count = len(first) - 1
    rings = first, np.arange(count + 1)
    return np.asarray(shapely.from_ragged_array(shapely.GeometryType.POLYGON, xy, rings))


def _centres(rng: np.random.Generator, count: int, side: float) -> npt.NDArray[np.float64]:
    """Spread over the square a little more evenly than by chance, all well inside."""
    places = int(np.ceil(np.sqrt(count)))
    cells = rng.permutation(places * places)[:count]
    grid = np.column_stack([cells % places, cells // places])
    grid = grid + rng.uniform(0.15, 0.85, (count, 2))
    margin = 1_000.0
    corner = np.array([WEST, NORTH - side]) + margin
    return np.asarray(corner + grid * ((side - 2 * margin) / places))


def placement(rows: int = ROWS_10M) -> Placement:
    """Return the place of the tile's raster of ``rows`` x ``rows`` pixels."""
    pixel = SIDE / rows
    return place(Grid(CRS, (pixel, 0.0, WEST, 0.0, -pixel, NORTH), rows, rows))


def runs(polygons: Polygons, where: Placement, buffer_m: float = 0.0) -> Runs:
    """Rasterise parcels by the planner; ids are their positions, from 1."""
    ids = np.arange(1, len(polygons) + 1, dtype=np.int32)
    same = choose(CRS, CRS, AREA)
    wkb = shapely.to_wkb(polygons)
    return clip(build_chunks(ids, wkb, CRS, where.lattice, buffer_m, same), where)


# Pixels


def real_band(band: str) -> Path | None:
    """Find a band of a real Sentinel-2 scene, 1098 or 549 pixels a side; None without the data."""
    data = Path(os.environ.get("CBM_TEST_DATA", _DATA))
    return next(iter(sorted(data.glob(f"s2/sentinel_cogs/**/{band}.tif"))), None)


def texture(
    rows: int = ROWS_10M, kind: str = "real", band: str = "B04", seed: int = 1
) -> npt.NDArray[np.uint16]:
    """Return a band's pixels, uint16 [rows, rows], all valid and below 2^15.

    ``real``: the scene's pixels mirrored until they fill the raster, never interpolated.
    ``synthetic``: fields of 40 x 40 pixels, fractal texture and noise that deflate (with
    predictor) packs as badly as the real band: to 70 %.
    """
    if kind == "real":
        path = real_band(band)
        if path is None:
            raise FileNotFoundError("no real scene: set CBM_TEST_DATA, or use --texture synthetic")
        with rasterio.open(path) as dataset:
            return _mirrored(dataset.read(1), rows)
    rng = np.random.default_rng([seed, rows, int(band[1:].replace("A", "9"), 10)])
    cells = -(-rows // 40)
    fields = rng.normal(2400, 500, (cells, cells)).repeat(40, axis=0).repeat(40, axis=1)
    waves = _mirrored(fractal(rng, 1098, 2.4), rows)
    out = np.empty((rows, rows), dtype=np.uint16)
    for row in range(rows):
        line = fields[row, :rows] + 220.0 * waves[row] + 42.0 * rng.standard_normal(rows)
        out[row] = np.clip(line, 1, 12_000)
    return out


def float_texture(pixels: npt.NDArray[np.uint16], seed: int = 1) -> npt.NDArray[np.float32]:
    """Return Sentinel-1 like linear power of the same shape: speckle on what the band shows."""
    rng = np.random.default_rng([seed, 2])
    out = np.empty(pixels.shape, dtype=np.float32)
    for row, line in enumerate(pixels):
        out[row] = line * np.float32(2e-5) * rng.standard_gamma(4.0, len(line), dtype=np.float32)
    return out


def scl_texture(cloud_share: float, rows: int = ROWS_20M, seed: int = 1) -> npt.NDArray[np.uint8]:
    """Return scene classes, uint8 [rows, rows], of which ``cloud_share`` are to be masked.

    Those are 3, 8, 9 and 10 in coherent patches (a fractal field above a threshold, k^-3.3); the
    others 4, 5 and some 6.
    """
    rng = np.random.default_rng([seed, 3])
    sky, land = fractal(rng, rows, 3.3, 0.5), fractal(rng, rows, 3.0)
    out = np.full((rows, rows), 4, dtype=np.uint8)
    out[land > 0.6] = 5
    out[land > 2.5] = 6
    if cloud_share <= 0:
        return out
    levels = np.quantile(sky, 1 - cloud_share * np.array([1.0, 0.8, 0.65, 0.45]))
    for level, value in zip(levels, (SHADOW, CIRRUS, CLOUD_MEDIUM, CLOUD_HIGH), strict=True):
        out[sky > level] = value
    return out


def _mirrored(small: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    pair = np.block([[small, small[:, ::-1]], [small[::-1], small[::-1, ::-1]]])
    times = -(-rows // len(pair))
    return np.ascontiguousarray(np.tile(pair, (times, times))[:rows, :rows])


# Files


def write_cog(path: Path, array: npt.NDArray[Any], resolution: float, block: int = 1024) -> None:
    """Write a cloud-optimised GeoTIFF as the public Sentinel-2 collections have it.

    Deflate with the predictor of the type, no overviews (nothing reads them), nodata 0.
    """
    _write(
        path,
        array,
        resolution,
        driver="COG",
        COMPRESS="DEFLATE",
        PREDICTOR="YES",
        BLOCKSIZE=block,
        OVERVIEWS="NONE",
        NUM_THREADS="ALL_CPUS",
    )


def write_jp2(path: Path, array: npt.NDArray[np.uint16], resolution: float = 10.0) -> None:
    """Write JPEG 2000 laid out as ESA's bands.

    Tiles of 1024, reversible 5/3, 5 levels, precincts of 256, code-blocks of 64 x 64, 15 bits, one
    layer, LRCP, with PLT and TLM.
    """
    _write(
        path,
        array,
        resolution,
        driver="JP2OpenJPEG",
        QUALITY=100,
        REVERSIBLE="YES",
        BLOCKXSIZE=1024,
        BLOCKYSIZE=1024,
        RESOLUTIONS=6,
        PRECINCTS=",".join(["{256,256}"] * 6),
        CODEBLOCK_WIDTH=64,
        CODEBLOCK_HEIGHT=64,
        PROGRESSION="LRCP",
        PLT="YES",
        TLM="YES",
        **({"NBITS": 15} if array.dtype == np.uint16 else {}),
    )


def _write(path: Path, array: npt.NDArray[Any], resolution: float, **creation: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    waiting = path.with_name(f".{os.getpid()}-{path.name}")
    with (
        rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS", GDAL_PAM_ENABLED="NO"),
        rasterio.open(
            waiting,
            "w",
            width=array.shape[1],
            height=array.shape[0],
            count=1,
            dtype=array.dtype,
            crs=CRS,
            transform=from_origin(WEST, NORTH, resolution, resolution),
            nodata=0,
            **creation,
        ) as dataset,
    ):
        dataset.write(array, 1)
    waiting.rename(path)


def kept(
    folder: Path,
    name: str,
    write: Callable[..., None],
    make: Callable[[], npt.NDArray[Any]],
    resolution: float,
) -> Path:
    """Return the file of that name in the folder; make it when it is not there."""
    path = folder / name
    if not path.exists():
        write(path, make(), resolution)
    return path


def band_file(
    folder: Path, band: str = "B04", form: str = "tif", kind: str = "real", seed: int = 1
) -> Path:
    """Return a band of the tile as ``tif`` (COG) or ``jp2``, on its own grid (10 or 20 m)."""
    rows = ROWS_10M if band in BANDS_10M else ROWS_20M
    write = {"tif": write_cog, "jp2": write_jp2}[form]
    name = f"{kind}-{seed}-{band}.{form}"
    return kept(folder, name, write, lambda: texture(rows, kind, band, seed), SIDE / rows)


def float_file(folder: Path, kind: str = "real", seed: int = 1) -> Path:
    """Return a float32 band of 10 m (Sentinel-1) as COG."""
    name = f"{kind}-{seed}-VV.tif"
    return kept(
        folder, name, write_cog, lambda: float_texture(texture(kind=kind, seed=seed), seed), 10.0
    )


def scl_file(folder: Path, cloud_share: float, form: str = "tif", seed: int = 1) -> Path:
    """Return the scene classes of 20 m as ``tif`` or ``jp2``."""
    write = {"tif": write_cog, "jp2": write_jp2}[form]
    name = f"scl-{seed}-{round(100 * cloud_share):02d}.{form}"
    return kept(folder, name, write, lambda: scl_texture(cloud_share, seed=seed), 20.0)


def main() -> None:
    """Make the files that the benchmarks use."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    options(parser)
    arguments = parser.parse_args()
    folder, kind, seed = arguments.folder, arguments.texture, arguments.seed
    for band in (*BANDS_10M, *BANDS_20M):
        print(band_file(folder, band, "tif", kind, seed))
    print(band_file(folder, "B04", "jp2", kind, seed))
    print(scl_file(folder, 0.3, seed=seed))


if __name__ == "__main__":
    main()
