"""The one coordinate operation by which parcels are brought onto a lattice."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from pyproj.exceptions import ProjError
from pyproj.transformer import AreaOfInterest, TransformerGroup

from cbm_core.errors import CbmError
from cbm_extract.plan.lattice import canonical_crs

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Pipeline:
    """A chosen operation.

    ``definition`` is a PROJ pipeline string that takes and gives x, y (east, north or longitude,
    latitude in degrees). ``accuracy_m`` is PROJ's stated accuracy, None where PROJ states none.
    ``better`` names a more accurate operation that PROJ knows but whose grid file is not installed
    here, and that grid; None where there is none.
    """

    source_crs: str
    target_crs: str
    definition: str
    description: str
    accuracy_m: float | None
    better: str | None = None


def choose(
    source_crs: str,
    target_crs: str,
    area: tuple[float, float, float, float],
    allow_ballpark: bool = False,
) -> Pipeline:
    """Choose the best operation available for an area.

    ``area`` is (west, south, east, north) in degrees; west > east crosses the antimeridian.
    PROJ ranks: operations valid for the whole area first, then the more accurate ones.

    Raises CbmError: ``ballpark_transformation`` where only an operation that ignores the difference
    of the datums exists (errors reach hundreds of metres) and ``allow_ballpark`` is false;
    ``crs_unknown``; ``no_transformation``.
    """
    source, target = canonical_crs(source_crs), canonical_crs(target_crs)
    group = _group(source, target, area, allow_ballpark=False)
    if not group.transformers and allow_ballpark:
        group = _group(source, target, area, allow_ballpark=True)
    if not group.transformers:
        raise _none_found(source, target, area)
    best = group.transformers[0]
    return Pipeline(
        source,
        target,
        best.definition,
        best.description,
        best.accuracy if best.accuracy >= 0 else None,
        None if group.best_available else _missing(group),
    )


def transform(pipeline: Pipeline, coordinates: FloatArray) -> FloatArray:
    """Transform float64 [n, 2] (x, y); points that PROJ cannot transform become infinite."""
    if pipeline.source_crs == pipeline.target_crs:
        return coordinates
    transformer = Transformer.from_pipeline(pipeline.definition)
    x, y = transformer.transform(coordinates[:, 0], coordinates[:, 1])
    return np.column_stack([x, y])


def _group(
    source: str, target: str, area: tuple[float, float, float, float], allow_ballpark: bool
) -> TransformerGroup:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # missing grids are reported in `better`
            return TransformerGroup(
                source,
                target,
                always_xy=True,
                area_of_interest=AreaOfInterest(*area),
                allow_ballpark=allow_ballpark,
            )
    except ProjError as error:
        raise CbmError(
            "no_transformation",
            f"Expected a coordinate operation from {source[:60]} to {target[:60]}, "
            f"found none: {error}.",
            "Check the CRS of the parcels.",
        ) from None


def _none_found(source: str, target: str, area: tuple[float, float, float, float]) -> CbmError:
    if _group(source, target, area, allow_ballpark=True).transformers:
        return CbmError(
            "ballpark_transformation",
            f"From {source[:60]} to {target[:60]} only a ballpark transformation is available "
            "here: it ignores the difference of the datums, and parcels may be off by hundreds of "
            "metres.",
            "Install the PROJ grids of the country (projsync), check the CRS of the parcels, or "
            "allow ballpark transformations explicitly.",
        )
    return CbmError(
        "no_transformation",
        f"Expected a coordinate operation from {source[:60]} to {target[:60]}, found none.",
        "Check the CRS of the parcels.",
    )


def _missing(group: TransformerGroup) -> str | None:
    for operation in group.unavailable_operations:
        grids = [grid.short_name for grid in operation.grids if not grid.available]
        if grids:
            return f"{operation.name} ({operation.accuracy:g} m) needs {', '.join(grids)}"
    return None
