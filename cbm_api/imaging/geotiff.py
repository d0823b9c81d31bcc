"""Chips as GeoTIFF."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from cbm_api.imaging.windows import Chip


def numbers(chip: Chip, tags: dict[str, str]) -> bytes:
    """Return a chip as it is: float32 in the stored unit, NaN without a value, bands described."""
    return _written(chip, chip.values, np.nan, tags)


def legacy(chip: Chip, card: str) -> bytes:
    """Return a chip as the predecessor's clients know it.

    Of ``s2``: uint16, 0 without a value, reflectance x 10000 of at least 1 else, as ESA wrote it
    before baseline 04.00. Other cards: float32, 0 without a value.
    """
    gone = np.isnan(chip.values)
    if card != "s2":
        return _written(chip, np.where(gone, np.float32(0), chip.values), 0, {})
    whole = np.clip(np.round(np.nan_to_num(chip.values)), 1, 65535)
    return _written(chip, np.where(gone, 0, whole).astype(np.uint16), 0, {})


def _written(chip: Chip, values: NDArray[Any], nodata: float, tags: dict[str, str]) -> bytes:
    count, rows, columns = values.shape
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=count, height=rows, width=columns, dtype=values.dtype.name,
            crs=chip.crs, transform=chip.transform, nodata=nodata, compress="deflate",
            predictor=3 if values.dtype.kind == "f" else 2,
        ) as target:  # fmt: skip
            target.write(values)
            target.update_tags(**tags)
            for number, band in enumerate(chip.bands, 1):
                target.set_band_description(number, band)
        return bytes(memory.getbuffer())
