"""What requests of the predecessor's clients say; parameters that mean nothing here are ignored."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints

# No control characters: PostgreSQL and headers do not take them.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=255)]
# The predecessor did not care for case in the names of tables.
Name = Annotated[Text, AfterValidator(str.lower)]
# Notebooks fill `&scl=` with nothing.
Flag = Annotated[bool, BeforeValidator(lambda value: False if value == "" else value)]

Longitude = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
Latitude = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]

_NUMBER = r"-?[0-9]{1,3}(?:\.[0-9]{0,20})?(?:[eE][-+]?[0-9]{1,3})?"
_POINT = re.compile(rf"({_NUMBER})_({_NUMBER})")
# The separator and the sign are the same character: a point is read as far as it goes.
_POLYGON = re.compile(rf"{_POINT.pattern}(?:-{_POINT.pattern})*")
_MOST_POLYGON = 20_000


def _ring(text: str) -> list[tuple[float, float]]:
    ring, place = [], 0
    while point := _POINT.match(text, place):
        ring.append((float(point[1]), float(point[2])))
        place = point.end() + 1
    return ring if ring[0] == ring[-1] else [*ring, ring[0]]


def _checked(text: str) -> str:
    if not _POLYGON.fullmatch(text):
        raise ValueError("expected lon_lat-lon_lat-..., in degrees")
    ring = _ring(text)
    if len(set(ring)) < 3:
        raise ValueError("expected at least three points")
    if not all(abs(lon) <= 180 and abs(lat) <= 90 for lon, lat in ring):
        raise ValueError("expected longitudes to 180 and latitudes to 90 degrees")
    return text


class Named(BaseModel):
    """A dataset, and of it one set of parcels."""

    aoi: Name = Field(description="Area of interest, e.g. `ie`.")
    year: int = Field(ge=0, le=9999, description="Year of declaration.")
    ptype: Name = Field(default="", description="Layer of parcels; the unnamed one by default.")


class ById(Named):
    """A parcel by its id."""

    pid: Annotated[Text, Field(min_length=1, description="The parcel's id.")]


class Shown(Named):
    """Whether geometries are shown."""

    withGeometry: Flag = Field(default=False, description="Add the geometry as GeoJSON text.")  # noqa: N815
    wgs84: Flag = Field(default=False, description="The geometry in longitude and latitude.")


class ParcelById(Shown, ById):
    """A parcel by its id."""


class ParcelByLocation(Shown):
    """Parcels at a place."""

    lon: Longitude = Field(description="Longitude in degrees.")
    lat: Latitude = Field(description="Latitude in degrees.")


class ParcelsByPolygon(Shown):
    """Parcels that meet a polygon."""

    polygon: Annotated[str, AfterValidator(_checked)] = Field(
        description="`lon_lat-lon_lat-...`, in degrees: `-8.1_52.2--8.0_52.2--8.0_52.3`.",
        max_length=_MOST_POLYGON,
    )
    only_ids: Flag = True

    def ring(self) -> list[tuple[float, float]]:
        """Return the closed outline: longitude and latitude in degrees."""
        return _ring(self.polygon)


class Peers(ById):
    """Parcels like one, near it."""

    distance: float = Field(default=2000, ge=0, allow_inf_nan=False, description="Metres.")
    max: int = Field(default=10, ge=0, description="As many at most; up to 10,000.")
