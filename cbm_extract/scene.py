"""The values that describe one scene, as catalogued and as stored in ``cbm.scene``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True)
class BandAsset:
    """Where one band of a scene is, and how its raw values map to the stored unit.

    ``stored = raw * scale + offset``; for card ``s2`` the stored unit is reflectance x 10000.
    ``nodata`` holds raw values that are no observation (NaN always is one). ``offset_source`` says
    where scale and offset came from: ``product_xml``, ``collection_rule``, ``raster_bands``,
    ``declared`` (the folder's description) or ``none``.
    """

    href: str
    index: int = 1
    scale: float = 1.0
    offset: float = 0.0
    nodata: tuple[float, ...] = ()
    offset_source: str = "none"

    def as_json(self) -> dict[str, Any]:
        """Return the form kept in ``scene.assets``."""
        return {**asdict(self), "nodata": list(self.nodata)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> BandAsset:
        """Read the form kept in ``scene.assets``."""
        return cls(**{**document, "nodata": tuple(document["nodata"])})


@dataclass(frozen=True)
class Extent:
    """The rectangle that the scene's raster covers, in its own CRS (not the imaged footprint).

    ``crs`` is an authority code such as ``EPSG:32632``; ``bounds`` is (left, bottom, right, top).
    """

    crs: str
    bounds: tuple[float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """One acquisition product of a card.

    ``part`` tells chips of the same product apart (empty for whole tiles). Times are UTC and
    timezone-aware. ``footprint`` is WKB of a (Multi)Polygon in EPSG:4326, cut at the antimeridian.
    ``datastrip`` is the datastrip's sensing start, None where unknown. ``baseline`` is written as
    ESA writes it in product names (``N0400``). ``assets`` maps band names (``B04``, ``SCL``).
    ``incidence_angle`` is the scene's mean in degrees. Of coherence, ``obstime`` is when the later
    image was taken, ``reference_time`` when the earlier was, ``perpendicular_baseline`` the
    distance between the two orbits in metres across the line of sight.
    """

    reference: str
    card: str
    platform: str
    obstime: datetime
    datatake_start: datetime
    tile: str
    extent: Extent
    footprint: bytes
    assets: dict[str, BandAsset] = field(default_factory=dict)
    part: str = ""
    datastrip: datetime | None = None
    orbit_direction: str | None = None
    relative_orbit: int | None = None
    absolute_orbit: int | None = None
    incidence_angle: float | None = None
    baseline: str | None = None
    generation_time: datetime | None = None
    cloud_percent: float | None = None
    reference_time: datetime | None = None
    perpendicular_baseline: float | None = None
    source: str = ""

    @property
    def temporal_baseline_days(self) -> int | None:
        """Whole days between the two images of a coherence pair, None of a single image."""
        if self.reference_time is None:
            return None
        return round((self.obstime - self.reference_time) / timedelta(days=1))
