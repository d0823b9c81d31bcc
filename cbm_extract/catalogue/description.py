r"""The YAML that describes a folder of rasters: what its file names say, and where the bands are.

An example, for one file per scene (``tests/data/swiss_wheat_scenes.yml`` is a complete one)::

    card: s2
    files: "*/SRF_*.tif"
    pattern: '(?P<part>[^/]+)/SRF_(?P<reference>(?P<datatake>[0-9T]{15})_(?P<tile>T\w{5}))\.tif'
    constants: {platform: S2A}
    bands:
      B04: {index: 1, scale: 10000, nodata: 0}
      SCL: {index: 2}

With one file per band the pattern has a group ``band``, and ``token`` gives the name's spelling
where it is not the band's own name. Paths are matched whole, relative to the folder, with ``/``.

The names of Sentinel-1 products and coherence pairs are understood where they stand in
``reference``; SNAP's header ``<name>.dim`` is read where it stands beside ``<name>.data``.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from cbm_core.errors import CbmError
from cbm_extract.catalogue import sentinel1
from cbm_extract.catalogue.names import COMPACT_TIME
from cbm_extract.scene import BandAsset

DEFAULT_NAME = "scenes.yml"
MAX_BYTES = 2**20
TIMES = ("datatake", "sensing", "datastrip", "generated", "reference_time")
GROUPS = (
    *("reference", "part", "platform", "tile", "band"),
    *("baseline", "orbit", "absolute_orbit", "orbit_direction", "cloud"),
    *("incidence_angle", "perpendicular_baseline"),
    *TIMES,
)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BandDescription(_Model):
    """One band: its place in the file, and stored = raw * scale + offset.

    For card ``s2`` the stored unit is reflectance x 10000, so floats from 0 to 1 have the scale
    10000, and for the cards of Sentinel-1 it is linear power or coherence from 0 to 1. ``nodata``
    lists raw values that are no observation, beside the file's own and NaN; for Sentinel-1 it is 0
    where nothing is said.
    """

    index: Annotated[int, Field(ge=1)] = 1
    token: str | None = None
    scale: float | None = None
    offset: float | None = None
    nodata: tuple[float, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _linear(cls, value: Any) -> Any:
        if isinstance(value, dict) and "unit" in value:
            raise ValueError(
                "a unit cannot be given: scale and offset must lead to the stored unit, for"
                " backscatter linear power (decibels and amplitudes have to be converted first:"
                " 10 ** (dB / 10), amplitude ** 2)"
            )
        return value

    @field_validator("nodata", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        values = value if isinstance(value, list | tuple) else [value]
        return [v for v in values if not (isinstance(v, float) and math.isnan(v))]

    def asset(self, card: str, href: str) -> BandAsset:
        """Return the asset for a file of a card."""
        nodata = self.nodata
        if nodata is None:
            nodata = sentinel1.NO_DATA if card in sentinel1.CARDS else ()
        declared = self.scale is not None or self.offset is not None
        return BandAsset(
            href=href,
            index=self.index,
            scale=1.0 if self.scale is None else self.scale,
            offset=self.offset or 0.0,
            nodata=nodata,
            offset_source="declared" if declared else "none",
        )


class Description(_Model):
    """A described folder.

    ``constants`` gives what the names do not say, under the names of the groups; ``table`` is a CSV
    file in the folder that says it scene by scene, with a column ``reference`` and columns named as
    groups; ``times`` gives the strptime formats of groups that are not like 20240501T105031. Times
    without a zone are UTC. ``single_datastrip`` says that the folder holds one datastrip per
    datatake and tile, so that a newer processing replaces an older one whatever area it shows.
    """

    card: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,15}$")]
    files: str
    pattern: str
    bands: Annotated[dict[str, BandDescription], Field(min_length=1)]
    constants: dict[str, str] = Field(default_factory=dict)
    table: str | None = None
    times: dict[str, str] = Field(default_factory=dict)
    single_datastrip: bool = False

    @field_validator("files", "table")
    @classmethod
    def _inside(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if value.startswith("/") or ".." in value.split("/"):
            raise ValueError("must stay inside the folder: no leading / and no ..")
        return value

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            groups = re.compile(value).groupindex
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        _known(groups, "group")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Description:
        groups = set(self.regex.groupindex)
        _known(self.constants, "constant")
        both = groups & set(self.constants)
        if both:
            raise ValueError(f"both in pattern and constants: {', '.join(sorted(both))}")
        said = groups | set(self.constants)
        if "reference" not in groups:
            raise ValueError("pattern needs the group `reference`: what tells scenes apart")
        elsewhere = self.table is not None or self.card in sentinel1.CARDS
        if "platform" not in said and not elsewhere:
            raise ValueError("`platform` must be a group of pattern or a constant")
        if not said & {"datatake", "sensing"} and not elsewhere:
            raise ValueError("pattern needs the group `datatake` or `sensing`: when it was taken")
        unknown = set(self.times) - set(TIMES)
        if unknown:
            raise ValueError(f"times has {', '.join(sorted(unknown))}; known: {', '.join(TIMES)}")
        if self.single_datastrip and "datastrip" in said:
            raise ValueError("single_datastrip contradicts a datastrip that is read from names")
        if "band" not in groups and any(band.token for band in self.bands.values()):
            raise ValueError("`token` needs the group `band` in pattern")
        return self

    @property
    def regex(self) -> re.Pattern[str]:
        """Return the compiled pattern."""
        return re.compile(self.pattern)

    @property
    def file_per_band(self) -> bool:
        """Tell whether each band has a file of its own."""
        return "band" in self.regex.groupindex

    def time_format(self, group: str) -> str:
        """Return the strptime format of a time's group."""
        return self.times.get(group, COMPACT_TIME)

    def band_of(self, token: str) -> str | None:
        """Return the band that a file name's spelling means, None for bands not described."""
        for name, band in self.bands.items():
            if token == (band.token or name):
                return name
        return None


def _known(names: Any, what: str) -> None:
    unknown = sorted(set(names) - set(GROUPS))
    if unknown:
        raise ValueError(f"unknown {what} {', '.join(unknown)}; known: {', '.join(GROUPS)}")


def load(path: Path) -> Description:
    """Read a description.

    Raises:
        CbmError: ``description_missing``, ``description_invalid``.

    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _invalid(path, f"it is larger than {MAX_BYTES} bytes")
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CbmError(
            "description_missing",
            f"The description {path} cannot be read: {error.strerror}.",
            f"A folder of rasters needs a description: --description, or {DEFAULT_NAME} in it.",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _invalid(path, f"it is not YAML: {' '.join(str(error).split())}") from None
    try:
        return Description.model_validate(document)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in item['loc']) or 'the whole'}:"
            f" {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False)
        ]
        raise _invalid(path, "; ".join(problems)) from None


def _invalid(path: Path, why: str) -> CbmError:
    return CbmError(
        "description_invalid",
        f"The description {path} is not usable: {why}.",
        "Expected are card, files, pattern and bands, and, where needed, constants, table, times"
        " and single_datastrip.",
    )
