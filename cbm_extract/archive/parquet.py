"""Signatures and tables as Parquet: one column per number, readable by pandas, DuckDB and Arrow.

A file of signatures has a row group per slice (one scene's rows), and the columns ``obstime``,
``geometry_id``, ``scene_id``, ``px_imaged``, ``px_clear``, ``tile_rank``, then ``B04_mean`` and the
like: float32, the stored unit, NaN where a band has no value, null where no pixel is clear. Cards
with scene classes have ``class_0`` to ``class_11``: pixels of each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cbm_core.errors import CbmError
from cbm_extract.store.signatures import CLASSES, STATISTICS, Slice
from cbm_extract.store.slices import Month
from cbm_extract.store.tables import Column, Rows

_TIME = pa.timestamp("us", tz="UTC")
_TYPES = {
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "text": pa.string(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp with time zone": _TIME,
    "jsonb": pa.string(),
    "bytea": pa.binary(),
}


@contextmanager
def writing(path: Path, schema: pa.Schema, plain: list[str]) -> Iterator[pq.ParquetWriter]:
    """Give a writer of a file that appears under its name only when it is whole.

    Columns not among ``plain`` are numbers that compress best byte by byte.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.part")
    split = [name for name in schema.names if name not in plain]
    try:
        with pq.ParquetWriter(
            half, schema, compression="zstd", use_dictionary=plain, write_statistics=plain,
            use_byte_stream_split=split or False,
        ) as writer:  # fmt: skip
            yield writer
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def slice_schema(variables: list[str], *, classes: bool) -> tuple[pa.Schema, list[str]]:
    """Return the schema of a product's signatures, and its columns that are no statistics."""
    plain = [
        pa.field("obstime", _TIME, nullable=False),
        *(
            pa.field(name, pa.int32(), nullable=False)
            for name in ("geometry_id", "scene_id", "px_imaged", "px_clear")
        ),
        pa.field("tile_rank", pa.int16(), nullable=False),
    ]
    numbers = [
        pa.field(f"{variable}_{statistic}", pa.float32())
        for variable in variables
        for statistic in STATISTICS
    ]
    counts = [pa.field(f"class_{n}", pa.int32()) for n in range(CLASSES)] if classes else []
    names = [field.name for field in [*plain, *counts]]
    return pa.schema([*plain, *numbers, *counts]), names


def slice_table(rows: Slice, schema: pa.Schema) -> pa.Table:
    """Lay a slice out in columns."""
    size = len(rows)
    absent = rows.px_clear == 0
    stats = np.ascontiguousarray(rows.stats.T)
    columns = [
        pa.array([rows.obstime], _TIME).take(pa.array(np.zeros(size, np.int64))),
        pa.array(rows.geometry_ids),
        pa.array(np.full(size, rows.scene_id, np.int32)),
        pa.array(rows.px_imaged),
        pa.array(rows.px_clear),
        pa.array(rows.tile_rank),
        *(pa.array(column, mask=absent) for column in stats),
    ]
    if rows.class_counts is not None:
        columns += [pa.array(column.astype(np.int32)) for column in rows.class_counts.T]
    elif "class_0" in schema.names:
        columns += [pa.nulls(size, pa.int32())] * CLASSES
    return pa.Table.from_arrays(columns, schema=schema)


def read_slices(path: Path, month: Month) -> Iterator[Slice]:
    """Yield the slices of a file, one at a time in memory."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield _slice(file.read_row_group(group), month)


def variables(path: Path) -> int:
    """Return of how many bands and indices a file has statistics."""
    return sum(name.endswith(f"_{STATISTICS[0]}") for name in pq.read_schema(path).names)


def _slice(table: pa.Table, month: Month) -> Slice:
    def column(name: str) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
        return np.asarray(table[name].to_numpy())

    names = [name for name in table.column_names if name.endswith(STATISTICS)]
    counts = None
    if "class_0" in table.column_names and not table["class_0"].null_count:
        counts = np.column_stack([column(f"class_{n}").astype(np.int64) for n in range(CLASSES)])
    first: datetime = table["obstime"][0].as_py()
    return Slice(
        obstime=first,
        scene_id=table["scene_id"][0].as_py(),
        dataset_id=month.dataset_id,
        product_id=month.product_id,
        geometry_ids=column("geometry_id").astype(np.int32),
        px_imaged=column("px_imaged").astype(np.int32),
        px_clear=column("px_clear").astype(np.int32),
        tile_rank=column("tile_rank").astype(np.int16),
        stats=np.column_stack([column(name).astype(np.float32) for name in names]),
        class_counts=counts,
    )


def write_table(path: Path, columns: list[Column], batches: Iterable[Rows]) -> int:
    """Write a table's rows (GeoParquet where it has geometries in degrees); return their number."""
    schema = pa.schema(
        [pa.field(column.name, _type(column)) for column in columns], metadata=_geo(columns)
    )
    count = 0
    with writing(path, schema, schema.names) as writer:
        for rows in batches:
            values = zip(*rows, strict=True)
            arrays = [
                pa.array([bytes(v) if isinstance(v, memoryview) else v for v in column], field.type)
                for column, field in zip(values, schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            count += len(rows)
    return count


def read_table(path: Path) -> tuple[list[str], Iterator[Rows]]:
    """Return the names of a table's columns, and its rows in batches."""
    names = pq.read_schema(path).names

    def batches() -> Iterator[Rows]:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(5_000):
                yield list(zip(*(column.to_pylist() for column in batch.columns), strict=True))

    return names, batches()


def _type(column: Column) -> pa.DataType:
    if column.is_geometry:
        return pa.binary()
    element = column.type.removesuffix("[]")
    if element not in _TYPES:
        raise CbmError(
            "archive_type_unknown",
            f"The column {column.name} is of the type {column.type}, which archives do not know.",
            "This is a fault of the software: please report it with this message.",
        )
    return pa.list_(_TYPES[element]) if column.type.endswith("[]") else _TYPES[element]


def _geo(columns: list[Column]) -> dict[bytes, bytes] | None:
    """Return GeoParquet's metadata (version 1.1.0); without a CRS it means longitude, latitude."""
    names = [column.name for column in columns if column.geographic]
    if not names:
        return None
    described = {name: {"encoding": "WKB", "geometry_types": ["MultiPolygon"]} for name in names}
    document = {"version": "1.1.0", "primary_column": names[0], "columns": described}
    return {b"geo": json.dumps(document).encode()}
