"""Reads a source once, from its first byte to a checked set of parcels on disk. No database."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cbm_core.errors import CbmError
from cbm_core.progress import step
from cbm_extract.parcels import checks, dbf, geometry, mapping, projecting, temporary
from cbm_extract.parcels.ahead import in_order
from cbm_extract.parcels.checks import Duplicates, Ids
from cbm_extract.parcels.crs import Bounds, EqualArea, SourceCrs, resolve
from cbm_extract.parcels.geometry import LEFT_OUT, Cleaned
from cbm_extract.parcels.mapping import Mapping
from cbm_extract.parcels.report import LISTED, Listed, Report
from cbm_extract.parcels.source import Given, Source, opened
from cbm_extract.parcels.spool import Encoded, Spool, SpoolWriter, encode
from cbm_extract.parcels.tables import Batch, Table, open_table
from cbm_extract.plan.pipeline import Pipeline


@dataclass(frozen=True)
class Options:
    """How a source is to be read; what is None is the file's to say.

    ``bounds`` is west, south, east, north in degrees, None for no check.
    """

    mapping: Mapping
    member: str | None = None
    source_layer: str | None = None
    crs: str | None = None
    encoding: str | None = None
    geometry_column: str | None = None
    duplicates: Duplicates = "refuse"
    overlap_threshold_m2: float = 100.0
    bounds: Bounds | None = None
    allow_ballpark: bool = False
    unpack_limit_gb: float = 64.0


@dataclass(frozen=True)
class Scan:
    """A source that has been read: parcels on disk, their ids, and the report."""

    spool: Spool
    ids: Ids
    crs: SourceCrs
    pipeline: Pipeline
    report: Report


@contextmanager
def scanned(given: Given, options: Options) -> Iterator[Scan]:
    """Read and check a source; its parcels lie in a temporary folder until the block ends.

    Raises:
        CbmError: whatever is wrong with the source; see the functions of this package.
            ``ids_missing``, ``no_parcels``, ``outside_area``, ``disk_full``.

    """
    with temporary.folder() as folder, _disk_full_is_told():
        with opened(given, options.member, options.unpack_limit_gb) as source:
            reading = _Reading(given, source, options, folder)
            reading.read_all()
        yield reading.finish()


@contextmanager
def _disk_full_is_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise CbmError(
            "disk_full",
            f"The disk for temporary files ({tempfile.gettempdir()}) is full.",
            "Free space there, or point TMPDIR to a larger disk. Nothing was imported.",
        ) from None


@dataclass(frozen=True)
class _Taken:
    """A batch of features; ``encoded`` are those with a usable geometry."""

    mapped: mapping.Mapped
    cleaned: Cleaned
    encoded: Encoded


class _Reading:
    """One pass over a source."""

    def __init__(self, given: Given, source: Source, options: Options, folder: Path) -> None:
        self._given, self._source, self._options, self._folder = given, source, options, folder
        encoding = _encoding(source, options.encoding)
        gdal = dbf.gdal_name(encoding) if source.kind == "shapefile" else None
        self._table = open_table(source, options.source_layer, gdal, options.geometry_column)
        options.mapping.require(self._table.fields)
        if source.kind == "shapefile":
            dbf.require_text(source.path, encoding, options.mapping.columns)
        self._crs = resolve(self._table.crs, options.crs, given.path.name)
        self._measure = EqualArea(self._crs.crs)
        self._writer = SpoolWriter(folder)
        self._without_id = Listed()
        self._not_finite = Listed()
        self._report = _new_report(given, source, self._table, self._crs, encoding, options)

    def read_all(self) -> None:
        """Read every feature into the spool."""
        with step("parcels read", self._table.features, "features") as progress:
            batches = self._table.batches(self._options.mapping.columns)
            for taken in in_order(self._prepare, batches):
                self._take(taken)
                progress.advance(len(taken.cleaned.polygons))
        self._report.warnings += self._table.warnings
        if self._report.features != self._table.features:
            raise CbmError(
                "source_damaged",
                f"Expected {self._table.features} features in {self._given.path.name}, "
                f"could read {self._report.features}.",
                "Check that the file is complete.",
            )
        if self._not_finite.count:
            raise CbmError(
                "coordinates_invalid",
                f"{self._not_finite.count} geometries have coordinates that are no numbers: "
                f"{', '.join(self._not_finite.ids)}.",
                "Correct the file.",
            )
        if self._without_id.count:
            raise CbmError(
                "ids_missing",
                f"Expected an id for every parcel; {self._without_id.count} have none: "
                f"{', '.join(self._without_id.ids)}.",
                "Map the id to another column or expression, or to `filename` for a file with one "
                "parcel.",
            )

    def finish(self) -> Scan:
        """Check what can only be said of all parcels together."""
        spool = self._writer.finish()
        if len(spool) == 0:
            reasons = ", ".join(f"{v.count} {k}" for k, v in self._report.left_out.items())
            raise CbmError(
                "no_parcels",
                f"None of the {self._report.features} features of {self._given.path.name} is a "
                f"usable polygon ({reasons}).",
            )
        ids = checks.settle_ids(spool.pids(), self._options.duplicates)
        pipeline = self._place(spool, ids)
        self._report.parcels = len(ids.kept)
        self._report.duplicate_ids = {
            "ids": len(ids.duplicated),
            "rows": ids.surplus,
            "handling": self._options.duplicates,
            "listed": ids.duplicated[:LISTED],
        }
        again = ids.kept[~spool.first_of_each_geometry(ids.kept)]
        self._report.duplicate_geometries = _listed(ids, again)
        self._find_overlaps(spool, ids)
        return Scan(spool, ids, self._crs, pipeline, self._report)

    def _prepare(self, batch: Batch) -> _Taken:
        """Do what can be said of a batch by itself; runs in several threads at once."""
        rows = len(batch.wkb)
        mapped = mapping.apply(self._options.mapping, batch.columns, rows, self._source.stem)

        def linearise(curved: geometry.Ints) -> geometry.Objects:
            return self._table.linearised(curved if batch.fids is None else batch.fids[curved])

        cleaned = geometry.clean(
            batch.wkb, linearise, lambda polygons: checks.area_m2(polygons, self._measure)
        )
        used = cleaned.polygons[cleaned.left_out == 0]
        return _Taken(mapped, cleaned, encode(used, self._crs.srid))

    def _take(self, taken: _Taken) -> None:
        mapped, cleaned = taken.mapped, taken.cleaned
        used = cleaned.left_out == 0
        first = self._report.features + 1
        names = [
            pid if pid is not None else f"feature {first + row}"
            for row, pid in enumerate(mapped.pid.to_pylist())
        ]
        self._account(cleaned, np.array(names, dtype=object))
        blank = used & mapped.pid.is_null().to_numpy(zero_copy_only=False)
        self._without_id.add(names[row] for row in np.flatnonzero(blank))
        self._report.features += len(used)
        keep = pa.array(used)
        kept = mapping.Mapped(
            mapped.pid.filter(keep),
            mapped.crop_code.filter(keep),
            mapped.crop_name.filter(keep),
            mapped.attributes.filter(keep),
        )
        self._writer.write(kept, taken.encoded)

    def _account(self, cleaned: Cleaned, names: geometry.Objects) -> None:
        report = self._report
        for code in np.unique(cleaned.left_out[cleaned.left_out > 0]):
            reason, ids = LEFT_OUT[code], names[cleaned.left_out == code]
            report.left_out.setdefault(reason, Listed()).add(ids)
            if reason == "not_finite":
                self._not_finite.add(ids)
        fixed = cleaned.repaired
        report.repaired.add_areas(
            names[fixed].tolist(),
            cleaned.area_before[fixed].tolist(),
            cleaned.area_after[fixed].tolist(),
        )
        report.flattened_3d.add(names[cleaned.flattened])
        report.polygons_out_of_collections.add(names[cleaned.from_collection])
        report.curves_linearised.add(names[cleaned.linearised])

    def _place(self, spool: Spool, ids: Ids) -> Pipeline:
        """Choose the pipeline for where the parcels are, and check where they are."""
        low, high = spool.bounds[:, :2].min(axis=0), spool.bounds[:, 2:].max(axis=0)
        # Without a datum shift, some hundred metres off: good enough to choose by.
        rough = self._measure.extent((*low.tolist(), *high.tolist()))
        pipeline = projecting.choose_pipeline(
            self._crs.definition, rough, self._options.allow_ballpark
        )
        extent = projecting.extent(spool, ids.kept, pipeline, rough)
        self._report.extent = list(extent)
        self._report.transformation = {
            "description": projecting.transformer_name(pipeline),
            "definition": pipeline.definition,
            "accuracy_m": pipeline.accuracy_m,
            "better": pipeline.better,
        }
        self._warn_of_area_of_use(extent)
        if self._options.bounds:
            boxes = spool.bounds[ids.kept]
            points = projecting.degrees(pipeline, (boxes[:, :2] + boxes[:, 2:]) / 2)
            away = checks.outside(points, self._options.bounds)
            listed = _listed(ids, ids.kept[away])
            self._report.outside = {
                "bounds": list(self._options.bounds), "count": listed.count, "ids": listed.ids,
            }  # fmt: skip
            if away.all():
                raise CbmError(
                    "outside_area",
                    f"All {len(away)} parcels lie outside of the area {self._options.bounds}; "
                    f"they lie at {', '.join(f'{v:.3f}' for v in extent)} degrees.",
                    "Check the CRS of the file, its axis order, and the dataset's bounds.",
                )
        return pipeline

    def _warn_of_area_of_use(self, extent: Bounds) -> None:
        use = self._crs.crs.area_of_use
        if use is None:
            return
        west, south, east, north = extent
        corners = np.array([(west, south), (west, north), (east, south), (east, north)])
        if checks.outside(corners, use.bounds).all():
            self._report.warnings.append(
                f"all parcels lie outside of the area of use of {self._crs.crs.name} ({use.name})"
            )

    def _find_overlaps(self, spool: Spool, ids: Ids) -> None:
        found = checks.overlaps(
            spool, ids.kept, self._crs, self._measure, self._options.overlap_threshold_m2
        )
        self._report.overlaps = {
            "threshold_m2": found.threshold_m2,
            "pairs": found.pairs,
            "area_m2": round(found.area_m2, 3),
            "largest": [
                {"a": ids.pids[a].as_py(), "b": ids.pids[b].as_py(), "m2": round(m2, 3)}
                for m2, a, b in sorted(found.largest, reverse=True)
            ],
        }


def _listed(ids: Ids, rows: geometry.Ints) -> Listed:
    return Listed(len(rows), [ids.pids[row].as_py() for row in rows[:LISTED].tolist()])


def _encoding(source: Source, told: str | None) -> str | None:
    """Return the encoding of a shapefile's text, None where nothing says; others know their own."""
    if source.kind != "shapefile":
        if told and dbf.parse_encoding(told) != "utf-8":
            raise CbmError(
                "encoding_contradictory",
                f"The text of {source.kind} files has its encoding by definition; told: {told}.",
                "Leave `encoding` out; it is for shapefiles.",
            )
        return None
    dbf.require_complete(source.path)
    declared = dbf.declared_encoding(source.path)
    if told is None:
        return declared
    wanted = dbf.parse_encoding(told)
    if declared and declared != wanted:
        raise CbmError(
            "encoding_contradictory",
            f"The shapefile says its text is {declared}, the argument says {wanted}.",
            "Leave `encoding` out, or correct the .cpg.",
        )
    return wanted


def _new_report(
    given: Given,
    source: Source,
    table: Table,
    crs: SourceCrs,
    encoding: str | None,
    options: Options,
) -> Report:
    described: dict[str, Any] = {
        "file": given.path.name,
        "member": source.member,
        "layer": table.layer,
        "format": source.kind,
        "checksum": given.checksum.hex(),
        "crs": crs.definition if len(crs.definition) < 40 else crs.crs.name,
        "crs_origin": crs.origin,
        "encoding": encoding,
    }
    mapped = options.mapping
    columns = {
        "id": mapped.id.text,
        "crop_code": mapped.crop_code,
        "crop_name": mapped.crop_name,
        "kept": list(mapped.keep),
        "dropped": mapped.dropped(table.fields),
    }
    return Report(source=described, columns=columns)
