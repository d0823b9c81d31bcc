"""The command ``cbm user log``: who read which parcels, and for how long that is remembered."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from pydantic import Field

from cbm_core import db
from cbm_core.datasets.store import NAME as DATASET
from cbm_core.db import Cursor
from cbm_core.errors import CbmError
from cbm_core.users import store
from cbm_core.verbs import Answer, ChangingArguments, Context, Verb

_SHOWN = 5


class _Log(ChangingArguments):
    user: str | None = Field(default=None, description="Reads of this user only.")
    dataset: str | None = Field(
        default=None, description="Reads of this dataset (aoi:year) only.", pattern=DATASET.pattern
    )
    parcel: str | None = Field(default=None, description="Reads that named this parcel only.")
    start: date | None = Field(default=None, description="First day (UTC).")
    end: date | None = Field(default=None, description="Last day (UTC), inclusive.")
    limit: int = Field(default=100, ge=1, le=100_000, description="How many, the newest first.")
    forget_before: date | None = Field(
        default=None, description="Delete what is older than this day (UTC); shows nothing."
    )


def _log(arguments: _Log, context: Context) -> Answer:
    with db.session(context.settings, "owner") as connection, db.transaction(connection) as cursor:
        if arguments.forget_before is not None:
            return _forget(cursor, arguments, arguments.forget_before)
        wanted = store.Reads(
            **arguments.model_dump(include={"user", "dataset", "parcel", "start", "end"})
        )
        found = store.reads(cursor, wanted, arguments.limit)
    text = "\n".join(_line(read) for read in found) or "Nobody read anything like that."
    return Answer(result={"reads": found}, text=text)


def _forget(cursor: Cursor, arguments: _Log, day: date) -> Answer:
    chosen = arguments.model_fields_set - {"forget_before", "check"}
    if chosen or day > datetime.now(UTC).date():
        raise CbmError(
            "arguments_invalid",
            f"forget_before {day} deletes every read before that day; expected a day that has"
            " come, and no selection beside it.",
        )
    act = store.count_reads_before if arguments.check else store.forget_reads_before
    number = act(cursor, day)
    lines = [f"forget {number} reads before {day}"] if number else []
    if lines and not arguments.check:
        store.audit(cursor, "user log", "*", lines)
    return Answer(
        changed=bool(lines),
        plan=lines,
        result={"forgotten": 0 if arguments.check else number},
        text="" if arguments.check and lines else f"Forgot {number} reads before {day}.",
    )


def _line(read: dict[str, Any]) -> str:
    parcels = read.get("parcels")
    if isinstance(parcels, list):
        more = f" and {len(parcels) - _SHOWN} more" if len(parcels) > _SHOWN else ""
        what = f"{', '.join(parcels[:_SHOWN])}{more}"
    else:
        what = f"{parcels} parcels"
    return "  ".join(
        [read["at"][:19], read["user"], str(read.get("dataset")), what, str(read.get("route"))]
    )


LOG = Verb("Show who read which parcels; forget what is old.", _Log, _log)
