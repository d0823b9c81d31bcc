"""A source's parcels on disk between reading and loading, so that memory stays bounded.

In memory stand some 80 bytes per parcel (boxes, hashes, places) and the ids; geometries and
attributes lie in two files of a temporary folder.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from cbm_extract.parcels.geometry import Objects
from cbm_extract.parcels.mapping import Mapped

HASH_BYTES = 16
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("pid", "crop_code", "crop_name", "attributes")]
)


@dataclass(frozen=True)
class Encoded:
    """Geometries of n parcels as they are stored.

    ``wkb``: all of them, one behind the other. ``sizes``: int64 [n], bytes of each. ``bounds``:
    float64 [n, 4]. ``hashes``: V16 [n].
    """

    wkb: bytes
    sizes: NDArray[np.int64]
    bounds: NDArray[np.float64]
    hashes: NDArray[np.void]


def encode(polygons: Objects, srid: int) -> Encoded:
    """Encode normalised MultiPolygons, none missing."""
    wkb = shapely.to_wkb(polygons, byte_order=1, output_dimension=2, flavor="iso").tolist()
    head = hashlib.sha256(struct.pack(">I", srid))
    digests = []
    for one in wkb:
        digest = head.copy()
        digest.update(one)
        digests.append(digest.digest()[:HASH_BYTES])
    return Encoded(
        wkb=b"".join(wkb),
        sizes=np.array([len(one) for one in wkb], np.int64),
        bounds=shapely.bounds(polygons),
        hashes=np.frombuffer(b"".join(digests), dtype=f"V{HASH_BYTES}"),
    )


class SpoolWriter:
    """Takes the batches of one source in file order."""

    def __init__(self, folder: Path) -> None:
        """Open the files in a folder that is there."""
        self._geometry_path = folder / "geometry.bin"
        self._table_path = folder / "parcels.arrow"
        self._geometries = self._geometry_path.open("wb")
        self._table = pa.ipc.new_file(str(self._table_path), _SCHEMA)
        self._sizes: list[NDArray[np.int64]] = []
        self._bounds: list[NDArray[np.float64]] = []
        self._hashes: list[NDArray[np.void]] = []

    def write(self, mapped: Mapped, encoded: Encoded) -> None:
        """Append parcels."""
        self._geometries.write(encoded.wkb)
        self._sizes.append(encoded.sizes)
        self._bounds.append(encoded.bounds)
        self._hashes.append(encoded.hashes)
        columns = [mapped.pid, mapped.crop_code, mapped.crop_name, mapped.attributes]
        self._table.write_batch(pa.record_batch(columns, schema=_SCHEMA))

    def finish(self) -> Spool:
        """Close the files and return what was written."""
        self._table.close()
        self._geometries.close()
        sizes = np.concatenate([np.zeros(1, np.int64), *self._sizes])
        return Spool(
            geometry_path=self._geometry_path,
            table=pa.ipc.open_file(pa.memory_map(str(self._table_path))),
            offsets=np.cumsum(sizes),
            bounds=np.concatenate([np.empty((0, 4)), *self._bounds]),
            hashes=np.concatenate([np.empty(0, f"V{HASH_BYTES}"), *self._hashes]),
        )


@dataclass(frozen=True)
class Spool:
    """n parcels in file order.

    ``table``: Arrow file of pid, crop_code, crop_name, attributes. ``bounds``: float64 [n, 4],
    minx, miny, maxx, maxy in the source's CRS. ``hashes``: V16 [n]. ``offsets``: int64 [n + 1].
    """

    geometry_path: Path
    table: Any
    offsets: NDArray[np.int64]
    bounds: NDArray[np.float64]
    hashes: NDArray[np.void]

    def __len__(self) -> int:
        """Return the number of parcels."""
        return len(self.hashes)

    def wkb(self, rows: NDArray[np.int64]) -> list[bytes]:
        """Return the WKB of rows: little-endian, 2D, MultiPolygon."""
        starts, ends = self.offsets[rows].tolist(), self.offsets[rows + 1].tolist()
        if not starts:
            return []
        with (
            self.geometry_path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return [data[start:end] for start, end in zip(starts, ends, strict=True)]

    def geometries(self, rows: NDArray[np.int64]) -> Objects:
        """Return the MultiPolygons of rows: object [len(rows)]."""
        wkb = np.empty(len(rows), dtype=object)
        wkb[:] = self.wkb(rows)
        polygons: Objects = shapely.from_wkb(wkb)
        return polygons

    def pids(self) -> pa.ChunkedArray:
        """Return all ids in file order (null where there is none)."""
        chunks = [
            self.table.get_batch(i).column("pid") for i in range(self.table.num_record_batches)
        ]
        return pa.chunked_array(chunks, pa.string())

    def first_of_each_geometry(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say which of the rows are the first with their geometry: bool [len(rows)]."""
        words = self.hashes[rows].view(f"V{HASH_BYTES}")
        binary = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(HASH_BYTES), len(words), [None, pa.py_buffer(np.ascontiguousarray(words))]
        )
        # Codes are given in the order of first appearance.
        codes = binary.dictionary_encode().indices.to_numpy()
        first = np.zeros(len(rows), dtype=bool)
        if len(rows):
            first[0] = True
            first[1:] = codes[1:] > np.maximum.accumulate(codes)[:-1]
        return first

    def hilbert(self) -> NDArray[np.int64]:
        """Return the rows in the order of a Hilbert curve over the boxes' centres."""
        centres = (self.bounds[:, :2] + self.bounds[:, 2:]) / 2
        low, high = centres.min(axis=0), centres.max(axis=0)
        side = max(float((high - low).max()), np.finfo(float).tiny)
        cells = ((centres - low) / side * (_HILBERT_SIDE - 1)).astype(np.int64)
        return np.argsort(_hilbert_distance(cells[:, 0], cells[:, 1]), kind="stable")


_HILBERT_SIDE = 1 << 16


def _hilbert_distance(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the position along a Hilbert curve that fills a square of 65,536 cells a side.

    The classic iteration (e.g. Wikipedia, "Hilbert curve", xy2d), on whole arrays.
    """
    x, y = x.copy(), y.copy()
    distance = np.zeros_like(x)
    side = _HILBERT_SIDE >> 1
    while side:
        right, up = (x & side) > 0, (y & side) > 0
        distance += side * side * ((3 * right) ^ up)
        flip = ~up & right
        x[flip], y[flip] = _HILBERT_SIDE - 1 - x[flip], _HILBERT_SIDE - 1 - y[flip]
        turn = ~up
        x[turn], y[turn] = y[turn], x[turn].copy()
        side >>= 1
    return distance
