"""A scene made of files whose names a description explains."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np

from cbm_core.errors import CbmError
from cbm_extract.catalogue import dimap, footprint, names, sentinel1
from cbm_extract.catalogue.description import Description
from cbm_extract.catalogue.facts import Facts
from cbm_extract.read.header import RasterHeader, inspect
from cbm_extract.read.sample import middle
from cbm_extract.read.strips import check_index
from cbm_extract.scene import BandAsset, Scene

T = TypeVar("T")


@dataclass
class SceneFiles:
    """The files of one scene: what their names say, and which band (``""`` for all) is where."""

    facts: dict[str, str]
    paths: dict[str, Path] = field(default_factory=dict)


def scene_of(files: SceneFiles, description: Description, folder: Path) -> Scene:
    """Return the scene that files make up.

    Raises:
        CbmError: ``scene_mixed_crs``, ``band_mismatch``, ``scene_incomplete``,
            ``not_linear_power``, ``not_coherence``, and those of names, times and rasters.

    """
    headers = {band: inspect(str(path.absolute())) for band, path in files.paths.items()}
    _require_one_crs(headers)
    finest = min(headers.values(), key=lambda header: header.pixel_size)
    facts = _facts(files, description)
    taken = facts.datatake or facts.sensing
    if taken is None or facts.platform is None:
        missing = "time of acquisition" if taken is None else "platform"
        raise CbmError(
            "scene_incomplete",
            f"Nothing tells the {missing} of {files.facts['reference']}.",
            "Give it as a group of the pattern, a constant, or a column of a table.",
        )
    start = names.whole_second(taken)
    return Scene(
        reference=files.facts["reference"],
        card=description.card,
        platform=facts.platform,
        obstime=facts.sensing or taken,
        datatake_start=start,
        tile=facts.tile or "",
        extent=finest.extent,
        footprint=footprint.from_extent(finest.extent),
        assets=_assets(headers, description),
        part=files.facts.get("part", ""),
        datastrip=start if description.single_datastrip else facts.datastrip,
        orbit_direction=facts.orbit_direction,
        relative_orbit=facts.orbit,
        absolute_orbit=facts.absolute_orbit,
        incidence_angle=facts.incidence_angle,
        baseline=facts.baseline,
        generation_time=facts.generated,
        cloud_percent=facts.cloud,
        reference_time=facts.reference_time,
        perpendicular_baseline=facts.perpendicular_baseline,
        source=str(folder.absolute()),
    )


def _require_one_crs(headers: dict[str, RasterHeader]) -> None:
    crs = sorted({header.crs for header in headers.values()})
    if len(crs) > 1:
        raise CbmError(
            "scene_mixed_crs",
            f"The bands of one scene are in different reference systems: {', '.join(crs)}.",
            "Catalogue them as scenes of their own.",
        )


def _facts(files: SceneFiles, description: Description) -> Facts:
    """Return what description and names say, then the product's name, then SNAP's header."""
    facts = _said(files.facts, description)
    if description.card not in sentinel1.CARDS:
        return facts
    facts = facts.or_else(sentinel1.from_name(description.card, files.facts["reference"]))
    header = dimap.header_of(next(iter(files.paths.values())))
    if header:
        facts = facts.or_else(dimap.read(header))
    return sentinel1.complete(description.card, facts)


def _said(facts: dict[str, str], description: Description) -> Facts:
    def convert(group: str, to: Callable[[str], T]) -> T | None:
        return to(facts[group]) if group in facts else None

    def time(group: str) -> datetime | None:
        return _time(facts, description, group)

    return Facts(
        platform=convert("platform", names.platform),
        datatake=time("datatake"),
        sensing=time("sensing"),
        datastrip=time("datastrip"),
        tile=convert("tile", names.tile),
        baseline=convert("baseline", names.baseline),
        generated=time("generated"),
        cloud=convert("cloud", lambda text: _number(text, "cloud", 0, 100)),
        absolute_orbit=convert("absolute_orbit", names.absolute_orbit),
        orbit=convert("orbit", names.relative_orbit),
        orbit_direction=convert("orbit_direction", names.orbit_direction),
        incidence_angle=convert(
            "incidence_angle", lambda text: _number(text, "incidence_angle", 0, 90)
        ),
        reference_time=time("reference_time"),
        perpendicular_baseline=convert(
            "perpendicular_baseline",
            lambda text: _number(text, "perpendicular_baseline", -10_000, 10_000),
        ),
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
        assets[name] = band.asset(description.card, header.href)
        if description.card in sentinel1.CARDS:
            _check_values(description.card, name, assets[name], header)
    return assets


def _check_values(card: str, band: str, asset: BandAsset, header: RasterHeader) -> None:
    """Refuse decibels and scaled coherence, as the pixels in the middle show them."""
    raw = middle(asset.href, asset.index).astype(np.float64)
    absent = [*asset.nodata, *filter(None, [header.nodata[asset.index - 1]])]
    values = raw[np.isfinite(raw) & ~np.isin(raw, absent)] * asset.scale + asset.offset
    if not values.size:
        return
    low, high = np.percentile(values, [1, 99])
    found = f"{band} of {asset.href} ranges from {low:.3g} to {high:.3g}"
    # Removing noise leaves power a little below zero, never by this much.
    if card == sentinel1.BACKSCATTER and low < -1:
        raise CbmError(
            "not_linear_power",
            f"Expected linear power, but {found}: these are decibels.",
            "Convert them, 10 ** (dB / 10): decibels cannot be averaged.",
        )
    if card in sentinel1.PAIR_DAYS and (low < 0 or high > 1):
        raise CbmError(
            "not_coherence",
            f"Expected coherence from 0 to 1, but {found}.",
            "Give the band's scale in a description, or correct its index.",
        )


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


def _number(text: str, name: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise CbmError(
            f"{name}_invalid", f"Expected {name} from {low:g} to {high:g}, found {text!r}."
        )
    return value
