"""What an import found in a source, as text for people and JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

LISTED = 20


@dataclass
class Listed:
    """A count, and the first ids it counts."""

    count: int = 0
    ids: list[str] = field(default_factory=list)

    def add(self, ids: Iterable[str]) -> None:
        """Count ids."""
        for pid in ids:
            self.count += 1
            if len(self.ids) < LISTED:
                self.ids.append(pid)


@dataclass
class Repaired(Listed):
    """Repaired geometries: areas in square metres, and those that changed most."""

    area_before_m2: float = 0.0
    area_after_m2: float = 0.0
    largest_changes: list[dict[str, Any]] = field(default_factory=list)

    def add_areas(self, ids: list[str], before: list[float], after: list[float]) -> None:
        """Count repaired geometries with their areas."""
        self.add(ids)
        self.area_before_m2 += sum(before)
        self.area_after_m2 += sum(after)
        self.largest_changes += [
            {"id": pid, "before_m2": round(b, 3), "after_m2": round(a, 3)}
            for pid, b, a in zip(ids, before, after, strict=True)
        ]
        self.largest_changes.sort(key=lambda c: -abs(c["before_m2"] - c["after_m2"]))
        del self.largest_changes[LISTED:]


@dataclass
class Report:
    """Counts are of features; lists hold the first :data:`LISTED` ids.

    ``parcels`` are the features that were or would be imported: ``features`` less those
    ``left_out`` and, with ``duplicates: first``, less the surplus ones of an id. Areas are in
    EPSG:3035 without datum shift. ``extent`` is west, south, east, north in degrees (EPSG:4326) of
    the parcels as they are stored; west > east crosses the antimeridian.
    """

    source: dict[str, Any]
    columns: dict[str, Any]
    features: int = 0
    parcels: int = 0
    left_out: dict[str, Listed] = field(default_factory=dict)
    repaired: Repaired = field(default_factory=Repaired)
    flattened_3d: Listed = field(default_factory=Listed)
    polygons_out_of_collections: Listed = field(default_factory=Listed)
    curves_linearised: Listed = field(default_factory=Listed)
    duplicate_ids: dict[str, Any] = field(default_factory=dict)
    duplicate_geometries: Listed = field(default_factory=Listed)
    overlaps: dict[str, Any] = field(default_factory=dict)
    outside: dict[str, Any] | None = None
    extent: list[float] = field(default_factory=list)
    transformation: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable form."""
        return asdict(self)

    def text(self) -> str:
        """Return lines for people; what did not occur is not mentioned."""
        return "\n".join([*self._about_source(), *self._about_geometries(), *self._about_all()])

    def _about_source(self) -> list[str]:
        source, columns = self.source, self.columns
        inside = "".join(f" / {source[part]}" for part in ("member", "layer") if source[part])
        encoding = f", text {source['encoding']}" if source["encoding"] else ""
        mapped = [f"id {columns['id']}"]
        mapped += [
            f"{name} {columns[name]}" for name in ("crop_code", "crop_name") if columns[name]
        ]
        return [
            f"{source['file']}{inside}: {source['format']}, {source['crs']} "
            f"({source['crs_origin']}){encoding}",
            f"features: {self.features}, parcels: {self.parcels}",
            f"columns: {', '.join(mapped)}; kept: {', '.join(columns['kept']) or 'none'}; "
            f"dropped: {', '.join(columns['dropped']) or 'none'}",
        ]

    def _about_geometries(self) -> list[str]:
        lines = [
            _line(f"left out, {name.replace('_', ' ')}", v) for name, v in self.left_out.items()
        ]
        if self.repaired.count:
            lines.append(
                f"{_line('repaired (make_valid)', self.repaired)}; "
                f"{self.repaired.area_before_m2:.1f} m2 before, "
                f"{self.repaired.area_after_m2:.1f} m2 after"
            )
        for label, listed in (
            ("flattened to 2D", self.flattened_3d),
            ("polygons taken out of collections", self.polygons_out_of_collections),
            ("curves replaced by chords", self.curves_linearised),
            ("geometries that stand more than once", self.duplicate_geometries),
        ):
            lines += [_line(label, listed)] if listed.count else []
        return lines

    def _about_all(self) -> list[str]:
        lines = []
        duplicates, overlaps = self.duplicate_ids, self.overlaps
        if duplicates["ids"]:
            lines.append(
                f"ids that stand more than once: {duplicates['ids']} "
                f"({duplicates['rows']} surplus rows, duplicates: {duplicates['handling']}): "
                f"{', '.join(duplicates['listed'])}"
            )
        if overlaps["pairs"]:
            lines.append(
                f"overlaps above {overlaps['threshold_m2']:g} m2: {overlaps['pairs']} pairs, "
                f"{overlaps['area_m2']:.1f} m2; largest: "
                + ", ".join(
                    f"{o['a']} and {o['b']} ({o['m2']:g} m2)" for o in overlaps["largest"][:5]
                )
            )
        if self.outside and self.outside["count"]:
            listing = ", ".join(self.outside["ids"])
            lines.append(
                f"outside of {self.outside['bounds']}: {self.outside['count']} ({listing})"
            )
        west, south, east, north = self.extent
        lines.append(f"extent: {west:.5f}, {south:.5f}, {east:.5f}, {north:.5f} (degrees)")
        accuracy = self.transformation["accuracy_m"]
        lines.append(
            f"transformation: {self.transformation['description']}, accuracy "
            f"{'unknown' if accuracy is None else f'{accuracy:g} m'}"
        )
        if self.transformation["better"]:
            lines.append(
                f"a better transformation is not installed: {self.transformation['better']}"
            )
        return lines + [f"warning: {warning}" for warning in self.warnings]


def _line(label: str, listed: Listed) -> str:
    more = " ..." if listed.count > len(listed.ids) else ""
    return f"{label}: {listed.count} ({', '.join(listed.ids)}{more})"
