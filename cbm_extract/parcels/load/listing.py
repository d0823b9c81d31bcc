"""What was imported into a dataset."""

from __future__ import annotations

from typing import Any

from cbm_core.datasets.store import Dataset
from cbm_core.db import Cursor


def parcel_sets(cursor: Cursor, dataset: Dataset) -> list[dict[str, Any]]:
    """Return the imports of a dataset, oldest first, without their reports."""
    cursor.execute(
        """SELECT s.id, s.layer, s.source, encode(s.checksum, 'hex'), left(c.definition, 60),
                  s.parcels, s.added, s.changed, s.removed, s.software_version, s.imported_at
           FROM cbm.parcel_set s JOIN cbm.crs c ON c.id = s.crs_id
           WHERE s.dataset_id = %s ORDER BY s.id""",
        (dataset.id,),
    )
    names = (
        "id", "layer", "source", "checksum", "crs", "parcels", "added", "changed", "removed",
        "software_version",
    )  # fmt: skip
    return [
        {**dict(zip(names, row[:-1], strict=True)), "imported_at": row[-1].isoformat()}
        for row in cursor.fetchall()
    ]
