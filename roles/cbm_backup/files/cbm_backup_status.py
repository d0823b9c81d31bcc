"""The status of backups and their metrics: what `cbm-backup report` writes and monitoring reads."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

BACKUPS = ("full", "diff", "incr")


def ended(
    status: dict[str, Any], kind: str, outcome: str, result: dict[str, Any], now: float
) -> dict[str, Any]:
    """Return the status after a run."""
    good = outcome == "success" and "error" not in result
    before = status.get(kind, {})
    entry: dict[str, Any] = {"ended": int(now), "good": good}
    if good:
        entry |= {"last_success": int(now), "last_result": result}
    else:
        entry |= {key: before[key] for key in ("last_success", "last_result") if key in before}
        entry["error"] = result.get("error") or f"systemd says: {outcome}"
    return {**status, kind: entry}


def metrics(status: dict[str, Any]) -> str:
    """Return the status as Prometheus reads it. Kinds that never succeeded are left out."""
    lines: list[str] = []

    def gauge(name: str, meaning: str, values: dict[str, int]) -> None:
        lines.extend([f"# HELP {name} {meaning}", f"# TYPE {name} gauge"] if values else [])
        lines.extend(f"{name}{label} {value}" for label, value in values.items())

    ran = {kind: status[kind] for kind in BACKUPS if kind in status}
    made = {f'{{kind="{kind}"}}': entry for kind, entry in ran.items() if "last_success" in entry}
    gauge(
        "cbm_backup_last_success_timestamp_seconds",
        "When the last good backup ended.",
        {label: entry["last_success"] for label, entry in made.items()},
    )
    gauge(
        "cbm_backup_size_bytes",
        "What it added to the repository.",
        {label: entry["last_result"]["stored_bytes"] for label, entry in made.items()},
    )
    last = max(ran.values(), key=lambda entry: entry["ended"], default=None)
    gauge(
        "cbm_backup_last_run_success",
        "Whether the last backup was good.",
        {"": int(last["good"])} if last else {},
    )
    for kind, name in (("drill", "cbm_backup_drill"), ("homes", "cbm_backup_homes")):
        entry = status.get(kind, {})
        good = {"": entry["last_success"]} if "last_success" in entry else {}
        gauge(f"{name}_last_success_timestamp_seconds", "When the last good run ended.", good)
        run_success = {"": int(entry["good"])} if entry else {}
        gauge(f"{name}_last_run_success", "Whether the last run was good.", run_success)
    return "\n".join(lines) + "\n"


def differences(noted: dict[str, list[Any]], found: dict[str, list[Any]]) -> list[str]:
    """Say how the tables differ, a line per table."""
    lines = []
    for name in sorted({*noted, *found}):
        was, now = noted.get(name), found.get(name)
        if was != now:
            lines.append(f"{name}: {_said(was)} noted, {_said(now)} restored")
    return lines


def _said(table: list[Any] | None) -> str:
    if table is None:
        return "no table"
    return f"{table[0]} rows" + (f" (checksum {table[1]})" if table[1] else "")


def read(path: Path) -> dict[str, Any]:
    """Read a file of ours; none is empty."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def write(path: Path, value: dict[str, Any], mode: int = 0o640) -> None:
    """Write a file of ours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    publish(path, json.dumps(value, indent=2, sort_keys=True) + "\n", mode)


def publish(path: Path, text: str, mode: int) -> None:
    """Write a file whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(handle, mode)
    Path(name).replace(path)
