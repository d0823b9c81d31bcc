"""Folders of rasters whose names say what they show, as a description explains them."""

from __future__ import annotations

from pathlib import Path

from cbm_core.errors import CbmError
from cbm_core.progress import step
from cbm_extract.catalogue import table
from cbm_extract.catalogue.description import GROUPS, Description
from cbm_extract.catalogue.file_scene import SceneFiles, scene_of
from cbm_extract.catalogue.reading import Reading

SHOWN = 5  # names shown in a warning about many

Key = tuple[str, str]  # reference, part
_NOT_IN_TABLES = {"reference", "part", "band"}


def read(folder: Path, description: Description) -> Reading:
    """Read a described folder; files that cannot be used leave their scene out, reported.

    Raises:
        CbmError: ``source_missing``, ``no_files``, ``no_match``, ``scene_ambiguous``,
            ``table_missing``, ``table_invalid``, and ``no_scenes`` or the only scene's own error
            where nothing is left.

    """
    if not folder.is_dir():
        raise CbmError("source_missing", f"{folder} is no folder.", "Correct the path.")
    reading = Reading()
    rows: dict[str, dict[str, str]] = {}
    if description.table:
        rows = table.read(folder / description.table, set(GROUPS) - _NOT_IN_TABLES)
    groups = _group(folder, description, reading)
    total = sum(len(files.paths) for files in groups.values())
    with step("Reading rasters", total, "files") as progress:
        for key in sorted(groups):
            files = groups[key]
            try:
                said = {**rows.get(key[0], {}), **files.facts}
                scene = scene_of(SceneFiles(said, files.paths), description, folder)
                reading.scenes.append(scene)
            except CbmError as error:
                reading.skip(" ".join(part for part in key if part), error)
            progress.advance(len(files.paths))
    return reading.fail_if_empty(str(folder))


def _group(folder: Path, description: Description, reading: Reading) -> dict[Key, SceneFiles]:
    """Sort the folder's files by scene."""
    paths = sorted(path for path in folder.glob(description.files) if path.is_file())
    if not paths:
        raise CbmError(
            "no_files",
            f"No file in {folder} is like {description.files!r}.",
            "Correct `files` in the description; ** stands for any number of folders.",
        )
    groups: dict[Key, SceneFiles] = {}
    strangers: list[str] = []
    undescribed: set[str] = set()
    for path in paths:
        name = path.relative_to(folder).as_posix()
        match = description.regex.fullmatch(name)
        if not match:
            strangers.append(name)
            continue
        facts = {k: v for k, v in match.groupdict().items() if v is not None}
        facts = {**description.constants, **facts}
        band: str | None = ""
        if description.file_per_band:
            token = facts.pop("band", "")
            band = description.band_of(token)
            if band is None:
                undescribed.add(token)
                continue
        _put(groups, facts, str(band), path)
    if not groups:
        raise CbmError(
            "no_match",
            f"None of {len(paths)} files in {folder} matches the pattern"
            + (f" and a described band; the first is {(strangers or [paths[0].name])[0]}."),
            "The pattern must match the whole path relative to the folder, with /.",
        )
    if strangers:
        reading.warnings.append(_many(strangers, "files do not match the pattern"))
    if undescribed:
        reading.warnings.append(_many(sorted(undescribed), "bands are not described; left out"))
    return groups


def _put(groups: dict[Key, SceneFiles], facts: dict[str, str], band: str, path: Path) -> None:
    key = (facts.get("reference", ""), facts.get("part", ""))
    files = groups.setdefault(key, SceneFiles(facts))
    name = " part ".join(part for part in key if part)
    if band in files.paths:
        raise CbmError(
            "scene_ambiguous",
            f"{files.paths[band]} and {path} are both scene {name}{band and f', band {band}'}.",
            "Let the groups `reference` and `part` of the pattern tell them apart.",
        )
    if files.facts != facts:
        differing = sorted(k for k in facts if facts[k] != files.facts.get(k))
        raise CbmError(
            "scene_ambiguous",
            f"The files of scene {name} contradict each other in {', '.join(differing)}.",
            "Let the groups `reference` and `part` of the pattern tell them apart.",
        )
    files.paths[band] = path


def _many(found: list[str], what: str) -> str:
    shown = ", ".join(found[:SHOWN])
    return f"{len(found)} {what}: {shown}{', ...' if len(found) > SHOWN else ''}"
