"""Evidence of slices whose ids are others in the database they are restored into.

Digests cover ids, so that each run of such a slice gets the digest of its own rows under the new
ids, after the old one was verified.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from cbm_extract.store import evidence, signatures
from cbm_extract.store.evidence import Share
from cbm_extract.store.signatures import Slice

_RUN_COLUMNS = [
    "id", "scene_id", "product_id", "scope", "parcel_set_from", "parcel_set_to", "digest",
    "geometry_ids",
]  # fmt: skip


@dataclass(frozen=True)
class MovedRun:
    """What changes of an archived run: its digest, and geometries to be named (archived ids).

    The first run of a slice wrote what its parcel sets introduced; what later ones wrote is named
    one by one, because geometries may stand in other parcel sets here. None: as archived.
    """

    id: int
    digest: bytes
    geometry_ids: list[int] | None


@dataclass(frozen=True)
class _Run(Share):
    id: int
    digest: bytes


class Moving:
    """The runs of an archive, by the slices they wrote."""

    def __init__(self, folder: Path) -> None:
        """Read ``folder``'s runs, and the parcel sets of its geometries."""
        table = pq.read_table(folder / "tables/run.parquet", columns=_RUN_COLUMNS)
        rows = sorted(table.to_pylist(), key=lambda row: int(row["id"]))
        self._runs: dict[tuple[int, int], list[_Run]] = {}
        for row in rows:
            ids = row["geometry_ids"]
            run = _Run(
                row["parcel_set_from"], row["parcel_set_to"],
                None if ids is None else tuple(ids), row["id"], row["digest"],
            )  # fmt: skip
            evidence.append_live(
                self._runs.setdefault((row["scene_id"], row["product_id"]), []), run, row["scope"]
            )
        geometries = pq.read_table(
            folder / "tables/parcel_geometry.parquet", columns=["id", "parcel_set_id"]
        )
        numbers, sets = (column.to_pylist() for column in geometries.columns)
        self._origins: dict[int, int] = dict(zip(numbers, sets, strict=True))

    def of(self, rows: Slice, move: Callable[[Slice], Slice]) -> list[MovedRun]:
        """Return what changes of the runs of an archived slice; ``move`` gives it its ids here.

        Runs whose rows are not those they wrote keep their digests, which tell of it here as well.
        """
        runs = self._runs.get((rows.scene_id, rows.product_id), [])
        shares = evidence.Shares(runs)
        owners = np.array(
            [
                shares.owner(number, self._origins.get(number, 0))
                for number in rows.geometry_ids.tolist()
            ]
        )
        found = []
        for position, run in enumerate(runs):
            part = rows.rows(owners == position)
            if signatures.digest(part) != run.digest:
                continue
            named = part.geometry_ids.tolist() if position and run.filled is None else None
            found.append(MovedRun(run.id, signatures.digest(move(part)), named))
        return found
