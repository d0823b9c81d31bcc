"""The files that were read against what lies there now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cbm_core.db import Connection, transaction
from cbm_core.errors import CbmError
from cbm_extract.read.fingerprint import fingerprint
from cbm_extract.store import evidence, work
from cbm_extract.store.evidence import Slot
from cbm_extract.verify.findings import Finding

_VALUES = ("index", "scale", "offset", "nodata")
_VERSION = ("size", "mtime_ns", "etag")


def check(
    connection: Connection, dataset_id: int, slots: Sequence[Slot], advance: Callable[[], None]
) -> list[Finding]:
    """Ask for the version of each file that the stored rows were read from.

    A file that moved is compared by its size alone. All findings are warnings: the stored rows are
    those of the files as they were.
    """
    found = []
    for scene_id in dict.fromkeys(slot.scene_id for slot in slots):
        mine = [slot for slot in slots if slot.scene_id == scene_id]
        with transaction(connection) as cursor:
            scene = work.scene(cursor, scene_id)
            runs = evidence.live_runs(cursor, dataset_id, [scene_id])
        now = {band: asset.as_json() for band, asset in scene.assets.items()}
        versions: dict[str, dict[str, Any] | CbmError] = {}
        for slot in mine:
            told: set[tuple[str, str]] = set()
            for run in runs.get(slot.key, ()):
                for band, then in run.assets.items():
                    kind, text = _compare(band, then, now.get(band), versions)
                    if kind and (kind, band) not in told:
                        told.add((kind, band))
                        details = {"run": run.id, "band": band}
                        found.append(Finding(kind, slot.scene, slot.product, text, details))
        advance()
    return found


def _compare(
    band: str,
    then: dict[str, Any],
    now: dict[str, Any] | None,
    versions: dict[str, dict[str, Any] | CbmError],
) -> tuple[str, str]:
    """Return the kind and text of a finding, both empty without one."""
    if now is None:
        return "asset_redefined", f"the catalogue has no {band} any more"
    changed = [name for name in _VALUES if then.get(name) != now.get(name)]
    if changed:
        words = ", ".join(f"{name} {then.get(name)} -> {now.get(name)}" for name in changed)
        return "asset_redefined", f"the catalogue says otherwise of {band} now: {words}"
    href = str(now["href"])
    if href not in versions:
        try:
            versions[href] = fingerprint(href).as_json()
        except CbmError as error:
            versions[href] = error
    version = versions[href]
    if isinstance(version, CbmError):
        kind = "asset_missing" if version.code == "raster_missing" else "asset_unreachable"
        return kind, f"{band}: {version.message}"
    compared = _VERSION if href == then.get("href") else ("size",)
    differing = [
        name
        for name in compared
        if name in then and name in version and then[name] != version[name]
    ]
    if differing:
        words = ", ".join(f"{name} {then[name]} -> {version[name]}" for name in differing)
        return "asset_changed", f"the file of {band} is another one now: {words}"
    return "", ""
