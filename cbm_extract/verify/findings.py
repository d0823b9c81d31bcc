"""What a verification found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

# Of these the stored statistics are none the worse: the world has moved on.
WARNINGS = frozenset(
    "asset_changed asset_redefined asset_missing asset_unreachable plan_missing"
    " recompute_impossible".split()
)

_LISTED = 20


@dataclass(frozen=True)
class Finding:
    """One thing that is not as the evidence says; ``kind`` is for programs, ``text`` for people."""

    kind: str
    scene: str
    product: str
    text: str
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def warning(self) -> bool:
        """Whether the stored rows may be right all the same."""
        return self.kind in WARNINGS

    def as_json(self) -> dict[str, Any]:
        """Return the form that verbs print."""
        return {**vars(self), "warning": self.warning}


def lines(findings: list[Finding]) -> list[str]:
    """Describe findings for people: how many of each kind, and the first twenty."""
    counts = Counter(one.kind for one in findings)
    shown = [f"{number} x {kind}" for kind, number in sorted(counts.items())]
    listed = sorted(findings, key=lambda one: one.warning)[:_LISTED]
    shown += [
        f"{'warning' if one.warning else 'differs'}: {one.scene} ({one.product}): {one.text}"
        for one in listed
    ]
    if len(findings) > _LISTED:
        shown.append(f"... and {len(findings) - _LISTED} more")
    return shown
