"""A stored piece of a plan: geometries, their pixels on a lattice, and how well they are seen."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cbm_core.errors import CbmError
from cbm_extract.plan.lattice import Lattice

MAX_EXTENT = 65_535
# Default of `monitorable`: 8 whole pixels of 10 m.
MONITORABLE_AREA_M2 = 800.0

_MAGIC = b"CBMP"
_VERSION = 1
_HEAD = struct.Struct("<4sHI")
# Name and type on disk (little-endian), in this order.
_COLUMNS = (
    ("geometry_ids", "<i4"),
    ("indptr", "<i4"),
    ("run_row", "<u2"),
    ("run_col", "<u2"),
    ("run_len", "<u2"),
    ("pixels", "<i4"),
    ("whole_pixels", "<i4"),
    ("pixels_planned", "<i4"),
    ("pixel_area_m2", "<f4"),
    ("width_m", "<f4"),
    ("emptied", "|b1"),
)
# Neighbouring values differ little: stored as differences, they compress to a third.
_DIFFERENCES = {"geometry_ids", "indptr", "run_row", "run_col"}


@dataclass(frozen=True)
class PlanChunk:
    """Geometries of a plan in the order given, with CSR runs of pixels after the inward buffer.

    The pixels of run j are row ``row0 + run_row[j]``, columns from ``col0 + run_col[j]``,
    ``run_len[j]`` of them, in absolute indices of the lattice; runs of geometry k are
    ``indptr[k]:indptr[k + 1]`` in order of row, then column.

    - geometry_ids int32 [n]; indptr int32 [n + 1]; run_row, run_col, run_len uint16 [runs]
    - pixels, whole_pixels int32 [n]: by centre, and wholly inside, before the buffer
    - pixels_planned int32 [n]: by centre, after the buffer (the sum of the run lengths)
    - pixel_area_m2, width_m float32 [n]: size of a pixel there, mean width before the buffer
    - emptied bool [n]: the buffer left nothing of it
    """

    lattice: Lattice
    buffer_m: float
    row0: int
    col0: int
    height: int
    width: int
    geometry_ids: NDArray[np.int32]
    indptr: NDArray[np.int32]
    run_row: NDArray[np.uint16]
    run_col: NDArray[np.uint16]
    run_len: NDArray[np.uint16]
    pixels: NDArray[np.int32]
    whole_pixels: NDArray[np.int32]
    pixels_planned: NDArray[np.int32]
    pixel_area_m2: NDArray[np.float32]
    width_m: NDArray[np.float32]
    emptied: NDArray[np.bool_]

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """First row, first column, last row, last column (inclusive; absolute) of its pixels.

        A chunk without a pixel has last < first.
        """
        return self.row0, self.col0, self.row0 + self.height - 1, self.col0 + self.width - 1

    def codes(self, monitorable_area_m2: float = MONITORABLE_AREA_M2) -> list[str]:
        """Say of each geometry how it can be monitored.

        ``too_small``: the inward buffer left nothing of it; ``no_pixel``: no pixel centre lies in
        it; ``few_pixels``: its whole pixels together are smaller than ``monitorable_area_m2``;
        else ``ok``.
        """
        seen = self.whole_pixels * self.pixel_area_m2.astype(np.float64)
        few = seen < monitorable_area_m2 * (1 - 1e-6)  # areas are kept as float32
        conditions = [self.emptied, self.pixels_planned == 0, few]
        names = np.select(conditions, ["too_small", "no_pixel", "few_pixels"], "ok")
        codes: list[str] = names.tolist()
        return codes

    @cached_property
    def content_hash(self) -> bytes:
        """The sha256 of what is in it, whatever the form it is stored in."""
        digest = hashlib.sha256(self._header())
        for name, kind in _COLUMNS:
            digest.update(np.ascontiguousarray(getattr(self, name), dtype=kind).data)
        return digest.digest()

    def to_bytes(self) -> bytes:
        """Return the form stored in ``plan_chunk.payload``."""
        header = self._header()
        packer = zlib.compressobj(level=1)
        parts = [_HEAD.pack(_MAGIC, _VERSION, len(header)), header]
        for name, kind in _COLUMNS:
            column = np.ascontiguousarray(getattr(self, name), dtype=kind)
            if name in _DIFFERENCES:
                column = np.diff(column, prepend=column.dtype.type(0))
            parts.append(packer.compress(column.data))
        parts.append(packer.flush())
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, payload: bytes | memoryview) -> PlanChunk:
        """Read what ``to_bytes`` wrote.

        Raises CbmError: ``plan_version`` (written by another release), ``plan_damaged``.
        """
        try:
            magic, version, length = _HEAD.unpack_from(payload)
            if magic != _MAGIC:
                raise ValueError("it does not begin like one")  # noqa: TRY301
            if version != _VERSION:
                raise CbmError(
                    "plan_version",
                    f"Expected a plan in form {_VERSION}, found form {version}.",
                    "Another release wrote it: use that release, or let this one plan again.",
                )
            header: dict[str, Any] = json.loads(bytes(payload[_HEAD.size : _HEAD.size + length]))
            body = zlib.decompress(payload[_HEAD.size + length :])
            counts = header.pop("geometries"), header.pop("runs")
            header["lattice"] = Lattice(**header["lattice"])
            return cls(**header | _columns(body, *counts))
        except (struct.error, zlib.error, ValueError, TypeError, KeyError) as error:
            raise CbmError(
                "plan_damaged",
                f"Expected a stored plan, found {len(payload)} bytes that are none ({error}).",
                "Delete the plan; it is made again when it is next needed.",
            ) from None

    def _header(self) -> bytes:
        document = {
            "lattice": asdict(self.lattice),
            "buffer_m": self.buffer_m,
            "row0": self.row0,
            "col0": self.col0,
            "height": self.height,
            "width": self.width,
            "geometries": len(self.geometry_ids),
            "runs": len(self.run_row),
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _columns(body: bytes, geometries: int, runs: int) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    at = 0
    for name, kind in _COLUMNS:
        count = runs if name.startswith("run_") else geometries + (name == "indptr")
        column = np.frombuffer(body, dtype=kind, count=count, offset=at)
        at += column.nbytes
        if name in _DIFFERENCES:
            column = np.cumsum(column, dtype=column.dtype)
        columns[name] = column
    if at != len(body):
        raise ValueError("its length is wrong")
    return columns
