"""Rows and rasters for tests, made without the code under test."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyproj
import rasterio
import shapely
from psycopg2.extras import Json, execute_values
from rasterio.transform import from_origin
from shapely.geometry.base import BaseGeometry

from cbm_core import db as database
from cbm_core.settings import Settings


def sql(settings: Settings, statement: str, *parameters):
    """Run one statement, commit, and return the rows, if it gives any."""
    with closing(database.connect(settings)) as connection, connection, connection.cursor() as cur:
        cur.execute(statement, parameters or None)
        return cur.fetchall() if cur.description else []


def add_dataset(settings, aoi="tt", year=2024, start="2024-01-01", end="2024-12-31") -> int:
    return sql(
        settings,
        """INSERT INTO cbm.dataset (aoi, year, imagery_start, imagery_end)
           VALUES (%s, %s, %s, %s) RETURNING id""",
        aoi, year, start, end,
    )[0][0]  # fmt: skip


def transformed(geometry: BaseGeometry, source: str, target: str = "EPSG:4326") -> BaseGeometry:
    transformer = pyproj.Transformer.from_crs(source, target, always_xy=True)
    return shapely.transform(geometry, transformer.transform, interleaved=False)


def _multi(geometry: BaseGeometry) -> BaseGeometry:
    return geometry if geometry.geom_type == "MultiPolygon" else shapely.MultiPolygon([geometry])


def add_parcels(settings, dataset_id, geometries, crs="EPSG:32632", layer="") -> list[int]:
    """Import parcels p0, p1, ... as one parcel set; return the geometries' ids in their order."""
    srid = int(crs.split(":")[1])
    with closing(database.connect(settings)) as connection, connection, connection.cursor() as cur:
        cur.execute("INSERT INTO cbm.crs VALUES (%s, %s) ON CONFLICT DO NOTHING", (srid, crs))
        cur.execute(
            """INSERT INTO cbm.parcel_set (dataset_id, layer, source, checksum, options, crs_id,
                 report, parcels, added, changed, removed, software_version)
               VALUES (%s, %s, 'test', 'c', '{}', %s, '{}', %s, %s, 0, 0, '0') RETURNING id""",
            (dataset_id, layer, srid, len(geometries), len(geometries)),
        )
        parcel_set = cur.fetchone()[0]
        rows = []
        for geometry in map(_multi, geometries):
            hashed = str(hash(geometry.wkb) ^ hash(layer)).encode()[:16]
            geographic = transformed(geometry, crs)
            rows.append((dataset_id, parcel_set, hashed, geometry.wkb, srid, geographic.wkb))
        ids = execute_values(
            cur,
            """INSERT INTO cbm.parcel_geometry (dataset_id, parcel_set_id, hash, geom_src, geom,
                 area_m2) VALUES %s RETURNING id""",
            rows,
            template="(%s, %s, %s, ST_GeomFromWKB(%s, %s), ST_GeomFromWKB(%s, 4326), 1)",
            page_size=len(rows),
            fetch=True,
        )
        parcels = [
            (dataset_id, layer, f"p{number}", geometry, parcel_set)
            for number, (geometry,) in enumerate(ids)
        ]
        execute_values(
            cur,
            """INSERT INTO cbm.parcel (dataset_id, layer, pid, geometry_id, parcel_set_id,
                 valid_from) VALUES %s""",
            parcels,
            template="(%s, %s, %s, %s, %s, '2024-01-01')",
        )
    return [number for (number,) in ids]


def write_raster(
    path: Path, data, *, left, top, res=10.0, crs="EPSG:32632", nodata=None, **profile
) -> Path:
    """Write [rows, cols] or [bands, rows, cols] as a GeoTIFF with its own nodata."""
    bands = data if data.ndim == 3 else data[None]
    profile = {"compress": "deflate", **profile}
    with rasterio.open(
        path, "w", driver="GTiff", width=bands.shape[2], height=bands.shape[1], count=len(bands),
        dtype=bands.dtype.name, crs=crs, transform=from_origin(left, top, res, res), nodata=nodata,
        **profile,
    ) as target:  # fmt: skip
        target.write(bands)
    return path


def asset(path, *, index=1, scale=1.0, offset=0.0, nodata=(0.0,), source="declared") -> dict:
    return {
        "href": str(path),
        "index": index,
        "scale": scale,
        "offset": offset,
        "nodata": list(nodata),
        "offset_source": source,
    }


def add_scene(
    settings,
    assets,
    *,
    reference="scene",
    tile="32TMT",
    obstime=datetime(2024, 5, 1, 10, 30, tzinfo=UTC),
    datatake=None,
    footprint=None,
    card="s2",
    bounds=(0, 0, 1, 1),
    crs="EPSG:32632",
    part="",
) -> int:
    """Catalogue a scene; ``footprint`` (EPSG:4326) defaults to the rectangle ``bounds``."""
    if footprint is None:
        footprint = transformed(shapely.segmentize(shapely.box(*bounds), 1000.0), crs)
    return sql(
        settings,
        """INSERT INTO cbm.scene (reference, part, card, platform, obstime, datatake_start, tile,
             footprint, extent_crs, extent_bounds, assets, source)
           VALUES (%s, %s, %s, 'S2A', %s, %s, %s, ST_GeomFromWKB(%s, 4326), %s, %s, %s, 'test')
           RETURNING id""",
        reference, part, card, obstime, datatake or obstime, tile, _multi(footprint).wkb, crs,
        [float(value) for value in bounds], Json(assets),
    )[0][0]  # fmt: skip


def raster_scene(settings, paths: dict[str, Path | dict], **given) -> int:
    """Catalogue a scene of single-band files or assets; its extent is that of the first."""
    assets = {
        band: value if isinstance(value, dict) else asset(value) for band, value in paths.items()
    }
    with rasterio.open(next(iter(assets.values()))["href"]) as source:
        bounds, crs = tuple(source.bounds), source.crs.to_string()
    return add_scene(settings, assets, bounds=bounds, crs=crs, **given)


def add_product(settings, name="s2", card="s2", variables=("B04",)) -> int:
    return sql(
        settings,
        """INSERT INTO cbm.product (name, revision, card, variables, definition, hash)
           VALUES (%s, 1, %s, %s, '{}', %s) RETURNING id""",
        name, card, list(variables), name.encode(),
    )[0][0]  # fmt: skip


def add_signature(
    settings, dataset_id, geometry_id, scene_id, product_id, obstime, stats, *, classes=None, rank=0
) -> None:
    """Store a row: ``stats`` [variables, 8], None where all is masked; ``classes`` {class: pixels}.

    The pixels that were imaged are the largest count of a variable, 1 where there is none.
    """
    pixels = 0 if stats is None else int(max(row[0] for row in stats))
    packed = classes and b"".join(
        bytes([number]) + pixels.to_bytes(3, "big") for number, pixels in classes.items()
    )
    sql(settings, "SELECT cbm.ensure_signature_partition(%s::smallint, %s::date)",
        dataset_id, obstime.date())  # fmt: skip
    sql(
        settings,
        "INSERT INTO cbm.signature VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        obstime, geometry_id, scene_id, max(pixels, 1), pixels, dataset_id, product_id, rank,
        stats and [float(value) for row in stats for value in row], packed,
    )  # fmt: skip


def square(x, y, size=100.0) -> shapely.Polygon:
    """A square parcel with its lower left corner at x, y."""
    return shapely.box(x, y, x + size, y + size)


def pixels_of(geometry, *, left, top, res, shape, crs=None, target="EPSG:32632") -> np.ndarray:
    """The pixels GDAL gives a polygon: bool [rows, cols]."""
    from rasterio.features import rasterize

    moved = geometry if crs is None else transformed(geometry, crs, target)
    return rasterize(
        [(moved, 1)], out_shape=shape, transform=from_origin(left, top, res, res), dtype="uint8"
    ).astype(bool)
