"""What a request needs: who asks, on whose behalf the database answers, what is logged of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from flask import Response, current_app, g, request
from psycopg2.extras import Json

from cbm_api.database import Database
from cbm_core.db import Cursor

ViewT = TypeVar("ViewT", bound=Callable[..., object])


def public(view: ViewT) -> ViewT:
    """Mark a view that answers without a login; all others ask for one."""
    view.is_public = True  # type: ignore[attr-defined]
    return view


def user() -> str:
    """Return the name of the user who asks."""
    return str(g.user)


def database() -> Database:
    """Return this process's database sessions."""
    found: Database = current_app.extensions["cbm_database"]
    return found


@contextmanager
def reading() -> Iterator[Cursor]:
    """Give a cursor that sees the datasets granted to the user who asks.

    Leave the block before an answer is streamed: a slow client would keep the session.

    Raises:
        CbmError: as :meth:`cbm_api.database.Database.transaction`.

    """
    with database().transaction(user()) as cursor:
        yield cursor


def when_sent(response: Response, done: Callable[[], object]) -> None:
    """Call ``done`` once an answer was sent, or the client is gone."""
    if not response.direct_passthrough:
        response.call_on_close(done)
        return
    # The server sends files by itself, and closes nothing but them.
    sent: Any = response.response
    close = sent.close

    def closed() -> None:
        try:
            close()
        finally:
            done()

    sent.close = closed


def log_read(cursor: Cursor, dataset: str, parcels: Sequence[str] | int) -> None:
    """Write down who reads what, in the transaction that reads it.

    ``parcels`` are the ids that were asked for, or how many there were where a whole area was.
    """
    detail = {
        "dataset": dataset,
        "parcels": parcels if isinstance(parcels, int) else list(parcels),
        "route": request.url_rule.rule if request.url_rule else request.path,
        "request": g.request_id,
        "address": request.remote_addr,
    }
    cursor.execute(
        "INSERT INTO cbm.audit (who, action, detail) VALUES (%s, 'read', %s)",
        (f"api:{user()}", Json(detail)),
    )
