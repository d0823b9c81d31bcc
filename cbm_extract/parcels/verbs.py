"""The commands ``cbm parcels check|import|list``."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from cbm_core import db
from cbm_core.datasets.store import Dataset, require_dataset
from cbm_core.datasets.verbs import BoundsText, parse_bounds
from cbm_core.verbs import Answer, Arguments, Context, Verb, positional
from cbm_extract.parcels import mapping, scan
from cbm_extract.parcels.checks import Duplicates
from cbm_extract.parcels.crs import Bounds
from cbm_extract.parcels.load import listing, plan
from cbm_extract.parcels.load.apply import SetRecord
from cbm_extract.parcels.load.plan import ImportPlan
from cbm_extract.parcels.mapping import Mapping
from cbm_extract.parcels.scan import Options
from cbm_extract.parcels.source import Given, identify
from cbm_extract.parcels.unpack import DEFAULT_LIMIT_GB

_LAYER = r"^[a-z0-9_]{0,63}$"


class _Reading(Arguments):
    """How a source is read; shared by check and import."""

    id: str = Field(
        description="Where the parcels' ids are: column:NAME, expression:{COLUMN1}-{COLUMN2} or "
        "filename (a file with one parcel)."
    )
    member: str | None = Field(
        default=None, description="Data set inside an archive that holds several."
    )
    source_layer: str | None = Field(
        default=None, description="Layer of a file that has several with features."
    )
    crop_code: str | None = Field(default=None, description="Column of the crop code.")
    crop_name: str | None = Field(default=None, description="Column of the crop name.")
    keep_columns: list[str] = Field(
        default=[], description="Further columns to keep; all others are dropped."
    )
    crs: str | None = Field(
        default=None, description="CRS of a file that does not say it, e.g. EPSG:25832."
    )
    encoding: str | None = Field(
        default=None, description="Text encoding of a shapefile that does not say it, e.g. cp1250."
    )
    geometry_column: str | None = Field(
        default=None, description="Geometry column (WKB) of Parquet without GeoParquet metadata."
    )
    duplicates: Duplicates = Field(
        default="refuse",
        description="What to do with an id that stands more than once: refuse, suffix (id_2, "
        "id_3, ... in file order) or first (drop the others).",
    )
    overlap_threshold_m2: float = Field(
        default=100.0,
        ge=0,
        description="Overlaps above this area are reported; 100 is one pixel of 10 m.",
    )
    bounds: BoundsText | None = Field(
        default=None,
        description="west,south,east,north in degrees: parcels outside are reported, and refused "
        "if all are. A negative west is written --bounds=-10.7,51.3,-5.9,55.5.",
    )
    allow_ballpark: bool = Field(
        default=False,
        description="Accept a transformation that ignores the difference of the datums.",
    )
    unpack_limit_gb: float = Field(
        default=DEFAULT_LIMIT_GB, gt=0, description="Refuse archives that unpack to more."
    )

    @field_validator("id")
    @classmethod
    def _id(cls, value: str) -> str:
        mapping.parse_id(value)
        return value

    def options(self, default_bounds: list[float] | None = None) -> Options:
        """Return how the source is read; the dataset's bounds serve where none are told."""
        bounds = parse_bounds(self.bounds) if self.bounds else default_bounds
        return Options(
            mapping=Mapping(
                mapping.parse_id(self.id), self.crop_code, self.crop_name, tuple(self.keep_columns)
            ),
            member=self.member,
            source_layer=self.source_layer,
            crs=self.crs,
            encoding=self.encoding,
            geometry_column=self.geometry_column,
            duplicates=self.duplicates,
            overlap_threshold_m2=self.overlap_threshold_m2,
            bounds=_four(bounds) if bounds else None,
            allow_ballpark=self.allow_ballpark,
            unpack_limit_gb=self.unpack_limit_gb,
        )


class _Check(_Reading):
    source: Path = positional("File, archive or FileGDB folder; recognised by content.")


class _Import(_Reading):
    dataset: str = positional("Dataset aoi:year, e.g. ie:2024.")
    source: Path = positional("File, archive or FileGDB folder; recognised by content.")
    layer: str = Field(
        default="", pattern=_LAYER, description="Our layer; importing replaces only this one."
    )
    valid_from: date | None = Field(
        default=None,
        description="From when the parcels are as in the file; default: the dataset's first day "
        "of imagery. The same date again corrects, a later one keeps what was until then.",
    )
    check: bool = Field(default=False, description="Say what would be done and change nothing.")


class _List(Arguments):
    dataset: str = positional("Dataset aoi:year, e.g. ie:2024.")


def _four(bounds: list[float]) -> Bounds:
    west, south, east, north = bounds
    return (west, south, east, north)


def _check(arguments: _Check, _context: Context) -> Answer:
    with scan.scanned(identify(arguments.source), arguments.options()) as scanned:
        report = scanned.report
        return Answer(result={"report": report.as_json()}, text=report.text())


def _record(arguments: _Import, dataset: Dataset, given: Given) -> tuple[SetRecord, Options]:
    options = arguments.options(dataset.settings.get("bounds"))
    valid_from = arguments.valid_from or dataset.imagery_start
    kept: dict[str, Any] = arguments.model_dump(
        mode="json", exclude={"dataset", "source", "layer", "check", "unpack_limit_gb"}
    )
    kept |= {"bounds": options.bounds, "valid_from": valid_from.isoformat()}
    if not options.mapping.id.parts:
        kept["file"] = given.path.name  # the ids come from the name
    record = SetRecord(arguments.layer, str(arguments.source), given.checksum, kept, valid_from)
    return record, options


def _import(arguments: _Import, context: Context) -> Answer:
    with db.session(context.settings) as connection:
        done = plan.import_source(
            connection,
            lambda cursor: require_dataset(cursor, arguments.dataset),
            lambda dataset, given: _record(arguments, dataset, given),
            arguments.source,
            arguments.check,
        )
    text = done.report_text
    if not arguments.check or done.unchanged:
        text = "\n".join([text, _summary(done)]).strip()
    return Answer(
        changed=not done.unchanged,
        plan=done.lines,
        result=_result(done),
        before=_state(done, after=False),
        after=_state(done, after=not done.unchanged),
        text=text,
    )


def _summary(done: ImportPlan) -> str:
    if done.unchanged:
        return f"Nothing to do: {done.parcels} parcels are as in {done.record.source}."
    found = done.changes
    return (
        f"Imported {done.record.source}: {found.added} parcels added, {found.changed} changed, "
        f"{found.removed} removed; {done.parcels} now."
    )


def _result(done: ImportPlan) -> dict[str, Any]:
    found = done.changes
    return {
        "dataset": done.dataset.name,
        "layer": done.record.layer,
        "parcel_set": done.set_id if done.set_id or not done.before else done.before.id,
        "parcels": done.parcels,
        "added": found.added,
        "changed": found.changed,
        "changed_geometry": found.geometry,
        "removed": found.removed,
        "new_geometries": found.new_geometries,
        "report": done.report,
    }


def _state(done: ImportPlan, *, after: bool) -> str:
    """Describe the layer for Ansible's diff."""
    if after:
        checksum, parcels, options = done.record.checksum, done.parcels, done.record.options
    elif done.before:
        checksum, parcels = done.before.checksum, done.before.parcels
        options = done.before.options
    else:
        return ""
    state = {"checksum": checksum.hex(), "parcels": parcels, "options": options}
    return json.dumps(state, indent=2, sort_keys=True) + "\n"


def _list(arguments: _List, context: Context) -> Answer:
    with db.session(context.settings) as connection, db.transaction(connection) as cursor:
        dataset = require_dataset(cursor, arguments.dataset)
        sets = listing.parcel_sets(cursor, dataset)
    lines = [
        f"{s['id']}  {s['imported_at']}  layer '{s['layer']}'  {s['parcels']} parcels "
        f"(+{s['added']} ~{s['changed']} -{s['removed']})  {s['crs']}  {s['source']}"
        for s in sets
    ]
    return Answer(
        result={"dataset": dataset.name, "parcel_sets": sets},
        text="\n".join(lines) or f"No parcels in {dataset.name}.",
    )


CHECK = Verb("Read a file of parcels and report what is in it; needs no database.", _Check, _check)
IMPORT = Verb("Import a file of parcels into a dataset's layer.", _Import, _import)
LIST = Verb("List the imports of a dataset.", _List, _list)
