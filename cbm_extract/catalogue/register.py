"""What has to change in the catalogue for new scenes to stand in it. Pure: the store does it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from cbm_extract.catalogue import identity
from cbm_extract.catalogue.identity import Acquisition
from cbm_extract.scene import Scene

ACTIVE, SUPERSEDED, HELD, RETRACTED = "active", "superseded", "held", "retracted"
# Scenes that a person or a check has set aside take no part: they neither supersede nor change.
# A held one whose files or offsets are described anew is on trial again.
_COMPETING = {ACTIVE, SUPERSEDED}
# What names a scene, and where it was found; the latter alone is no change.
_NOT_COMPARED = {"reference", "card", "part", "source", "obstime"}


class Key(NamedTuple):
    """What names a scene in the catalogue."""

    card: str
    reference: str
    part: str

    def __str__(self) -> str:
        """Return the name as people read it."""
        return f"{self.card} {self.reference}" + (f" part {self.part}" if self.part else "")


def key_of(scene: Scene) -> Key:
    """Return what names a scene."""
    return Key(scene.card, scene.reference, scene.part)


@dataclass(frozen=True)
class Known:
    """A catalogued scene; ``superseded_by`` is the id of another one."""

    id: int
    scene: Scene
    state: str = ACTIVE
    superseded_by: int | None = None


@dataclass(frozen=True)
class Update:
    """A catalogued scene that its source now describes otherwise, in ``changed`` fields."""

    id: int
    before: Scene
    after: Scene
    changed: tuple[str, ...]


@dataclass(frozen=True)
class Standing:
    """Whether a scene is in use: ``superseded_by`` names the scene that took its place."""

    state: str = ACTIVE
    superseded_by: Key | None = None

    def __str__(self) -> str:
        """Return the state as people read it."""
        by = self.superseded_by
        return f"{self.state} by {by.reference}" if by else self.state


@dataclass(frozen=True)
class StateChange:
    """A scene whose standing changes; ``before`` is None for a scene that is being added."""

    key: Key
    before: Standing | None
    after: Standing


@dataclass
class RegisterPlan:
    """Everything that :func:`cbm_extract.store.scenes.apply` will do."""

    inserts: list[Scene] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    states: list[StateChange] = field(default_factory=list)
    ids: dict[Key, int] = field(default_factory=dict)
    unchanged: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def revalued(self) -> list[Update]:
        """The updates after which the same files say other numbers, or bands come or go."""
        return [
            update for update in self.updates if _values(update.before) != _values(update.after)
        ]

    @property
    def changes(self) -> bool:
        """Tell whether anything is to be done."""
        return bool(self.inserts or self.updates or self.states)

    @property
    def lines(self) -> list[str]:
        """The changes in words."""
        lines = [f"add {key_of(scene)}" for scene in self.inserts]
        lines += [f"change {key_of(u.after)}: {', '.join(u.changed)}" for u in self.updates]
        for change in self.states:
            by = change.after.superseded_by
            lines.append(
                f"supersede {change.key} by {by.reference}" if by else f"use {change.key} again"
            )
        return lines

    def describe(self, *, after: bool) -> str:
        """Return the scenes concerned as they stand before or after, a line each."""
        rows: dict[Key, list[str]] = {}
        for scene in self.inserts if after else ():
            rows[key_of(scene)] = [ACTIVE]
        for change in self.states:
            standing = change.after if after else change.before
            if standing:
                rows[change.key] = [str(standing)]
        for update in self.updates:
            scene = update.after if after else update.before
            row = rows.setdefault(key_of(scene), [])
            row += [f"{name}={_shown(getattr(scene, name))}" for name in update.changed]
        return "".join(f"{key}: {', '.join(rows[key])}\n" for key in sorted(rows))


def _values(scene: Scene) -> dict[str, tuple[Any, ...]]:
    """Return what of the assets decides about numbers, wherever the files lie."""
    return {
        band: (asset.index, asset.scale, asset.offset, asset.nodata)
        for band, asset in scene.assets.items()
    }


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {v.as_json()}" for k, v in sorted(value.items())) + "}"
    return str(value)


def plan(known: Iterable[Known], scenes: Sequence[Scene]) -> RegisterPlan:
    """Compare new scenes with the catalogued ones and decide which are in use.

    ``known`` holds at least the scenes of the same names and of the same acquisitions. A scene
    that is catalogued keeps its id and its ``obstime`` (stored rows carry it); whatever else its
    source says otherwise is an update.
    """
    result = RegisterPlan()
    catalogued = {key_of(entry.scene): entry for entry in known}
    result.ids = {key: entry.id for key, entry in catalogued.items()}
    standing = {key: entry.scene for key, entry in catalogued.items()}
    kept_times = 0
    for scene in _distinct(scenes, result):
        key = key_of(scene)
        entry = catalogued.get(key)
        if entry is None:
            result.inserts.append(scene)
            standing[key] = scene
            continue
        kept_times += scene.obstime != entry.scene.obstime
        changed = _changed(entry.scene, scene)
        if changed:
            updated = replace(scene, obstime=entry.scene.obstime)
            result.updates.append(Update(entry.id, entry.scene, updated, changed))
            standing[key] = updated
        else:
            result.unchanged += 1
    if kept_times:
        result.warnings.append(f"{kept_times} scenes keep the observation time they have")
    _decide(result, catalogued, standing)
    return result


def _distinct(scenes: Sequence[Scene], result: RegisterPlan) -> list[Scene]:
    """Return each named scene once: the first, as sources are read in a fixed order."""
    found: dict[Key, Scene] = {}
    repeated = 0
    for scene in scenes:
        repeated += found.setdefault(key_of(scene), scene) != scene
    if repeated:
        result.warnings.append(f"{repeated} scenes are there more than once; the first was taken")
    return list(found.values())


def _changed(before: Scene, after: Scene) -> tuple[str, ...]:
    return tuple(
        sorted(
            item.name
            for item in fields(Scene)
            if item.name not in _NOT_COMPARED
            and _comparable(getattr(before, item.name)) != _comparable(getattr(after, item.name))
        )
    )


def _comparable(value: Any) -> Any:
    """Round floats as the catalogue's single-precision column does."""
    return struct.pack("f", value) if isinstance(value, float) else value


def _decide(result: RegisterPlan, catalogued: dict[Key, Known], standing: dict[Key, Scene]) -> None:
    """Fill in the changes of standing, acquisition by acquisition."""
    names = {entry.id: key for key, entry in catalogued.items()}
    corrected = {update.id for update in result.updates if "assets" in update.changed}
    groups: dict[Acquisition, list[Key]] = {}
    for key, scene in standing.items():
        entry = catalogued.get(key)
        if (
            entry is None
            or entry.state in _COMPETING
            or (entry.state == HELD and entry.id in corrected)
        ):
            groups.setdefault(identity.acquisition(scene), []).append(key)
    several = []
    for acquisition, keys in sorted(groups.items()):
        winners = _winners([standing[key] for key in keys])
        for key in sorted(keys):
            winner = winners[key.reference]
            by = winner and Key(acquisition.card, winner, acquisition.part)
            after = Standing(SUPERSEDED, by) if by else Standing()
            entry = catalogued.get(key)
            before = None
            if entry:
                earlier = entry.superseded_by
                before = Standing(entry.state, None if earlier is None else names.get(earlier))
            if after != (before or Standing()):
                result.states.append(StateChange(key, before, after))
        if sum(winner is None for winner in winners.values()) > 1:
            several.append(keys[0])
    if several:
        result.warnings.append(
            f"{len(several)} acquisitions keep several products in use, of different or unknown"
            f" datastrips, such as {several[0]}"
        )


def _winners(scenes: list[Scene]) -> dict[str, str | None]:
    if len(scenes) == 1:
        return {scenes[0].reference: None}
    return identity.resolve(identity.candidate(scene) for scene in scenes)
