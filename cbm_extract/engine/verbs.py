"""The command ``cbm extract``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from cbm_core import db
from cbm_core.datasets.store import Dataset, require_dataset
from cbm_core.db import Cursor
from cbm_core.errors import CbmError
from cbm_core.verbs import Answer, ChangingArguments, Context, Verb, positional
from cbm_extract.engine import serial, waiting
from cbm_extract.engine.worker import Tally
from cbm_extract.ledger import claims, enqueue, overview, rate
from cbm_extract.ledger.enqueue import EnqueuePlan, Wanted
from cbm_extract.ledger.states import DEFAULT_LEASE_SECONDS, Scope
from cbm_extract.ledger.verbs import failure_lines, table
from cbm_extract.products import catalogue
from cbm_extract.products.definition import Product
from cbm_extract.store import products as store

DEFAULT_PRODUCT = "s2"


class _Extract(ChangingArguments):
    dataset: str = positional("Dataset aoi:year, e.g. ie:2024.")
    products: list[str] | None = Field(
        default=None,
        description="Products to extract, by name: presets, those of --product-file, or those "
        "extracted before; repeatable. Default: all of the file, or else s2.",
    )
    product_file: Path | None = Field(
        default=None, description="YAML that defines products (see `cbm product list`)."
    )
    start: date | None = Field(
        default=None, description="First day of scenes (UTC); default: the dataset's imagery start."
    )
    end: date | None = Field(
        default=None, description="Last day, inclusive; default: the dataset's imagery end."
    )
    engine: Literal["serial", "cluster"] = Field(
        default="serial",
        description="serial: this process does it; cluster: the workers do that `cbm dispatch`"
        " keeps busy (serial).",
    )
    wait: bool = Field(
        default=True,
        description="With engine cluster: return when all is done; otherwise as soon as it is in"
        " the ledger.",
    )
    lease_seconds: float = Field(
        default=DEFAULT_LEASE_SECONDS,
        ge=1,
        le=86_400,
        description="With engine serial: how long a worker that fell silent keeps its scene from"
        " others.",
    )

    @model_validator(mode="after")
    def _together(self) -> _Extract:
        if self.start and self.end and self.start > self.end:
            raise ValueError("start is after end")
        if self.engine == "serial" and not self.wait:
            raise ValueError("only the engine cluster can work without being waited for")
        if self.engine == "cluster" and "lease_seconds" in self.model_fields_set:
            raise ValueError("the lease of the engine cluster is set at `cbm dispatch`")
        return self


@dataclass(frozen=True)
class ExtractPlan:
    """What an extraction does: products to register, scenes to enqueue, scenes open already.

    ``failed`` items are left as they are, and the extraction fails for them. Scenes that are open
    already are nothing to do where they are not waited for.
    """

    dataset: Dataset
    products: tuple[Product, ...]
    unregistered: tuple[Product, ...]
    enqueue: EnqueuePlan
    open_scenes: int
    failed: int

    @property
    def lines(self) -> list[str]:
        """The plan in words, empty when there is nothing to do."""
        lines = [f"register product {product.name}" for product in self.unregistered]
        lines += self.enqueue.lines
        if self.open_scenes:
            lines.append(f"go on with {self.open_scenes} scenes that are open")
        return lines


def plan(cursor: Cursor, arguments: _Extract) -> ExtractPlan:
    """Find what is to be done; changes nothing.

    Raises:
        CbmError: ``dataset_unknown``, ``product_unknown``, ``products_invalid``, ``no_parcels``,
            ``period_invalid``.

    """
    dataset = require_dataset(cursor, arguments.dataset)
    chosen = _choose(cursor, arguments)
    ids = {product.name: store.find(cursor, product) for product in chosen}
    wanted = [Wanted(product.name, product.card, ids[product.name]) for product in chosen]
    start = arguments.start or dataset.imagery_start
    end = arguments.end or dataset.imagery_end
    if start > end:
        raise CbmError(
            "period_invalid",
            f"The period would start {start}, after its end {end}.",
            f"The imagery of {dataset.name} is from {dataset.imagery_start} to"
            f" {dataset.imagery_end}; give both start and end to go beyond.",
        )
    todo = enqueue.plan(cursor, dataset.id, wanted, start, end)
    known = tuple(number for number in ids.values() if number is not None)
    scope = Scope(dataset.id, known)
    left = claims.backlog(cursor, scope)
    return ExtractPlan(
        dataset,
        tuple(chosen),
        tuple(product for product in chosen if ids[product.name] is None),
        todo,
        left.claimable + left.leased if arguments.wait else 0,
        len(overview.failures(cursor, scope, active_only=True)),
    )


def _choose(cursor: Cursor, arguments: _Extract) -> list[Product]:
    """Return the products named: of the file, of the release, or as last registered."""
    known = catalogue.presets()
    if arguments.product_file:
        mine = catalogue.load(arguments.product_file)
        known = known | mine
        default = list(mine)
    else:
        default = [DEFAULT_PRODUCT]
    found = []
    for name in dict.fromkeys(arguments.products or default):
        product = known.get(name) or store.newest(cursor, name)
        if product is None:
            names = sorted({*known, *store.names(cursor)})
            raise CbmError(
                "product_unknown",
                f"There is no product {name}; known: {', '.join(names)}.",
                "Name one of these, or define it in a file (--product-file).",
            )
        found.append(product)
    return found


@dataclass(frozen=True)
class Submitted:
    """What is in the ledger now: the scope, items enqueued, and the last run before that."""

    scope: Scope
    enqueued: int
    last_run: int


def apply(cursor: Cursor, todo: ExtractPlan) -> Submitted:
    """Register and enqueue what the plan says."""
    before = rate.last_run(cursor)
    ids = {product.name: store.register(cursor, product) for product in todo.products}
    enqueued = enqueue.apply(cursor, todo.enqueue, ids)
    return Submitted(Scope(todo.dataset.id, tuple(ids.values())), enqueued, before)


def _work(arguments: _Extract, context: Context, submitted: Submitted) -> Tally:
    """Do what is open, or wait for those who do."""
    if not arguments.wait:
        return Tally()
    if arguments.engine == "cluster":
        return waiting.run(context.settings, submitted.scope, submitted.last_run)
    return serial.run(context.settings, submitted.scope, arguments.lease_seconds)


def _extract(arguments: _Extract, context: Context) -> Answer:
    with db.session(context.settings) as connection:
        if not arguments.check:
            with db.transaction(connection) as cursor:
                claims.await_finishing(cursor, require_dataset(cursor, arguments.dataset).id)
        with db.transaction(connection) as cursor:
            todo = plan(cursor, arguments)
        if arguments.check:
            return _checked(todo)
        with db.transaction(connection) as cursor:
            submitted = apply(cursor, todo)
    tally = _work(arguments, context, submitted)
    scope, enqueued = submitted.scope, submitted.enqueued
    with db.session(context.settings) as connection, db.transaction(connection) as cursor:
        counts = overview.counts(cursor, scope)
        failed = overview.failures(cursor, scope, active_only=True)
    result = _result(todo, enqueued, tally, counts)
    if failed and arguments.wait:
        raise CbmError(
            "extraction_incomplete",
            f"{len(failed)} of {sum(map(_total, counts.values()))} items of {todo.dataset.name}"
            f" failed: {'; '.join(failure_lines(failed))}",
            f"Repair the cause, `cbm ledger retry {todo.dataset.name}`, then extract again;"
            " all other items are done.",
            failed=[failure.as_json() for failure in failed],
            result=result,
        )
    changed = bool(todo.unregistered or enqueued or tally.items.get("done"))
    said = _summary(todo, tally, result) if arguments.wait else _submitted(result)
    return Answer(
        changed=changed,
        plan=todo.lines if changed else [],
        result=result,
        text="\n".join([*said, *([table(counts)] if counts else [])]),
    )


def _checked(todo: ExtractPlan) -> Answer:
    """Answer a check, which says as well what would make the extraction fail."""
    lines = [] if todo.lines else ["Nothing to do."]
    if todo.failed:
        lines.append(
            f"{todo.failed} items failed before and would be reported again"
            f" (`cbm ledger status`, `cbm ledger retry {todo.dataset.name}`)."
        )
    return Answer(
        changed=bool(todo.lines),
        plan=todo.lines,
        result={"dataset": todo.dataset.name, "failed": todo.failed},
        text="\n".join(lines),
    )


def _result(
    todo: ExtractPlan,
    enqueued: int,
    tally: Tally,
    counts: dict[tuple[str, str], dict[str, int]],
) -> dict[str, Any]:
    """Count scenes, enqueued items and rows of this run, and items by state after it."""
    states: dict[str, int] = {}
    for row in counts.values():
        for state, number in row.items():
            states[state] = states.get(state, 0) + number
    return {
        "dataset": todo.dataset.name,
        "products": [product.name for product in todo.products],
        "enqueued": enqueued,
        "scenes": tally.scenes,
        "rows": tally.rows,
        "done": states.get("done", 0),
        "failed": states.get("failed", 0),
        "open": states.get("pending", 0) + states.get("running", 0),
        "held": states.get("held", 0),
    }


def _total(states: dict[str, int]) -> int:
    return sum(states.values())


def _summary(todo: ExtractPlan, tally: Tally, result: dict[str, Any]) -> list[str]:
    if tally.scenes:
        lines = [f"{tally.scenes} scenes of {todo.dataset.name} done, {tally.rows} rows written."]
    elif result["done"]:
        lines = ["Nothing to do: everything is extracted."]
    else:
        lines = [f"No active scene of the period shows a parcel of {todo.dataset.name}."]
    if tally.items.get("replaced"):
        lines.append(
            f"{tally.items['replaced']} items came out otherwise than before; their old rows are in"
            " cbm.signature_archived."
        )
    if result["held"]:
        lines.append(
            f"{result['held']} items wait: their scenes are held (`cbm scenes list --state held`)."
        )
    return lines


def _submitted(result: dict[str, Any]) -> list[str]:
    return [
        f"{result['enqueued']} items enqueued, {result['open']} are open;"
        " `cbm ledger status` shows how far they are."
    ]


EXTRACT = Verb("Reduce scenes to statistics of parcels.", _Extract, _extract)
