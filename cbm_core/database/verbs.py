"""The commands ``cbm db size|check|compact``."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cbm_core import db
from cbm_core.database import checks, partitions, sizes
from cbm_core.database.partitions import Due, Month
from cbm_core.database.sizes import human
from cbm_core.datasets.store import require_dataset
from cbm_core.db import Cursor
from cbm_core.errors import CbmError
from cbm_core.progress import step
from cbm_core.verbs import Answer, Arguments, ChangingArguments, Context, Verb

_DATASET = Field(default=None, description="Only this dataset (aoi:year); default all.")


class _Size(Arguments):
    dataset: str | None = _DATASET


class _Check(Arguments):
    dataset: str | None = _DATASET


class _Compact(ChangingArguments):
    dataset: str | None = _DATASET


def _dataset_id(cursor: Cursor, name: str | None) -> int | None:
    return None if name is None else require_dataset(cursor, name).id


def _size(arguments: _Size, context: Context) -> Answer:
    with db.session(context.settings) as connection, db.transaction(connection) as cursor:
        found = partitions.months(cursor, _dataset_id(cursor, arguments.dataset))
        rows = [_month(month, partitions.disorder(cursor, month)) for month in found]
        tables = sizes.tables(cursor)
        total = sizes.database_bytes(cursor)
    lines = [_month_line(row) for row in rows]
    lines += [f"{t.name}  {t.rows} rows  {human(t.bytes)}" for t in tables]
    lines.append(f"database  {human(total)}")
    return Answer(
        result={"months": rows, "tables": [vars(t) for t in tables], "database_bytes": total},
        text="\n".join(lines),
    )


def _month(month: Month, share: float | None) -> dict[str, Any]:
    per_row = month.bytes_per_band_row
    return {
        "dataset": month.dataset,
        "month": f"{month.month:%Y-%m}",
        "rows": month.rows,
        "band_rows": round(month.rows * month.variables),
        "heap_bytes": month.heap_bytes,
        "index_bytes": month.index_bytes,
        "bytes_per_band_row": None if per_row is None else round(per_row, 1),
        "compacted_at": month.compacted_at.isoformat() if month.compacted_at else None,
        "disorder": None if share is None else round(share, 3),
    }


def _month_line(row: dict[str, Any]) -> str:
    per_row, share = row["bytes_per_band_row"], row["disorder"]
    parts = [
        f"{row['dataset']} {row['month']}",
        f"{row['rows']} rows",
        f"heap {human(row['heap_bytes'])}",
        f"index {human(row['index_bytes'])}",
        f"{per_row} bytes per band-row" if per_row else "",
        f"compacted {row['compacted_at'][:10]}" if row["compacted_at"] else "never compacted",
        f"{share:.0%} out of order" if share is not None else "",
    ]
    return "  ".join(part for part in parts if part)


def _check(arguments: _Check, context: Context) -> Answer:
    with db.session(context.settings) as connection:
        with db.transaction(connection) as cursor:
            months = partitions.months(cursor, _dataset_id(cursor, arguments.dataset))
            found = checks.of_schema(cursor)
        with step("Checking", len(months), "months") as progress:
            for month in months:
                with db.transaction(connection) as cursor:
                    found += checks.of_month(cursor, month)
                progress.advance()
    if found:
        raise CbmError(
            "database_unsound",
            "\n".join([f"{len(found)} findings:", *(one.line for one in found)]),
            "Mend them and run `cbm db check` again.",
            findings=[vars(one) for one in found],
        )
    names = [month.name for month in months]
    return Answer(
        result={"months": names, "findings": []},
        text=f"Sound: schema, rights, ledger and {len(names)} months of signatures.",
    )


def _compact(arguments: _Compact, context: Context) -> Answer:
    with db.session(context.settings) as connection:
        with db.transaction(connection) as cursor:
            due = partitions.plan(cursor, _dataset_id(cursor, arguments.dataset))
        compacted, busy = due, list[Due]()
        if not arguments.check:
            with step("Compacting", len(due), "months") as progress:
                compacted, busy = partitions.compact_due(connection, due, progress.advance)
    lines = [f"put {one.month.name} in parcel order: {one.reason}" for one in compacted]
    waiting = [f"{one.month.name} is busy: later" for one in busy]
    done = f"{len(compacted)} months compacted." if due else "Nothing is due."
    return Answer(
        changed=bool(compacted),
        plan=lines,
        result={
            "compacted": [one.month.name for one in compacted],
            "busy": [one.month.name for one in busy],
        },
        text="" if arguments.check and due else "\n".join([*lines, *waiting, done]),
    )


SIZE = Verb("Show what takes how much space, and how ordered it is.", _Size, _size)
CHECK = Verb("Look for what no constraint guards: orphans, rights, indexes.", _Check, _check)
COMPACT = Verb("Put months of signatures that are due in parcel order.", _Compact, _compact)
