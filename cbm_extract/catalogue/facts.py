"""What one source says of a scene: names, a description, a processor's metadata."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime


@dataclass(frozen=True)
class Facts:
    """Facts as of :class:`cbm_extract.scene.Scene`, None where the source says nothing.

    ``sensing`` is when the scene was taken, ``datatake`` when the datatake began; of a coherence
    pair ``reference_time`` is when the earlier image was taken.
    """

    platform: str | None = None
    datatake: datetime | None = None
    sensing: datetime | None = None
    datastrip: datetime | None = None
    tile: str | None = None
    baseline: str | None = None
    generated: datetime | None = None
    cloud: float | None = None
    absolute_orbit: int | None = None
    orbit: int | None = None
    orbit_direction: str | None = None
    incidence_angle: float | None = None
    reference_time: datetime | None = None
    perpendicular_baseline: float | None = None

    def or_else(self, other: Facts) -> Facts:
        """Return these facts, and the other's where these say nothing."""
        missing = {
            item.name: getattr(other, item.name)
            for item in fields(self)
            if getattr(self, item.name) is None
        }
        return replace(self, **missing)
