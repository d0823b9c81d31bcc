"""What all parts of the client share: parameters as the API spells them, answers as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd

from cbm_client.errors import ApiError
from cbm_client.transport import Transport, segment

# A day, a moment (without a zone: UTC), or two of them; None leaves an end open. Texts are the
# API's own: "2024-05-01", "2024-05-01/2024-06-30", "2024-05-01/..".
Moment = str | date | datetime
When = Moment | tuple[Moment | None, Moment | None]

_TIMES = {
    "obstime", "start", "end", "reference_time", "datetime", "valid_from", "valid_to",
}  # fmt: skip


class Asking:
    """A part of the client; holds the transport that all of them use."""

    _transport: Transport

    def _json(self, path: str, **query: Any) -> dict[str, Any]:
        answer = self._transport.get(path, given(query))
        try:
            document = answer.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ApiError("not_the_api", f"{self._transport.url} does not answer as the API does.")
        return document


def collection_path(collection: str) -> str:
    """Return the path of a collection."""
    return f"/v1/collections/{segment(collection)}"


def parcel_path(collection: str, pid: str) -> str:
    """Return the path of a parcel; ids may hold slashes."""
    return f"{collection_path(collection)}/items/{segment(str(pid))}"


def given(query: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters as they stand in an address; those that are None are left out."""
    return {name: _spelled(name, value) for name, value in query.items() if value is not None}


def when(value: When) -> str:
    """Return a time as the API spells it.

    Raises:
        TypeError: It is none.

    """
    if isinstance(value, tuple):
        start, end = value
        return f"{'..' if start is None else when(start)}/{'..' if end is None else when(end)}"
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        utc = aware.astimezone(UTC).replace(tzinfo=None)
        return f"{utc.isoformat(timespec='microseconds')}Z"
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"expected a date, a moment, a text or a pair of them, found {value!r}")


def names(value: str | Iterable[str]) -> list[str]:
    """Return names that are given as a list, or as a text with commas."""
    return value.split(",") if isinstance(value, str) else [str(one) for one in value]


def table(rows: Iterable[Mapping[str, Any]], columns: Iterable[str] = ()) -> pd.DataFrame:
    """Return a row per document; times are UTC, ``relative_orbit`` is an integer or <NA>.

    ``columns`` are there, and come first, also when there is no row.
    """
    return typed(untyped(rows, columns))


def untyped(rows: Iterable[Mapping[str, Any]], columns: Iterable[str] = ()) -> pd.DataFrame:
    """Return a row per document, with values as they came; ``columns`` as in :func:`table`."""
    found = list(rows)
    first = list(columns)
    rest = (name for row in found for name in row)
    return pd.DataFrame(found, columns=list(dict.fromkeys([*first, *rest])))


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Give the columns of an answer in JSON their types."""
    for name in frame.columns:
        if name in _TIMES:
            frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601").dt.as_unit("us")
        elif name == "relative_orbit":
            frame[name] = frame[name].astype("Int16")
    return frame


def _spelled(name: str, value: Any) -> str:
    if name in ("datetime", "as_of"):
        return when(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, Iterable):
        return ",".join(str(one) for one in value)
    return str(value)
