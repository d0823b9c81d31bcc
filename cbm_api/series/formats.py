"""Tables of series as bytes, piece by piece: JSON, CSV, an Arrow stream, Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Literal

import numpy as np
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
    """Return the JSON document of one parcel: ``about``, ``rows`` and ``columns`` but ``pid``."""
    names = [name for name in table.column_names if name != "pid"]
    (text,) = _columns(table.select(names), [0])
    head = json.dumps({**about, "rows": table.num_rows})
    return f'{head[:-1]}, "columns": {text}}}\n'.encode()


def _parcels(table: pa.Table) -> Iterator[str]:
    """Yield each parcel's object; a parcel's rows lie together."""
    pids = table["pid"].to_pylist()
    starts = [place for place, pid in enumerate(pids) if not place or pid != pids[place - 1]]
    if not starts:
        return
    for start, text in zip(starts, _columns(table.drop_columns("pid"), starts), strict=True):
        yield f'{{"pid": {json.dumps(pids[start])}, "columns": {text}}}'


def _columns(table: pa.Table, starts: Sequence[int]) -> list[str]:
    """Return the object of columns of each part of a table that begins at one of ``starts``.

    The work is Arrow's: in Python a hundred columns would take longer than reading them.
    """
    columns = [column.combine_chunks() for column in table.columns]
    alike = groupby(columns, key=lambda column: column.type)
    cells = pa.concat_arrays([_cells(pa.concat_arrays(list(run))) for _, run in alike])
    firsts = np.arange(table.num_columns)[:, None] * table.num_rows + np.array(starts)
    offsets = np.append(firsts.ravel(), len(cells)).astype(np.int32)
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), cells), ", ").to_pylist()
    heads = [f'"{name}": [' for name in table.schema.names]
    return [
        "{" + ", ".join(f"{head}{text}]" for head, text in zip(heads, part, strict=True)) + "}"
        for part in (joined[place :: len(starts)] for place in range(len(starts)))
    ]


def _cells(column: Any) -> Any:
    """Return values in JSON's spelling, as texts.

    Arrow writes the shortest number that is read back as the same 32-bit one.
    """
    if pa.types.is_timestamp(column.type):
        column = pc.strftime(column, format=_TIME_FORMAT)
    if pa.types.is_string(column.type):
        coded = column.dictionary_encode()
        column = pa.array([json.dumps(text) for text in coded.dictionary.to_pylist()], pa.string())
        column = column.take(coded.indices)
    return pc.fill_null(column.cast(pa.string()), "null")


def _as_text(table: pa.Table) -> pa.Table:
    """Spell times as RFC 3339 does."""
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            text = pc.strftime(table[field.name], format=_TIME_FORMAT)
            table = table.set_column(place, field.name, text)
    return table
