"""A product: an immutable definition of what is extracted from the scenes of one card."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cbm_extract.reduce.indices import INDICES

S2_BANDS = (
    "B01",
    "B02",
    "B03",
    "B04",
    "B05",
    "B06",
    "B07",
    "B08",
    "B8A",
    "B09",
    "B11",
    "B12",
)
# Sentinel-2 surface reflectance; Sentinel-1 backscatter, 6-day and 12-day coherence.
CARD_BANDS: dict[str, tuple[str, ...]] = {
    "s2": S2_BANDS,
    "bs": ("VV", "VH"),
    "c6": ("VV", "VH"),
    "c12": ("VV", "VH"),
}
CLASS_BANDS = {"s2": "SCL"}


class Product(BaseModel):
    """What is extracted; a changed definition is another product.

    Lists are stored as given: the order of ``variables`` is that of the stored statistics. A
    parcel of whose imaged pixels (class not 0) less than ``min_clear_share`` (0 to 1) are clear of
    the mask counts as clouded altogether.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    card: str
    bands: tuple[str, ...] = ()
    indices: tuple[str, ...] = ()
    mask_classes: tuple[int, ...] = ()
    mask_dilation_m: float = Field(default=0.0, ge=0, le=5000)
    min_clear_share: float = Field(default=0.0, ge=0, le=1)
    buffer_m: float = Field(default=0.0, ge=0, le=1000)
    tiles: Literal["home", "all"] = "home"
    class_band: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_class_band(cls, document: Any) -> Any:
        """Fill in the card's class band, so that the definition says what is counted."""
        if isinstance(document, dict) and "class_band" not in document:
            return {**document, "class_band": CLASS_BANDS.get(str(document.get("card")))}
        return document

    @model_validator(mode="after")
    def _check(self) -> Product:
        problems = [*self._band_problems(), *self._mask_problems()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _band_problems(self) -> list[str]:
        known = CARD_BANDS.get(self.card)
        if known is None:
            return [f"unknown card {self.card!r} (known: {', '.join(CARD_BANDS)})"]
        usable = [index.name for index in INDICES.values() if index.card == self.card]
        problems = [
            f"unknown band {band!r} for card {self.card} (known: {', '.join(known)})"
            for band in self.bands
            if band not in known
        ]
        problems += [
            f"unknown index {name!r} for card {self.card} (known: {', '.join(usable) or 'none'})"
            for name in self.indices
            if name not in usable
        ]
        variables = self.variables
        repeated = sorted({one for one in variables if variables.count(one) > 1})
        if repeated:
            problems.append(f"{', '.join(repeated)} named more than once")
        if not variables:
            problems.append("neither bands nor indices are named")
        return problems

    def _mask_problems(self) -> list[str]:
        problems = []
        wrong = [str(one) for one in self.mask_classes if not 0 <= one <= 11]
        if wrong:
            problems.append(f"mask class {', '.join(wrong)} is not one of 0 to 11")
        if len(set(self.mask_classes)) < len(self.mask_classes):
            problems.append("a mask class is named more than once")
        if self.mask_classes and self.class_band is None:
            problems.append(f"card {self.card} has no class band to mask with")
        if self.class_band not in (None, CLASS_BANDS.get(self.card)):
            problems.append(f"unknown class band {self.class_band!r} for card {self.card}")
        problems += [
            f"{name} is given without mask_classes"
            for name in ("mask_dilation_m", "min_clear_share")
            if getattr(self, name) and not self.mask_classes
        ]
        return problems

    @property
    def variables(self) -> tuple[str, ...]:
        """What is stored of each geometry: bands, then indices."""
        return self.bands + self.indices

    @property
    def reads(self) -> tuple[str, ...]:
        """The bands that are read: the product's and its indices', without the class band."""
        of_indices = (band for name in self.indices for band in INDICES[name].bands)
        return tuple(dict.fromkeys([*self.bands, *of_indices]))

    @property
    def definition(self) -> dict[str, Any]:
        """Everything but the name, as JSON types; mask classes in order.

        Without a ``min_clear_share`` it is what it was before there was one, and so is the hash.
        """
        absent = set() if self.min_clear_share else {"min_clear_share"}
        document = self.model_dump(mode="json", exclude={"name", *absent})
        return {**document, "mask_classes": sorted(self.mask_classes)}

    @property
    def canonical_json(self) -> str:
        """The one spelling of the definition: sorted keys, no spaces."""
        return json.dumps(self.definition, sort_keys=True, separators=(",", ":"))

    @property
    def hash(self) -> bytes:
        """The sha256 of ``canonical_json``."""
        return hashlib.sha256(self.canonical_json.encode()).digest()

    @classmethod
    def from_definition(cls, name: str, definition: dict[str, Any]) -> Product:
        """Read back a registered definition."""
        return cls(name=name, **definition)
