"""Writing of the sample's files: each stands complete under its name, or not at all."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyogrio
import shapely
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from cbm_extract.sample.crops import BANDS_10M
from cbm_extract.sample.scenes import LEFT, LEGAL_CRS, NODATA, PIXEL_M, RASTER_CRS, TOP

TEMPORARY = ".tmp-"
# GeoPackage notes when a layer was changed; a fixed time keeps the file the same every time.
_CHANGED = "2021-03-01T00:00:00Z"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    waiting = path.with_name(f"{TEMPORARY}{path.name}")
    waiting.write_bytes(content)
    waiting.rename(path)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write JSON under a temporary name, then rename it."""
    text = json.dumps(document, ensure_ascii=False, indent=1)
    write_bytes(path, f"{text}\n".encode())


def encode_cog(raw: npt.NDArray[Any], band: str) -> bytes:
    """Encode raw values [rows, columns] as a cloud-optimised GeoTIFF on the sample's lattice."""
    pixel = PIXEL_M if band in BANDS_10M else 2 * PIXEL_M
    options = {"PREDICTOR": "STANDARD"} if raw.dtype == np.uint16 else {}
    with MemoryFile() as memory:
        with memory.open(
            driver="COG",
            width=raw.shape[1],
            height=raw.shape[0],
            count=1,
            dtype=raw.dtype.name,
            crs=RASTER_CRS,
            transform=from_origin(LEFT, TOP, pixel, pixel),
            nodata=NODATA,
            COMPRESS="DEFLATE",
            BLOCKSIZE=512,
            OVERVIEWS="NONE",
            NUM_THREADS=1,
            **options,
        ) as dataset:
            dataset.write(raw, 1)
        return bytes(memory.read())


def write_parcels(
    path: Path, layer: str, geometries: list[shapely.Geometry], columns: dict[str, list[Any]]
) -> None:
    """Write a GeoPackage of (Multi)Polygons in the legal CRS with the columns given.

    Raises:
        OSError: when the file cannot be written.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    multi = [
        shapely.MultiPolygon([geometry]) if geometry.geom_type == "Polygon" else geometry
        for geometry in geometries
    ]
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _CHANGED})
    try:
        with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=path.parent) as folder:
            waiting = Path(folder) / path.name
            pyogrio.raw.write(
                str(waiting),
                geometry=shapely.to_wkb(np.array(multi)),
                field_data=[_column(values) for values in columns.values()],
                fields=list(columns),
                layer=layer,
                driver="GPKG",
                geometry_type="MultiPolygon",
                crs=LEGAL_CRS,
            )
            waiting.rename(path)
    except pyogrio.errors.DataSourceError as error:
        raise OSError(f"{path}: {error}") from error
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def _column(values: list[Any]) -> npt.NDArray[Any]:
    kind = object if isinstance(values[0], str) else None
    return np.array(values, dtype=kind)
