"""Tables of series as bytes, piece by piece: JSON, CSV, an Arrow stream, Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

Format = Literal["json", "csv", "arrow", "parquet"]

CONTENT_TYPES: dict[Format, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}

_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


class _Drain(io.RawIOBase):
    """A file that what was written to it is taken from."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._written += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._written

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def encode(
    to: Format, schema: pa.Schema, tables: Iterable[pa.Table], about: dict[str, Any]
) -> Iterator[bytes]:
    """Yield a document with the rows of ``tables``, a piece or more for each.

    JSON is ``about`` and ``parcels``, each with its ``pid`` and its columns; parcels without rows
    are not among them. Parquet has a row group per table.
    """
    if to == "json":
        return _json(tables, about)
    if to == "csv":
        return _csv(schema, tables)
    return _binary(to, schema, tables)


def parquet_writer(where: Any, schema: pa.Schema) -> pq.ParquetWriter:
    """Return a writer to a path or file; numbers are compressed byte by byte."""
    split = [field.name for field in schema if pa.types.is_floating(field.type)]
    plain = [field.name for field in schema if field.name not in split]
    return pq.ParquetWriter(
        where,
        schema,
        compression="zstd",
        use_dictionary=plain,
        use_byte_stream_split=split or False,
    )


def _binary(to: Format, schema: pa.Schema, tables: Iterable[pa.Table]) -> Iterator[bytes]:
    drain = _Drain()
    opened = pa.ipc.new_stream(drain, schema) if to == "arrow" else parquet_writer(drain, schema)
    with opened as writer:
        for table in tables:
            writer.write_table(table)
            yield drain.take()
    yield drain.take()


def _csv(schema: pa.Schema, tables: Iterable[pa.Table]) -> Iterator[bytes]:
    options = pa.csv.WriteOptions(include_header=False, quoting_style="needed")
    yield (",".join(schema.names) + "\n").encode()
    for table in tables:
        buffer = io.BytesIO()
        pa.csv.write_csv(_as_text(table), buffer, options)
        yield buffer.getvalue()


def _json(tables: Iterable[pa.Table], about: dict[str, Any]) -> Iterator[bytes]:
    yield (json.dumps(about)[:-1] + ', "parcels": [').encode()
    comma = ""
    for table in tables:
        for parcel in _parcels(table):
            yield (comma + parcel).encode()
            comma = ",\n"
    yield b"]}\n"


def one_parcel(table: pa.Table, about: dict[str, Any]) -> bytes:
    """Return the JSON document of one parcel: ``about``, ``rows`` and ``columns``."""
    shown = table.select([name for name in table.column_names if name != "pid"])
    text = _columns(*_cells(shown), 0, table.num_rows)
    head = json.dumps({**about, "rows": table.num_rows})
    return f'{head[:-1]}, "columns": {text}}}\n'.encode()


def _parcels(table: pa.Table) -> Iterator[str]:
    """Yield each parcel's object; a parcel's rows lie together."""
    names, cells = _cells(table.drop_columns("pid"))
    start = 0
    for pid, rows in groupby(table["pid"].to_pylist()):
        end = start + sum(1 for _ in rows)
        yield f'{{"pid": {json.dumps(pid)}, "columns": {_columns(names, cells, start, end)}}}'
        start = end


def _columns(names: list[str], cells: list[list[str]], start: int, end: int) -> str:
    parts = (
        f'"{name}": [{", ".join(column[start:end])}]'
        for name, column in zip(names, cells, strict=True)
    )
    return f"{{{', '.join(parts)}}}"


def _cells(table: pa.Table) -> tuple[list[str], list[list[str]]]:
    """Return a table's names and its columns in JSON's spelling.

    Arrow writes the shortest number that is read back as the same 32-bit one.
    """
    cells = []
    for field, column in zip(table.schema, _as_text(table).columns, strict=True):
        if pa.types.is_string(field.type) or pa.types.is_timestamp(field.type):
            texts = {text: json.dumps(text) for text in column.unique().to_pylist()}
            cells.append([texts[text] for text in column.to_pylist()])
        else:
            cells.append(pc.fill_null(column.cast(pa.string()), "null").to_pylist())
    return table.schema.names, cells


def _as_text(table: pa.Table) -> pa.Table:
    """Spell times as RFC 3339 does."""
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            text = pc.strftime(table[field.name], format=_TIME_FORMAT)
            table = table.set_column(place, field.name, text)
    return table
