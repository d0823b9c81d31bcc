"""The command ``cbm dispatch``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import Field

from cbm_core import db
from cbm_core.datasets.store import require_dataset
from cbm_core.verbs import Answer, Arguments, Context, Verb
from cbm_extract.engine.cluster.dispatcher import Dispatcher, Rules
from cbm_extract.ledger import overview
from cbm_extract.ledger.states import DEFAULT_LEASE_SECONDS, Scope
from cbm_extract.ledger.verbs import failure_lines


class _Dispatch(Arguments):
    dataset: str | None = Field(
        default=None, description="Only scenes of this dataset, as aoi:year; default: of all."
    )
    once: bool = Field(
        default=False, description="Return when nothing is open any more, instead of waiting."
    )
    max_scenes: int = Field(
        default=40,
        ge=1,
        description="Scenes worked on at once, whatever the number of workers: each takes one"
        " connection to the database, and a second one for a moment now and then (40).",
    )
    lease_seconds: float = Field(
        default=DEFAULT_LEASE_SECONDS,
        ge=1,
        le=86_400,
        description="How long a worker that fell silent keeps its scene from others.",
    )
    poll_seconds: float = Field(
        default=1.0, ge=0.05, le=3600, description="How often to look for work and workers (1)."
    )


def _dispatch(arguments: _Dispatch, context: Context) -> Answer:
    with db.session(context.settings) as connection, db.transaction(connection) as cursor:
        dataset = require_dataset(cursor, arguments.dataset) if arguments.dataset else None
    scope = Scope(dataset.id if dataset else None)
    rules = Rules(
        arguments.lease_seconds, arguments.poll_seconds, arguments.max_scenes, arguments.once
    )
    dispatcher = Dispatcher(context.settings, scope, rules)
    with _told_to_stop(dispatcher):
        tally = dispatcher.run()
    with db.session(context.settings) as connection, db.transaction(connection) as cursor:
        failed = overview.failures(cursor, scope, active_only=True)
    return Answer(
        changed=bool(tally.items.get("done")),
        result={
            "scenes": tally.scenes,
            "rows": tally.rows,
            "items": tally.items,
            "failed": [failure.as_json() for failure in failed],
        },
        text="\n".join(
            [f"{tally.scenes} scenes done, {tally.rows} rows written.", *failure_lines(failed)]
        ),
    )


@contextmanager
def _told_to_stop(dispatcher: Dispatcher) -> Iterator[None]:
    """Take SIGTERM and an interrupt as the wish to end in good order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: dispatcher.stop()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


DISPATCH = Verb("Keep the cluster's workers busy with open scenes.", _Dispatch, _dispatch)
