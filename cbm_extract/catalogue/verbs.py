"""The commands ``cbm scenes add|list``."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

from pydantic import Field, model_validator

from cbm_core import db
from cbm_core.errors import CbmError
from cbm_core.verbs import Answer, Arguments, ChangingArguments, Context, Verb, positional
from cbm_extract.catalogue import register, sources
from cbm_extract.catalogue.documents import Rewrites
from cbm_extract.catalogue.reading import Reading
from cbm_extract.catalogue.register import RegisterPlan
from cbm_extract.read import staging
from cbm_extract.store import scenes as store


class _Add(ChangingArguments):
    source: str = positional(
        "A folder of rasters, a SAFE folder or a folder with some, or a STAC file, folder or URL."
    )
    format: Literal["auto", "folder", "safe", "stac", "card-bs", "card-coh6", "card-coh12"] = Field(
        default="auto",
        description="auto, folder, safe, stac, card-bs, card-coh6 or card-coh12; auto looks what"
        " is there.",
    )
    description: str | None = Field(
        default=None,
        description="YAML that explains the file names of a folder of rasters (default: scenes.yml"
        " in the folder).",
    )
    card: str | None = Field(
        default=None, description="The card expected, e.g. s2: scenes of any other are refused."
    )
    rewrite: list[str] = Field(
        default_factory=list,
        description="FROM=TO: a prefix of STAC addresses and what to put in its place, for a local"
        " mirror.",
    )


class _List(Arguments):
    card: str | None = Field(default=None, description="Only this card, e.g. s2.")
    date_from: date | None = Field(default=None, description="Only from this day (UTC) on.")
    date_to: date | None = Field(default=None, description="Only up to this day (UTC), inclusive.")
    tile: str | None = Field(default=None, description="Only this tile, e.g. 32TMT.")
    state: Literal["active", "superseded", "held", "retracted"] | None = Field(
        default=None, description="Only this state: active, superseded, held or retracted."
    )
    limit: int = Field(default=1000, ge=1, le=100_000, description="At most so many scenes.")

    @model_validator(mode="after")
    def _period(self) -> _List:
        if self.date_from and self.date_to and self.date_from > self.date_to:
            raise ValueError("date_from is after date_to")
        return self


def _read(arguments: _Add) -> tuple[sources.Source, Reading]:
    source = sources.recognise(
        arguments.source,
        None if arguments.format == "auto" else arguments.format,
        arguments.description,
    )
    reading = sources.read(source, Rewrites.parse(arguments.rewrite))
    others = sorted({scene.card for scene in reading.scenes} - {arguments.card})
    if arguments.card is not None and others:
        raise CbmError(
            "card_mismatch",
            f"Expected scenes of card {arguments.card}, found {', '.join(others)}.",
            "Correct --card, or the description's card.",
        )
    return source, reading


def _add(arguments: _Add, context: Context) -> Answer:
    staging.prepare(context.settings.storage)
    # Connected first: a database that is down should not be noticed after an hour of reading.
    with db.session(context.settings) as connection:
        source, reading = _read(arguments)
        with db.transaction(connection) as cursor:
            if not arguments.check:
                store.lock(cursor)
            plan = register.plan(store.concerned(cursor, reading.scenes), reading.scenes)
            stale = store.extracted(cursor, [update.id for update in plan.revalued])
            if not arguments.check:
                store.apply(cursor, plan)
    if stale:
        plan.warnings.append(
            f"{len(stale)} scenes with other bands, scales, offsets or no-data values than before"
            f" are extracted already, such as {stale[0]}: their stored statistics stay as they are"
            " until `cbm ledger redo` asks for new ones"
        )
    result = _result(source, reading, plan)
    return Answer(
        changed=plan.changes,
        plan=plan.lines,
        result=result,
        before=plan.describe(after=False),
        after=plan.describe(after=True),
        text=_text(result, done=not arguments.check),
    )


def _result(source: sources.Source, reading: Reading, plan: RegisterPlan) -> dict[str, Any]:
    fallen = [change for change in plan.states if change.after.state == register.SUPERSEDED]
    return {
        "source": source.address,
        "format": source.format,
        "scenes": len(reading.scenes),
        "added": len(plan.inserts),
        "changed": len(plan.updates),
        "unchanged": plan.unchanged,
        "superseded": len(fallen),
        "restored": len(plan.states) - len(fallen),
        "warnings": reading.warnings + plan.warnings,
        "skipped": [
            {"name": s.name, "code": s.error.code, "message": s.error.message, "hint": s.error.hint}
            for s in reading.skipped
        ],
    }


def _text(result: dict[str, Any], *, done: bool) -> str:
    counts = ", ".join(
        f"{result[name]} {name}"
        for name in ("added", "changed", "unchanged", "superseded", "restored")
    )
    lines = [f"{result['scenes']} scenes in {result['source']} ({result['format']}): {counts}."]
    if not done:
        lines[0] += " Nothing was written."
    lines += [f"warning: {warning}" for warning in result["warnings"]]
    lines += [f"skipped {item['name']}: {item['message']}" for item in result["skipped"]]
    return "\n".join(lines)


def _list(arguments: _List, context: Context) -> Answer:
    with db.session(context.settings) as connection, db.transaction(connection) as cursor:
        total, rows = store.listing(
            cursor,
            card=arguments.card,
            tile=arguments.tile,
            state=arguments.state,
            first_day=arguments.date_from,
            last_day=arguments.date_to,
            limit=arguments.limit,
        )
    lines = [
        f"{row['obstime']:%Y-%m-%d %H:%M:%S}  {row['card']}  {row['tile'] or '-':5}"
        f"  {row['state']:10}  {_percent(row['cloud_percent'])}  {_orbit(row):4}"
        f"  {row['reference']}" + (f"  {row['part']}" if row["part"] else "")
        for row in rows
    ]
    lines.append(f"{total} scenes." if total <= len(rows) else f"{total} scenes, the first above.")
    for row in rows:
        for name in ("obstime", "reference_time"):
            row[name] = row[name] and row[name].isoformat()
    return Answer(result={"total": total, "scenes": rows}, text="\n".join(lines))


def _percent(value: float | None) -> str:
    return "   - " if value is None else f"{value:4.0f}%"


def _orbit(row: dict[str, Any]) -> str:
    """Write direction and number as in product names elsewhere: A044, D022."""
    direction, number = row["orbit_direction"], row["relative_orbit"]
    letter = direction[0].upper() if direction else "-"
    return letter + ("-" if number is None else f"{number:03}")


ADD = Verb("Catalogue the scenes of a folder, SAFE products or a STAC catalogue.", _Add, _add)
LIST = Verb("List catalogued scenes.", _List, _list)
