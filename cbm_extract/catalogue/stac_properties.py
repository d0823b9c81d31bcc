"""What the properties and names of a STAC item say, under whichever spelling."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cbm_core.errors import CbmError
from cbm_extract.catalogue import names, offsets, sentinel2
from cbm_extract.catalogue.documents import Item

_PREFIXES = ("s2:", "sentinel2:", "sentinel:", "eopf:", "")
# The level at the end of L2A, S2MSI1C, or before the suffix of S2MSI_L3__MCQ.
_LEVEL = re.compile(r"([1-3][A-C]?)(?:_|$)")
UNKNOWN_PLATFORM = "unknown"


@dataclass(frozen=True)
class Properties:
    """What an item's properties and names say, under whichever spelling."""

    item: Item

    @property
    def values(self) -> dict[str, Any]:
        """The item's properties."""
        properties = self.item.document.get("properties")
        if not isinstance(properties, dict):
            raise self.invalid("it has no properties")
        return properties

    def invalid(self, why: str) -> CbmError:
        """Return the error for an item that cannot be used."""
        return CbmError(
            "item_invalid",
            f"The item {self.item.document.get('id')} in {self.item.base} is not usable: {why}.",
            "Correct the item.",
        )

    def find(self, name: str) -> Any:
        """Return a property under any of the prefixes in use, None without it."""
        found = (self.values.get(f"{prefix}{name}") for prefix in _PREFIXES)
        return next((value for value in found if value is not None), None)

    def time(self, *keys: str) -> datetime | None:
        """Return the first time there is under some names."""
        for key in keys:
            if self.values.get(key):
                return names.utc(str(self.values[key]), naive_is_utc=False)
        return None

    @property
    def product(self) -> sentinel2.ProductName | None:
        """The ESA product's name, from the properties or as the item's id."""
        said = [self.find("product_uri"), self.find("product_id"), self.item.document.get("id")]
        found = (sentinel2.parse_name(str(text)) for text in said if text)
        return next((name for name in found if name), None)

    def check_level(self) -> None:
        """Refuse items that say they are of another level than L2A."""
        said = [
            self.product.level if self.product else "",
            str(self.values.get("processing:level") or "").removeprefix("Level-"),
            str(self.find("product_type") or self.values.get("product:type") or ""),
        ]
        for text in said:
            level = _LEVEL.search(text)
            if level and level[1] not in {"2A", "2"}:
                raise CbmError(
                    "item_unsupported",
                    f"{self.item.document.get('id')} is of level {text}; expected L2A.",
                    "Leave it out, or take the L2A collection.",
                )

    @property
    def reference(self) -> str:
        """The product's full name where the item tells it, the item's id otherwise."""
        for text in (self.find("product_uri"), self.find("product_id")):
            name = sentinel2.parse_name(str(text or ""))
            if name and name.baseline:
                return sentinel2.reference(str(text))
        identifier = self.item.document.get("id")
        if not identifier:
            raise self.invalid("it has no id")
        return sentinel2.reference(str(identifier))

    @property
    def platform(self) -> str:
        """The platform, ``unknown`` where nothing says."""
        said = self.values.get("platform") or (self.product and self.product.platform)
        return names.platform(str(said or self.values.get("constellation") or UNKNOWN_PLATFORM))

    @property
    def datatake_start(self) -> datetime | None:
        """When the datatake began."""
        said = sentinel2.datatake_start(str(self.find("datatake_id") or ""))
        return said or (self.product.datatake_start if self.product else None)

    @property
    def tile(self) -> str:
        """The MGRS tile, empty where nothing says."""
        said = self.values.get("grid:code") or self.find("mgrs_tile")
        if said:
            return names.tile(str(said))
        for prefix in ("mgrs:", "sentinel:"):
            parts = [
                self.values.get(f"{prefix}{name}")
                for name in ("utm_zone", "latitude_band", "grid_square")
            ]
            if all(parts):
                return names.tile("".join(str(part) for part in parts))
        return self.product.tile if self.product else ""

    @property
    def baseline(self) -> str | None:
        """The processing baseline, ``N0400``."""
        said = offsets.baseline_of(self.values) or self.find("processing_baseline")
        if said:
            return names.baseline(str(said))
        return self.product.baseline if self.product else None

    @property
    def generation_time(self) -> datetime | None:
        """When the product was made."""
        said = self.find("generation_time") or self.values.get("processing:datetime")
        if said:
            return names.utc(str(said), naive_is_utc=False)
        return self.product.time if self.product else None

    @property
    def relative_orbit(self) -> int | None:
        """The relative orbit."""
        said = self.values.get("sat:relative_orbit")
        if said is not None:
            return names.relative_orbit(str(said))
        return self.product.relative_orbit if self.product else None

    @property
    def orbit_direction(self) -> str | None:
        """``ascending`` or ``descending``."""
        said = self.values.get("sat:orbit_state")
        return names.orbit_direction(str(said)) if said else None

    @property
    def cloud_percent(self) -> float | None:
        """The cloud cover from 0 to 100."""
        said = self.values.get("eo:cloud_cover")
        if said is None:
            return None
        try:
            return float(said)
        except (TypeError, ValueError):
            raise self.invalid(f"eo:cloud_cover is {said!r}") from None
