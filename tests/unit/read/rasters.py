"""Small rasters made for tests."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import Affine

ORIGIN = (500_000.0, 5_200_000.0)


def texture(height: int, width: int, dtype: str = "uint16", seed: int = 0) -> np.ndarray:
    """Values that compress badly, so that every block of a file has some size."""
    return np.random.default_rng(seed).integers(1, 4000, (height, width)).astype(dtype)


def write(path: Path, values: np.ndarray, **options: Any) -> Path:
    """Write [rows, columns] or [bands, rows, columns] at 10 m in UTM 32N."""
    values = values if values.ndim == 3 else values[np.newaxis]
    profile = {
        "driver": "GTiff",
        "crs": "EPSG:32632",
        "transform": Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1]),
        "count": values.shape[0],
        "height": values.shape[1],
        "width": values.shape[2],
        "dtype": values.dtype,
        **options,
    }
    if profile["driver"] == "JP2OpenJPEG":
        profile |= {"quality": 100, "reversible": True}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(values)
    return path
