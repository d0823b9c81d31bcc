"""The coordinate reference system of a file: from the file or told, never guessed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.enums import WktVersion
from pyproj.exceptions import CRSError, ProjError

from cbm_core.errors import CbmError

FloatArray = NDArray[np.float64]
Bounds = tuple[float, float, float, float]

LONGITUDE_LATITUDE = "EPSG:4326"
EQUAL_AREA = "EPSG:3035"

# PostGIS reserves 1..998999 for users; EPSG codes end far below 900000.
_OTHER_SRID = 900_000
_OTHER_SRIDS = 98_999
# Units within which a projection and its inverse have to agree.
_COMES_BACK = 1.0
# No degree of latitude or longitude is longer than this on the Earth's ellipsoid.
_METRES_PER_DEGREE = 111_700.0


@dataclass(frozen=True)
class SourceCrs:
    """The horizontal CRS of a source.

    ``definition`` is AUTHORITY:CODE, or WKT where there is no code; ``srid`` the EPSG code, or for
    others a number from 900000 that follows from the definition. ``origin`` says who named it.
    """

    crs: CRS
    definition: str
    srid: int
    origin: Literal["file", "told"]

    @property
    def metres_per_unit(self) -> float:
        """Upper bound of the length of one unit in metres."""
        if self.crs.is_geographic:
            return _METRES_PER_DEGREE
        return max(axis.unit_conversion_factor for axis in self.crs.axis_info)


def resolve(in_file: str | None, told: str | None, name: str) -> SourceCrs:
    """Bring together what a file says and what the operator says; ``name`` is for messages.

    Raises:
        CbmError: ``crs_missing`` when neither says anything, ``crs_contradictory`` when they
            differ, ``crs_unknown`` when one cannot be understood or is no CRS on the Earth.

    """
    of_file = _parse(in_file, f"the file {name}") if in_file else None
    if of_file is not None and not (of_file.is_projected or of_file.is_geographic):
        of_file = None  # "undefined Cartesian" and its like say that nothing is known
    of_told = _parse(told, "the argument crs") if told else None
    if of_told is not None and not (of_told.is_projected or of_told.is_geographic):
        raise CbmError("crs_unknown", f"Expected a horizontal CRS, found {of_told.name}.")
    if of_file is not None and of_told is not None and not _same(of_file, of_told):
        raise CbmError(
            "crs_contradictory",
            f"{name} says its CRS is {_label(of_file)}, the argument says {_label(of_told)}.",
            "Leave `crs` out, or correct the file.",
        )
    crs = of_told if of_told is not None else of_file
    if crs is None:
        raise CbmError(
            "crs_missing",
            f"{name} does not say in which CRS its coordinates are.",
            "Tell it with `crs`, for example EPSG:25832.",
        )
    definition = _definition(crs)
    return SourceCrs(crs, definition, _srid(definition), "told" if of_file is None else "file")


def _parse(text: str, where: str) -> CRS:
    try:
        crs = CRS.from_user_input(text)
    except CRSError:
        raise CbmError(
            "crs_unknown",
            f"Expected a coordinate reference system in {where}, found {text[:80]!r}.",
            "Give a code such as EPSG:25832.",
        ) from None
    if crs.is_compound:
        crs = crs.sub_crs_list[0]
    if crs.is_bound and crs.source_crs is not None and crs.source_crs.to_authority():
        crs = crs.source_crs
    return crs.to_2d()


def _same(one: CRS, other: CRS) -> bool:
    """Say whether x and y mean the same in both, whatever their names and the order of axes."""
    if _definition(one) == _definition(other) or one.equals(other, ignore_axis_order=True):
        return True
    bases = one.geodetic_crs, other.geodetic_crs
    if bases[0] is None or bases[1] is None or one.is_geographic or other.is_geographic:
        return False
    if not bases[0].equals(bases[1], ignore_axis_order=True):
        return False
    # EPSG has twins that differ in the order of the axes alone, 31467 and 5677 for example.
    use = one.area_of_use or other.area_of_use
    if use is None:
        return False
    places = np.array([use.west, use.east]), np.array([use.south, use.north])
    there = [Transformer.from_crs(crs.geodetic_crs, crs, always_xy=True) for crs in (one, other)]
    return np.allclose(there[0].transform(*places), there[1].transform(*places), rtol=0, atol=1e-4)


def _definition(crs: CRS) -> str:
    authority = crs.to_authority()
    # Longitude/latitude in either order is the same here: coordinates are always taken as x, y.
    if authority == ("OGC", "CRS84"):
        return LONGITUDE_LATITUDE
    return ":".join(authority) if authority else crs.to_wkt(WktVersion.WKT2_2019)


def _label(crs: CRS) -> str:
    definition = _definition(crs)
    return definition if len(definition) < 40 else crs.name


def _srid(definition: str) -> int:
    authority, _, code = definition.partition(":")
    if authority == "EPSG":
        return int(code)
    digest = hashlib.sha256(definition.encode()).digest()
    return _OTHER_SRID + int.from_bytes(digest[:8], "big") % _OTHER_SRIDS


class EqualArea:
    """Coordinates of a CRS -> metres in the projection of EPSG:3035 (Lambert equal area).

    Longitudes and latitudes are taken as they stand, without a datum shift, so that no choice of a
    transformation is needed and every place on the Earth can be measured; an area is off by less
    than 0.03 % for it.
    """

    def __init__(self, crs: CRS) -> None:
        """Prepare for a horizontal CRS."""
        self._to_degrees = None
        if not crs.is_geographic:
            if crs.geodetic_crs is None:
                raise CbmError("crs_unknown", f"{crs.name} has no geodetic CRS.")
            self._to_degrees = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
        equal_area = CRS.from_user_input(EQUAL_AREA)
        self._project = Transformer.from_crs(equal_area.geodetic_crs, equal_area, always_xy=True)

    def degrees(self, coordinates: FloatArray) -> FloatArray:
        """Return longitude, latitude [n, 2] in degrees; infinite outside of the projection."""
        if self._to_degrees is None:
            return coordinates
        return np.column_stack(self._to_degrees.transform(coordinates[:, 0], coordinates[:, 1]))

    def metres(self, coordinates: FloatArray) -> FloatArray:
        """Return x, y [n, 2] in metres."""
        degrees = self.degrees(coordinates)
        return np.column_stack(self._project.transform(degrees[:, 0], degrees[:, 1]))

    def extent(self, bounds: Bounds) -> Bounds:
        """Return (west, south, east, north) in degrees of the CRS's own datum.

        West > east crosses the antimeridian.
        All are infinite where the coordinates have no place on the Earth.
        """
        if self._to_degrees is None:
            return bounds
        centre = np.array([[(bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2]])
        degrees = self.degrees(centre)
        back = self._to_degrees.transform(degrees[:, 0], degrees[:, 1], direction="INVERSE")
        # Far outside of its domain a projection gives numbers, but does not come back from them.
        if not np.allclose(np.column_stack(back), centre, rtol=0, atol=_COMES_BACK):
            return (np.inf, np.inf, np.inf, np.inf)
        try:
            west, south, east, north = self._to_degrees.transform_bounds(*bounds)
        except ProjError:
            return (np.inf, np.inf, np.inf, np.inf)
        return (west, south, east, north)
