"""Tables with geometries, read in Arrow batches: OGR layers by pyogrio, GeoParquet by pyarrow."""

from __future__ import annotations

import difflib
import json
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pyogrio.errors
import pyogrio.raw
from numpy.typing import NDArray

from cbm_core.errors import CbmError
from cbm_extract.parcels.formats import DRIVERS
from cbm_extract.parcels.source import Source

ROWS_PER_BATCH = 8192
_POLYGONAL = ("Polygon", "MultiPolygon", "Unknown", "GeometryCollection", "Surface", "Curve")
_MAX_WARNINGS = 20
# A GML says where its schema lies; reading parcels must not go to the network for it.
_GDAL_OPTIONS = {"GML_DOWNLOAD_SCHEMA": "NO"}

_PYOGRIO_ERRORS = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError)

Objects = NDArray[np.object_]


@dataclass(frozen=True)
class Batch:
    """Consecutive features: ``wkb`` holds bytes or None; ``fids`` is None where there are none."""

    wkb: Objects
    columns: dict[str, pa.Array]
    fids: NDArray[np.int64] | None


class Table(Protocol):
    """A table with one geometry column; ``fields`` are the columns that can be asked for.

    ``crs`` is what the file itself says, as pyproj reads it (None: nothing). ``warnings`` are
    GDAL's and fill while reading.
    """

    layer: str | None
    fields: tuple[str, ...]
    features: int
    crs: str | None
    warnings: list[str]

    def batches(self, columns: list[str]) -> Iterator[Batch]:
        """Read all features in file order."""

    def linearised(self, fids: NDArray[np.int64]) -> Objects:
        """Return the WKB of features whose curves are replaced by chords of 4 degree arcs."""


def open_table(
    source: Source, layer: str | None, encoding: str | None, geometry_column: str | None
) -> Table:
    """Open the one table with parcels of a data set, or the told one.

    Args:
        source: The data set.
        layer: Name of the layer; None takes the only one with features and polygons.
        encoding: GDAL's name of the text encoding of a shapefile; None for other formats.
        geometry_column: Of a Parquet file without GeoParquet metadata.

    Raises:
        CbmError: ``layer_unknown``, ``layer_ambiguous``, ``layer_empty``, ``no_geometry``,
            ``source_damaged``, ``format_unknown``.

    """
    if source.kind == "parquet":
        return ParquetTable(source.path, layer, geometry_column)
    if geometry_column is not None:
        raise CbmError(
            "geometry_column_useless",
            f"A geometry column was named, but {source.kind} files know their own.",
            "Leave `geometry_column` out; it is for Parquet files without GeoParquet metadata.",
        )
    pyogrio.set_gdal_config_options(_GDAL_OPTIONS)
    return OgrTable(source, layer, encoding)


@dataclass
class _Layer:
    name: str
    geometry_type: str | None
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def polygonal(self) -> bool:
        return bool(self.geometry_type) and any(t in str(self.geometry_type) for t in _POLYGONAL)


class OgrTable:
    """A layer of a file that GDAL reads."""

    def __init__(self, source: Source, layer: str | None, encoding: str | None) -> None:
        """Choose the layer; see :func:`open_table`."""
        self._source, self._encoding = source, encoding
        self._lock = threading.Lock()
        self.warnings: list[str] = []
        with self._reading():
            chosen = _choose_layer(source, self._layers(layer), layer)
        info = chosen.info
        if info["driver"] not in DRIVERS[source.kind]:
            raise CbmError(
                "format_unknown",
                f"Expected {source.kind}, but GDAL reads it as {info['driver']}: {source.stem}.",
            )
        self.layer: str | None = chosen.name
        self.features = int(info["features"])
        self._fid = info["fid_column"] or None
        self.fields = (*(str(name) for name in info["fields"]), *([self._fid] if self._fid else []))
        self.crs: str | None = info["crs"]

    def batches(self, columns: list[str]) -> Iterator[Batch]:
        """Read all features in file order."""
        wanted = [name for name in columns if name != self._fid]
        with ExitStack() as stack:
            with self._reading():
                meta, reader = stack.enter_context(
                    pyogrio.open_arrow(
                        self._source.path, layer=self.layer, columns=wanted,
                        encoding=self._encoding, batch_size=ROWS_PER_BATCH, return_fids=True,
                        use_pyarrow=True,
                    )
                )  # fmt: skip
            geometry = meta["geometry_name"] or "wkb_geometry"
            while batch := self._next(reader):
                fids = batch.column(meta["fid_column"] or "OGC_FID")
                read = {name: batch.column(name) for name in wanted}
                if self._fid in columns:
                    read[str(self._fid)] = fids
                wkb = batch.column(geometry).to_numpy(zero_copy_only=False)
                yield Batch(wkb, read, fids.to_numpy(zero_copy_only=False))

    def _next(self, reader: Any) -> pa.RecordBatch | None:
        with self._reading():
            return next(iter(reader), None)

    def linearised(self, fids: NDArray[np.int64]) -> Objects:
        """Return the WKB of features without curves, in the order of ``fids``."""
        with self._reading():
            read = pyogrio.raw.read(
                self._source.path, layer=self.layer, fids=fids, columns=[], return_fids=True
            )
        by_fid = dict(zip(read[1].tolist(), read[2], strict=True))
        found = np.empty(len(fids), dtype=object)
        found[:] = [by_fid.get(fid) for fid in fids.tolist()]
        return found

    def _layers(self, told: str | None) -> list[_Layer]:
        """Return all layers, with what is needed to choose: counting features may be slow."""
        layers = [_Layer(str(n), g) for n, g in pyogrio.list_layers(self._source.path)]
        for layer in layers:
            if layer.name == told or (told is None and layer.polygonal):
                layer.info = pyogrio.read_info(
                    self._source.path,
                    layer=layer.name,
                    encoding=self._encoding,
                    force_feature_count=True,
                )
        return layers

    @contextmanager
    def _reading(self) -> Iterator[None]:
        # Warnings are caught for the whole process: one thread at a time.
        with self._lock, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RuntimeWarning)
            try:
                yield
            except UnicodeDecodeError as error:
                raise CbmError(
                    "encoding_invalid",
                    f"The names in {self._source.path.name} are not {self._encoding or 'UTF-8'}: "
                    f"{error.object!r}.",
                    "Tell the right `encoding` of a shapefile, or correct the file.",
                ) from error
            except (*_PYOGRIO_ERRORS, pa.ArrowException, OSError) as error:
                raise CbmError(
                    "source_damaged",
                    f"{self._source.path.name} cannot be read: {self._plain(error)}.",
                    "Check that the file is complete (ogrinfo shows what GDAL sees).",
                ) from error
            finally:
                new = {self._plain(warning.message) for warning in caught} - set(self.warnings)
                self.warnings += sorted(new)[: _MAX_WARNINGS - len(self.warnings)]

    def _plain(self, said: Warning | Exception | str) -> str:
        """Return one line that does not speak of our temporary folder."""
        return " ".join(str(said).replace(f"{self._source.path.parent}/", "").split())


def _choose_layer(source: Source, layers: list[_Layer], told: str | None) -> _Layer:
    names = ", ".join(layer.name for layer in layers)
    if told is not None:
        chosen = [layer for layer in layers if layer.name == told]
        if not chosen:
            close = difflib.get_close_matches(told, [layer.name for layer in layers], n=1)
            raise CbmError(
                "layer_unknown",
                f"{source.stem} has no layer {told!r}; it has: {names}.",
                f"Did you mean {close[0]}?" if close else "",
            )
        if not chosen[0].geometry_type:
            raise CbmError("no_geometry", f"The layer {told} of {source.stem} has no geometries.")
    else:
        chosen = [layer for layer in layers if layer.info and layer.info["features"] > 0]
        if not any(layer.geometry_type for layer in layers):
            raise CbmError(
                "no_geometry",
                f"{source.stem} holds tables without geometries only: {names or 'none at all'}.",
            )
    if not chosen or chosen[0].info["features"] == 0:
        raise CbmError(
            "layer_empty", f"No features with polygons in {source.stem}; layers: {names}."
        )
    if len(chosen) > 1:
        listing = ", ".join(f"{c.name} ({c.info['features']} features)" for c in chosen)
        raise CbmError(
            "layer_ambiguous",
            f"{source.stem} has {len(chosen)} layers that may be the parcels: {listing}.",
            "Name one with `source_layer`.",
            layers=[layer.name for layer in chosen],
        )
    return chosen[0]


class ParquetTable:
    """A GeoParquet file, or a Parquet file whose geometry column (WKB) is told."""

    def __init__(self, path: Path, layer: str | None, geometry_column: str | None) -> None:
        """Read the metadata; see :func:`open_table`."""
        if layer is not None:
            raise CbmError(
                "layer_unknown", f"{path.name} is Parquet and has no layers.", "Leave it out."
            )
        self._path = path
        self.layer: str | None = None
        self.warnings: list[str] = []
        with self._reading():
            self._file = pq.ParquetFile(path)
        schema = self._file.schema_arrow
        geo = json.loads((schema.metadata or {}).get(b"geo", b"null"))
        self._geometry = _geometry_column(path, geo, geometry_column, schema.names)
        described = geo["columns"][self._geometry] if geo else {"crs": None}
        if described.get("encoding", "WKB") != "WKB":
            raise CbmError(
                "geometry_unreadable",
                f"Expected geometries as WKB in {path.name}, found {described['encoding']}.",
                "Write the file with WKB geometries.",
            )
        # GeoParquet: no CRS given means longitude and latitude, null means unknown.
        crs = described.get("crs", "OGC:CRS84")
        self.crs = json.dumps(crs) if isinstance(crs, dict) else crs
        self.fields = tuple(name for name in schema.names if name != self._geometry)
        self.features = self._file.metadata.num_rows
        if self.features == 0:
            raise CbmError("layer_empty", f"{path.name} has no rows.")

    def batches(self, columns: list[str]) -> Iterator[Batch]:
        """Read all rows in file order."""
        batches = self._file.iter_batches(ROWS_PER_BATCH, columns=[self._geometry, *columns])
        while True:
            with self._reading():
                batch = next(batches, None)
            if batch is None:
                return
            read = {name: batch.column(name) for name in columns}
            wkb = batch.column(self._geometry)
            if isinstance(wkb, pa.ExtensionArray):
                wkb = wkb.storage
            yield Batch(wkb.to_numpy(zero_copy_only=False), read, None)

    def linearised(self, fids: NDArray[np.int64]) -> Objects:
        """Refuse: GeoParquet has no curves."""
        raise CbmError("geometry_unreadable", f"{len(fids)} curves in {self._path.name}.")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise CbmError(
                "source_damaged",
                f"{self._path.name} cannot be read: {' '.join(str(error).split())}.",
                "Check that the file is complete.",
            ) from error


def _geometry_column(
    path: Path, geo: dict[str, Any] | None, told: str | None, names: list[str]
) -> str:
    column = told or (geo["primary_column"] if geo else None)
    if column is None:
        raise CbmError(
            "no_geometry",
            f"{path.name} has no GeoParquet metadata: nothing says which column is a geometry.",
            f"Tell `geometry_column` and `crs`, if one of these is WKB: {', '.join(names)}.",
        )
    if column not in names or (geo and column not in geo["columns"]):
        raise CbmError(
            "column_missing",
            f"{path.name} has no geometry column {column!r}; it has: {', '.join(names)}.",
        )
    return column
