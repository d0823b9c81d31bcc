"""The parameter ``datetime`` of OGC API: a moment, or an interval whose ends may be open."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cbm_core.errors import CbmError

_MOMENT = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[Tt]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:[Zz]|[+-]\d{2}:\d{2})?)?"
)
_OPEN = {"", ".."}
_FIRST, _LAST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True)
class Period:
    """From ``start`` to before ``end``, UTC."""

    start: datetime = _FIRST
    end: datetime = _LAST


def parse(text: str | None) -> Period:
    """Return the period that a parameter means; days comprise all their hours, UTC.

    Raises:
        CbmError: ``bad_parameter``.

    """
    if text is None:
        return Period()
    first, slash, last = text.partition("/")
    if slash and first in _OPEN and last in _OPEN:
        raise _bad(text)
    start = _FIRST if slash and first in _OPEN else _moment(first, text)[0]
    end = _LAST if last in _OPEN and slash else _moment(last if slash else first, text)[1]
    if start >= end:
        raise _bad(text)
    return Period(start, end)


def _moment(part: str, text: str) -> tuple[datetime, datetime]:
    """Return when a day or moment begins, and when it is over."""
    if not _MOMENT.fullmatch(part):
        raise _bad(text)
    try:
        found = datetime.fromisoformat(part.upper())
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _bad(text) from None
    if not _FIRST <= found < _LAST:
        raise _bad(text)
    is_day = len(part) == len("2024-05-01")
    return found, found + (timedelta(days=1) if is_day else timedelta(microseconds=1))


def _bad(text: str) -> CbmError:
    return CbmError(
        "bad_parameter",
        f"datetime is {text[:80]!r}; expected a day or moment from 1900 to 2999 (2024-05-01,"
        " 2024-05-01T10:30:00Z), or two with a slash between, one of which may be '..'.",
    )
