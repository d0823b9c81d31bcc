"""Reads the repository's Ansible files for the tests."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from cbm_bridge import CONNECTION_OPTIONS, changing_spec

REPO = Path(__file__).parents[3]
ROLES = sorted(path for path in (REPO / "roles").iterdir() if path.is_dir())
PLAYBOOKS = sorted((REPO / "playbooks").glob("*.yml"))
TASK_FILES = sorted([*REPO.glob("roles/*/*/*.yml"), *REPO.glob("playbooks/**/*.yml")])
SCENARIO_FILES = sorted(
    [
        path
        for pattern in ("roles/*/molecule/*/*.yml", "roles/*/molecule/*/tasks/*.yml")
        for path in REPO.glob(pattern)
        if path.name != "molecule.yml"
    ]
    + list(REPO.glob("tests/hosts/**/*.yml"))
)
MODULES = sorted(path.stem for path in (REPO / "library").glob("*.py"))

_NESTED = ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers")


@cache
def load(path: Path) -> Any:
    """A file's content; read once, as many tests ask for all files."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def tasks(entries: Any) -> Iterator[dict[str, Any]]:
    """Every task of a list of plays, blocks and tasks."""
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        inner = [entry[key] for key in _NESTED if key in entry]
        if not inner:
            yield entry
        for part in inner:
            yield from tasks(part)


def all_tasks(files: Iterable[Path] = TASK_FILES) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in files:
        for task in tasks(load(path)):
            yield path, task


def module_spec(name: str) -> tuple[dict[str, Any], dict[str, set[str]], dict[str, str]]:
    """The argument spec, the options per state, and the verb per state."""
    module = importlib.import_module(name)
    if hasattr(module, "VERBS"):
        spec, known = changing_spec(module.VERBS, module.OPTIONS)
        return spec, known, module.VERBS
    spec = {**CONNECTION_OPTIONS, **module.OPTIONS}
    return spec, {"read": set(module.OPTIONS)}, {"read": module.VERB}
