"""The facts of a catalogued scene that its extraction needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cbm_core.db import Cursor, one_row
from cbm_extract.scene import BandAsset, Extent


@dataclass(frozen=True)
class SceneRow:
    """A scene in the database; times are UTC. For ``overruled`` reasons it is not held."""

    id: int
    reference: str
    part: str
    obstime: datetime
    extent: Extent
    assets: dict[str, BandAsset]
    overruled: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The scene as people call it."""
        return " ".join(part for part in (self.reference, self.part) if part)


def scene(cursor: Cursor, scene_id: int) -> SceneRow:
    """Return a scene by its id."""
    cursor.execute(
        """SELECT id, reference, part, obstime, extent_crs, extent_bounds, assets, overruled
           FROM cbm.scene WHERE id = %s""",
        (scene_id,),
    )
    number, reference, part, obstime, crs, bounds, assets, overruled = one_row(cursor)
    extent = Extent(crs, tuple(bounds))
    bands = {band: BandAsset.from_json(document) for band, document in assets.items()}
    return SceneRow(number, reference, part, obstime, extent, bands, frozenset(overruled))
