"""The commands ``cbm signatures export|restore``."""

from __future__ import annotations

from contextlib import closing
from datetime import date
from pathlib import Path

from pydantic import Field, model_validator

from cbm_core import db
from cbm_core.database.sizes import human
from cbm_core.verbs import Answer, ChangingArguments, Context, Verb, positional
from cbm_extract.archive import export, restore


class _Export(ChangingArguments):
    dataset: str = positional("Dataset, aoi:year.")
    folder: Path = Field(description="Where to write: a new folder, or an earlier export's.")
    start: date | None = Field(
        default=None, description="Only months from the one of this day on; default all."
    )
    end: date | None = Field(
        default=None, description="Only months up to the one of this day; default all."
    )
    products: list[str] | None = Field(
        default=None, description="Only these products; default all that have rows."
    )

    @model_validator(mode="after")
    def _period(self) -> _Export:
        if self.start and self.end and self.start > self.end:
            raise ValueError("start is after end")
        return self


class _Restore(ChangingArguments):
    folder: Path = positional("The folder that `cbm signatures export` wrote.")


def _export(arguments: _Export, context: Context) -> Answer:
    with closing(export.snapshot(context.settings)) as connection, db.readable_errors():
        with connection.cursor() as cursor:
            plan = export.plan(
                cursor, arguments.dataset, arguments.start, arguments.end, arguments.products
            )
        export.prepare(arguments.folder, arguments.dataset)
        lines = [f"write {arguments.folder / part.path}" for part in plan.parts]
        if arguments.check:
            return Answer(changed=True, plan=lines, result={"folder": str(arguments.folder)})
        done = export.run(connection, plan, arguments.folder)
    count = len(done.manifest.signatures)
    text = f"{done.rows} rows in {count} files, {human(done.bytes)} with tables: {arguments.folder}"
    if done.unlike_evidence:
        text += (
            f"\n{len(done.unlike_evidence)} slices are not as their run wrote them:"
            f" {', '.join(done.unlike_evidence[:5])}. Run `cbm db check`."
        )
    return Answer(
        changed=True,
        plan=lines,
        result={
            "folder": str(arguments.folder),
            "rows": done.rows,
            "bytes": done.bytes,
            "files": [file.path for file in done.manifest.files],
            "unlike_evidence": done.unlike_evidence,
        },
        text=text,
    )


def _restore(arguments: _Restore, context: Context) -> Answer:
    with db.session(context.settings, "owner") as connection:
        done = restore.run(connection, arguments.folder, check=arguments.check)
    lines = [f"add {count} rows of {name}" for name, count in done.tables.items()]
    if done.slices:
        lines.append(f"add {done.rows} rows of signature in {done.slices} slices")
    text = "\n".join(lines) if lines else "Nothing to do: all of it is there."
    return Answer(
        changed=done.changed,
        plan=lines,
        result={"tables": done.tables, "slices": done.slices, "rows": done.rows},
        text="" if arguments.check and lines else text,
    )


EXPORT = Verb("Write a dataset's signatures and tables to Parquet files.", _Export, _export)
RESTORE = Verb("Put exported signatures back into a database, or into another.", _Restore, _restore)
