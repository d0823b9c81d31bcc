"""Areas in requests: GeoJSON polygons in longitude and latitude (CRS84)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_Longitude = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
_Latitude = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
_Position = tuple[_Longitude, _Latitude]


def _closed(ring: list[Any]) -> list[Any]:
    if ring[0] != ring[-1]:
        raise ValueError("the first and the last position of a ring are the same")
    return ring


_Ring = Annotated[list[_Position], Field(min_length=4), AfterValidator(_closed)]
_Rings = Annotated[list[_Ring], Field(min_length=1)]


class Polygon(BaseModel):
    """An area with holes."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["Polygon"]
    coordinates: _Rings


class MultiPolygon(BaseModel):
    """Several areas."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["MultiPolygon"]
    coordinates: Annotated[list[_Rings], Field(min_length=1)]


Area = Annotated[Polygon | MultiPolygon, Field(discriminator="type")]
