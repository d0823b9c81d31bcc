"""Which raw values are observations, and how raw values become the stored unit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cbm_core.errors import CbmError

# Reduced in their own type; other integers are exact in float64.
NATIVE_TYPES = ("uint8", "uint16", "int16", "float32", "float64")
EXACT_IN_FLOAT64 = ("int8", "int32", "uint32")


def working_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type a band is gathered and reduced in.

    Raises CbmError ``dtype_unsupported`` (complex, 64-bit integers, half floats).
    """
    if dtype.name in NATIVE_TYPES:
        return dtype
    if dtype.name in EXACT_IN_FLOAT64:
        return np.dtype(np.float64)
    raise CbmError(
        "dtype_unsupported",
        f"Expected a raster of {', '.join(NATIVE_TYPES + EXACT_IN_FLOAT64)}, found {dtype.name}.",
        "Convert it (gdal_translate -ot).",
    )


def invalid_values(nodata: Iterable[float], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the raw values that are no observation, in the band's own type.

    Values the type cannot hold (-9999 in uint16, NaN in integers) never occur and are left out.
    For floats NaN and infinities are always invalid, so they are left out as well. A float32
    raster's nodata is compared as float32: files state it with fewer digits.
    """
    kept = []
    for value in nodata:
        if not np.isfinite(value):
            continue
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            if value != int(value) or not limits.min <= value <= limits.max:
                continue
        kept.append(value)
    with np.errstate(over="ignore"):
        return np.unique(np.array(kept, dtype=np.float64)).astype(dtype)


def to_stored_unit(
    statistics: NDArray[np.float64], scale: float, offset: float
) -> NDArray[np.float64]:
    """Map statistics of raw values by ``stored = raw * scale + offset``; a new array.

    ``statistics`` is float64 [..., 8]: count stays, std is only scaled, the others are mapped.
    Raises CbmError ``scale_not_positive``: a scale of 0 or less would swap or lose the quartiles.
    """
    if not (np.isfinite(scale) and scale > 0 and np.isfinite(offset)):
        raise CbmError(
            "scale_not_positive",
            f"Expected a scale above 0 and a finite offset, found {scale:g} and {offset:g}.",
            "Check the band's scale and offset in the scene's description.",
        )
    stored = statistics * scale + offset
    stored[..., 0] = statistics[..., 0]
    stored[..., 2] = statistics[..., 2] * scale
    return stored
