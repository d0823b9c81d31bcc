"""Polygons as flat arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from cbm_core.errors import CbmError
from cbm_extract.plan.lattice import Lattice

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.int64]


@dataclass(frozen=True)
class Rings:
    """Multipolygons in ragged form.

    ``coordinates`` float64 [n, 2]; vertices of ring i are ``coordinates[ring[i]:ring[i + 1]]``
    (closed: the last repeats the first); rings of polygon j are ``part[j]:part[j + 1]``, the shell
    first; polygons of geometry k are ``geometry[k]:geometry[k + 1]``. All offsets are int64.
    """

    coordinates: FloatArray
    ring: IndexArray
    part: IndexArray
    geometry: IndexArray

    @classmethod
    def from_shapely(cls, geometries: NDArray[Any], ids: NDArray[np.int32]) -> Rings:
        """Unpack an array of Polygons and MultiPolygons; Z is dropped.

        Raises CbmError ``geometry_not_polygon`` naming the others by their ids.
        """
        types = shapely.get_type_id(geometries)
        wrong = (types != shapely.GeometryType.POLYGON) & (
            types != shapely.GeometryType.MULTIPOLYGON
        )
        if wrong.any():
            raise CbmError(
                "geometry_not_polygon",
                f"Expected polygons, found {int(wrong.sum())} geometries of another type "
                f"(first ids: {_first(ids[wrong])}).",
                "Import the parcels again; the import keeps polygons only.",
                geometry_ids=ids[wrong].tolist(),
            )
        kind, coordinates, offsets = shapely.to_ragged_array(geometries, include_z=False)
        levels = [np.asarray(level, dtype=np.int64) for level in offsets]
        if kind == shapely.GeometryType.POLYGON:
            levels.append(np.arange(len(geometries) + 1, dtype=np.int64))
        return cls(np.ascontiguousarray(coordinates, dtype=np.float64), *levels)

    def to_shapely(self) -> NDArray[Any]:
        """Return the array of MultiPolygons."""
        multipolygons: NDArray[Any] = shapely.from_ragged_array(
            shapely.GeometryType.MULTIPOLYGON,
            self.coordinates,
            (self.ring, self.part, self.geometry),
        )
        return multipolygons

    def with_coordinates(self, coordinates: FloatArray) -> Rings:
        """Return the same rings elsewhere."""
        return replace(self, coordinates=coordinates)

    def in_pixels(self, lattice: Lattice) -> PixelRings:
        """Return the rings in pixels of the lattice: x to columns, y (downwards) to rows."""
        pixels = self.coordinates * (1.0 / lattice.xres, -1.0 / lattice.yres)
        pixels -= (lattice.xorigin / lattice.xres, -lattice.yorigin / lattice.yres)
        first = self.vertices()
        origin = np.zeros((len(first) - 1, 2))
        filled = first[1:] > first[:-1]
        origin[filled] = np.floor(pixels[first[:-1][filled]])
        pixels -= np.repeat(origin, np.diff(first), axis=0)
        return PixelRings(self.with_coordinates(pixels), origin.astype(np.int64))

    def vertices(self) -> IndexArray:
        """Return where each geometry's vertices begin, int64 [geometries + 1]."""
        return self.ring[self.part[self.geometry]]


@dataclass(frozen=True)
class PixelRings:
    """Rings in pixels, each geometry relative to a whole pixel near it.

    ``origin`` int64 [geometries, 2] is that pixel's absolute lattice (column, row). Small numbers
    keep crossings of edges with pixel centres exact where absolute indices (half a million rows)
    would round them to the one or the other side.
    """

    rings: Rings
    origin: IndexArray


def _first(ids: NDArray[np.int32]) -> str:
    return ", ".join(map(str, ids[:10].tolist()))
