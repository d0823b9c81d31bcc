"""Folders of rasters whose names say what they show, as a description explains them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cbm_core.errors import CbmError
from cbm_core.progress import Step, step
from cbm_extract.catalogue import footprint, names
from cbm_extract.catalogue.description import Description
from cbm_extract.catalogue.reading import Reading
from cbm_extract.read.header import RasterHeader, inspect
from cbm_extract.read.strips import check_index
from cbm_extract.scene import BandAsset, Scene

SHOWN = 5  # names shown in a warning about many

Key = tuple[str, str]  # reference, part
T = TypeVar("T")


@dataclass
class _Files:
    """The files of one scene: what their names say, and which band (``""`` for all) is where."""

    facts: dict[str, str]
    paths: dict[str, Path] = field(default_factory=dict)


def read(folder: Path, description: Description) -> Reading:
    """Read a described folder; files that cannot be used leave their scene out, reported.

    Raises:
        CbmError: ``source_missing``, ``no_files``, ``no_match``, ``scene_ambiguous``, and
            ``no_scenes`` or the only scene's own error where nothing is left.

    """
    if not folder.is_dir():
        raise CbmError("source_missing", f"{folder} is no folder.", "Correct the path.")
    reading = Reading()
    groups = _group(folder, description, reading)
    total = sum(len(files.paths) for files in groups.values())
    with step("Reading rasters", total, "files") as progress:
        for key in sorted(groups):
            try:
                scene = _scene(groups[key], description, folder, progress)
                reading.scenes.append(scene)
            except CbmError as error:
                reading.skip(" ".join(part for part in key if part), error)
    return reading.fail_if_empty(str(folder))


def _group(folder: Path, description: Description, reading: Reading) -> dict[Key, _Files]:
    """Sort the folder's files by scene."""
    paths = sorted(path for path in folder.glob(description.files) if path.is_file())
    if not paths:
        raise CbmError(
            "no_files",
            f"No file in {folder} is like {description.files!r}.",
            "Correct `files` in the description; ** stands for any number of folders.",
        )
    groups: dict[Key, _Files] = {}
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


def _put(groups: dict[Key, _Files], facts: dict[str, str], band: str, path: Path) -> None:
    key = (facts.get("reference", ""), facts.get("part", ""))
    files = groups.setdefault(key, _Files(facts))
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


def _scene(files: _Files, description: Description, folder: Path, progress: Step) -> Scene:
    facts = files.facts
    headers = {}
    for band, path in files.paths.items():
        headers[band] = inspect(str(path.absolute()))
        progress.advance()
    finest = min(headers.values(), key=lambda header: header.pixel_size)
    crs = sorted({header.crs for header in headers.values()})
    if len(crs) > 1:
        raise CbmError(
            "scene_mixed_crs",
            f"The bands of one scene are in different reference systems: {', '.join(crs)}.",
            "Catalogue them as scenes of their own.",
        )
    taken = _time(facts, description, "datatake") or _time(facts, description, "sensing")
    if taken is None:
        raise CbmError("time_invalid", "The name gives no time of acquisition.")
    start = names.whole_second(taken)
    datastrip = _time(facts, description, "datastrip")
    return Scene(
        reference=facts["reference"],
        card=description.card,
        platform=names.platform(facts["platform"]),
        obstime=_time(facts, description, "sensing") or taken,
        datatake_start=start,
        tile=names.tile(facts.get("tile", "")),
        extent=finest.extent,
        footprint=footprint.from_extent(finest.extent),
        assets=_assets(headers, description),
        part=facts.get("part", ""),
        datastrip=start if description.single_datastrip else datastrip,
        orbit_direction=_convert(facts, "orbit_direction", names.orbit_direction),
        relative_orbit=_convert(facts, "orbit", names.relative_orbit),
        baseline=_convert(facts, "baseline", names.baseline),
        generation_time=_time(facts, description, "generated"),
        cloud_percent=_convert(facts, "cloud", _percent),
        source=str(folder.absolute()),
    )


def _assets(headers: dict[str, RasterHeader], description: Description) -> dict[str, BandAsset]:
    assets = {}
    for name, band in description.bands.items():
        header = headers.get(name) if description.file_per_band else headers[""]
        if header is None:
            continue
        check_index(header, band.index)
        said = header.descriptions[band.index - 1]
        if said != name and said in description.bands:
            raise CbmError(
                "band_mismatch",
                f"Band {band.index} of {header.href} is described as {name}, but the file says"
                f" it is {said}.",
                "Correct the indexes in the description.",
            )
        assets[name] = band.asset(header.href)
    return assets


def _time(facts: dict[str, str], description: Description, group: str) -> datetime | None:
    """Return a time from the name; without a zone in its format it is UTC."""
    text = facts.get(group)
    if text is None:
        return None
    form = description.time_format(group)
    try:
        time = datetime.strptime(text, form)  # noqa: DTZ007 the zone is seen to below
    except ValueError:
        raise CbmError(
            "time_invalid", f"{group} {text!r} is not like {form!r}.", "Correct `times`."
        ) from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise CbmError("cloud_invalid", f"Expected a cloud cover from 0 to 100, found {text!r}.")
    return value


def _convert(facts: dict[str, str], group: str, convert: Callable[[str], T]) -> T | None:
    return convert(facts[group]) if group in facts else None
