"""What comes out of a source of scenes, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass, field

from cbm_core.errors import CbmError
from cbm_extract.scene import Scene


@dataclass(frozen=True)
class Skipped:
    """A product that could not be catalogued; the others were."""

    name: str
    error: CbmError


@dataclass
class Reading:
    """Scenes found, what a person should know about them, and products left out."""

    scenes: list[Scene] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def skip(self, name: str, error: CbmError) -> None:
        """Leave a product out, and say why."""
        self.skipped.append(Skipped(name, error))

    def fail_if_empty(self, source: str) -> Reading:
        """Raise the first product's error where no product at all could be catalogued.

        Raises:
            CbmError: ``no_scenes`` with the reasons in ``details``, or the only product's own.

        """
        if self.scenes or not self.skipped:
            return self
        first = self.skipped[0]
        if len(self.skipped) == 1:
            raise first.error
        raise CbmError(
            "no_scenes",
            f"None of the {len(self.skipped)} products in {source} can be catalogued;"
            f" {first.name}: {first.error.message}",
            first.error.hint,
            skipped=[{"name": s.name, **s.error.as_json()} for s in self.skipped],
        )
