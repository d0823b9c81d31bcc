"""The commands ``cbm ledger status|retry|redo``."""

from __future__ import annotations

from pydantic import Field

from cbm_core import db
from cbm_core.datasets.store import require_dataset
from cbm_core.verbs import Answer, Arguments, ChangingArguments, Context, Verb, positional
from cbm_extract.ledger import overview, rate, redo
from cbm_extract.ledger.overview import Failure
from cbm_extract.ledger.states import STATES, Scope
from cbm_extract.store import standing
from cbm_extract.store.products import registered_ids

_LISTED = 20


class _Status(Arguments):
    dataset: str | None = Field(default=None, description="Only this dataset, as aoi:year.")


class _Retry(ChangingArguments):
    dataset: str = positional("Dataset, as aoi:year.")
    products: list[str] | None = Field(
        default=None, description="Only items of this product (s2, or s2@2); repeatable."
    )
    code: str | None = Field(default=None, description="Only items that failed with this code.")
    scene: str | None = Field(default=None, description="Only items of the scene so named.")


class _Redo(ChangingArguments):
    dataset: str = positional("Dataset, as aoi:year.")
    products: list[str] | None = Field(
        default=None, description="Only items of this product (s2, or s2@2); repeatable."
    )
    scene: str | None = Field(default=None, description="Only the scene so named.")
    reason: str | None = Field(
        default=None, description="Why; kept in the ledger and in the audit trail."
    )


def _status(arguments: _Status, context: Context) -> Answer:
    with db.session(context.settings) as connection, db.transaction(connection) as cursor:
        dataset = require_dataset(cursor, arguments.dataset) if arguments.dataset else None
        scope = Scope(dataset.id if dataset else None)
        counts = overview.counts(cursor, scope)
        failed = overview.failures(cursor, scope)
        pace = rate.progress(cursor, scope)
    rows = [
        {"dataset": dataset_name, "product": product, **states}
        for (dataset_name, product), states in counts.items()
    ]
    return Answer(
        result={
            "items": rows,
            "failed": [failure.as_json() for failure in failed],
            **pace.as_json(),
        },
        text="\n".join([table(counts), *filter(None, [pace.line]), *failure_lines(failed)])
        if rows
        else "The ledger is empty.",
    )


def table(counts: dict[tuple[str, str], dict[str, int]]) -> str:
    """Lay out :func:`cbm_extract.ledger.overview.counts` for people."""
    others = sorted({state for states in counts.values() for state in states} - set(STATES))
    columns = [*STATES, *others]
    lines = [["dataset", "product", *columns]]
    lines += [
        [*name, *(str(states.get(column, 0)) for column in columns)]
        for name, states in counts.items()
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def failure_lines(failed: list[Failure]) -> list[str]:
    """Describe failures for people, the first twenty of them."""
    lines = [
        f"failed: {f.reference}{' ' + f.part if f.part else ''} ({f.product},"
        f" {f.attempts} attempts): {f.error}"
        for f in failed[:_LISTED]
    ]
    if len(failed) > _LISTED:
        lines.append(f"... and {len(failed) - _LISTED} more")
    return lines


def _retry(arguments: _Retry, context: Context) -> Answer:
    with db.session(context.settings) as connection, db.transaction(connection) as cursor:
        dataset = require_dataset(cursor, arguments.dataset)
        products = registered_ids(cursor, arguments.products) if arguments.products else None
        if arguments.scene:
            standing.require(cursor, arguments.scene, None)
        failed = overview.failures(
            cursor, Scope(dataset.id, products), code=arguments.code, reference=arguments.scene
        )
        if not arguments.check:
            overview.retry(cursor, [failure.item_id for failure in failed])
    plan = [f"retry {f.product} of {f.reference} {f.part}".rstrip() for f in failed]
    return Answer(
        changed=bool(failed),
        plan=plan,
        result={"retried": len(failed)},
        before="".join(f"{line.removeprefix('retry ')}: failed\n" for line in plan),
        after="".join(f"{line.removeprefix('retry ')}: pending\n" for line in plan),
        text=_retry_text(dataset.name, len(failed), done=not arguments.check),
    )


def _retry_text(dataset: str, failed: int, *, done: bool) -> str:
    if not failed:
        return "No failed items."
    return f"{failed} failed items put back; `cbm extract {dataset}` does them." if done else ""


def _redo(arguments: _Redo, context: Context) -> Answer:
    with db.session(context.settings) as connection, db.transaction(connection) as cursor:
        dataset = require_dataset(cursor, arguments.dataset)
        products = registered_ids(cursor, arguments.products) if arguments.products else None
        if arguments.scene:
            standing.require(cursor, arguments.scene, None)
        found = redo.find(cursor, Scope(dataset.id, products), arguments.scene)
        if not arguments.check:
            redo.mark(cursor, dataset.name, found, arguments.reason)
    plan = [f"extract {one.product} of {one.scene} again" for one in found]
    return Answer(
        changed=bool(found),
        plan=plan,
        result={"dataset": dataset.name, "marked": len(found)},
        before="".join(f"{one.product} of {one.scene}: {one.state}\n" for one in found),
        after="".join(f"{one.product} of {one.scene}: {one.state_after}\n" for one in found),
        text=_redo_text(dataset.name, len(found), done=not arguments.check),
    )


def _redo_text(dataset: str, found: int, *, done: bool) -> str:
    if not found:
        return "No items with stored rows that are not to be extracted again already."
    if not done:
        return ""
    return (
        f"{found} items are to be extracted again; `cbm extract {dataset}` does them."
        " Rows that come out the same stay; others are archived and replaced."
    )


STATUS = Verb("Count items by state, and say what failed and why.", _Status, _status)
RETRY = Verb("Put failed items back to work.", _Retry, _retry)
REDO = Verb("Have done items extracted again in full, archiving what differs.", _Redo, _redo)
