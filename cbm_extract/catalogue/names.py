"""One spelling for what catalogues spell in many ways: platforms, tiles, baselines, times."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from cbm_core.errors import CbmError

COMPACT_TIME = "%Y%m%dT%H%M%S"

_SENTINEL = re.compile(r"(?:sentinel[-_ ]?|s)([1-6])[-_ ]?([a-z])", re.IGNORECASE)
_TILE = re.compile(r"(?:MGRS-|T)?([0-9]{1,2})([C-X])([A-Z]{2})", re.IGNORECASE)
_BASELINE = re.compile(r"N?([0-9]{1,2})\.?([0-9]{2})", re.IGNORECASE)


def platform(text: str) -> str:
    """Spell a platform: ``sentinel-2a``, ``Sentinel-2A`` and ``S2A`` are ``S2A``."""
    match = _SENTINEL.fullmatch(text.strip())
    return f"S{match[1]}{match[2].upper()}" if match else text.strip()


def tile(text: str) -> str:
    """Spell an MGRS tile: ``T1WCS``, ``MGRS-01WCS`` are ``01WCS``; other names stay as they are."""
    match = _TILE.fullmatch(text.strip())
    return f"{int(match[1]):02}{match[2]}{match[3]}".upper() if match else text.strip()


def baseline(text: str) -> str:
    """Spell a processing baseline as product names do: ``04.00`` is ``N0400``."""
    match = _BASELINE.fullmatch(text.strip())
    return f"N{int(match[1]):02}{match[2]}" if match else text.strip()


def baseline_number(name: str | None) -> int | None:
    """Return 400 for ``N0400``; None where there is no number, and for the test baseline N9999."""
    match = re.fullmatch(r"N([0-9]{4})", name or "")
    number = int(match[1]) if match else None
    return None if number == 9999 else number


def orbit_direction(text: str) -> str:
    """Return ``ascending`` or ``descending``.

    Raises:
        CbmError: ``orbit_direction_invalid``.

    """
    word = text.strip().lower()
    for direction in ("ascending", "descending"):
        if word and direction.startswith(word):
            return direction
    raise CbmError(
        "orbit_direction_invalid", f"Expected ascending or descending as orbit, found {text!r}."
    )


def relative_orbit(text: str) -> int:
    """Return 108 for ``R108`` or ``108``.

    Raises:
        CbmError: ``relative_orbit_invalid``.

    """
    match = re.fullmatch(r"R?([0-9]{1,3})", text.strip(), re.IGNORECASE)
    if not match:
        raise CbmError(
            "relative_orbit_invalid", f"Expected a relative orbit such as 108 or R108: {text!r}."
        )
    return int(match[1])


def absolute_orbit(text: str) -> int:
    """Return 30148 for ``030148``.

    Raises:
        CbmError: ``absolute_orbit_invalid``.

    """
    if not re.fullmatch(r"[0-9]{1,6}", text.strip()):
        raise CbmError(
            "absolute_orbit_invalid", f"Expected an absolute orbit such as 030148: {text!r}."
        )
    return int(text)


def utc(text: str, *, naive_is_utc: bool) -> datetime:
    """Read an ISO 8601 time and return it in UTC.

    ``naive_is_utc`` says what a time without zone means: UTC where the format defines its times
    so (ESA's metadata), an error where the format demands the zone (STAC).

    Raises:
        CbmError: ``time_invalid``, ``time_without_zone``.

    """
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise CbmError(
            "time_invalid", f"Expected a time such as 2024-05-01T10:50:31Z, found {text!r}."
        ) from None
    if time.tzinfo is None:
        if not naive_is_utc:
            raise CbmError(
                "time_without_zone",
                f"The time {text!r} does not say its zone.",
                "Times must end in Z or an offset such as +00:00.",
            )
        return time.replace(tzinfo=UTC)
    return time.astimezone(UTC)


def compact_utc(text: str) -> datetime:
    """Read the time form of Sentinel product names, ``20240501T105031``, as UTC.

    Raises:
        CbmError: ``time_invalid``.

    """
    try:
        return datetime.strptime(text, COMPACT_TIME).replace(tzinfo=UTC)
    except ValueError:
        raise CbmError(
            "time_invalid", f"Expected a time such as 20240501T105031, found {text!r}."
        ) from None


def whole_second(time: datetime) -> datetime:
    """Cut a time to whole seconds.

    Product names carry the datatake's start in seconds and metadata in milliseconds; cut, as the
    names are, the same acquisition is the same whatever it was catalogued from.
    """
    return time.replace(microsecond=0)
