"""Where the database is: one TOML file, or libpq's own environment.

The file (``/etc/cbm/cbm.toml``, or the path in ``CBM_CONFIG``) holds no secret; passwords stand in
the file that ``passfile`` names (libpq's format, mode 0600)::

    [database]
    host = "/run/postgresql"
    port = 5433
    dbname = "cbm"
    user = "cbm_extractor"

    [database.owner]        # what differs for `cbm schema`
    user = "cbm_admin"
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cbm_core.errors import CbmError

DEFAULT_CONFIG = Path("/etc/cbm/cbm.toml")
CONFIG_VARIABLE = "CBM_CONFIG"

Duty = Literal["ingest", "owner"]

_KEYS = frozenset(
    "host port dbname user passfile service sslmode sslrootcert sslcert sslkey "
    "connect_timeout".split()
)


@dataclass(frozen=True)
class Settings:
    """Connection parameters by duty, as libpq keywords."""

    database: dict[str, str] = field(default_factory=dict)
    owner: dict[str, str] = field(default_factory=dict)

    def connection(self, duty: Duty) -> dict[str, str]:
        """Return libpq keywords for a duty: the common ones, then the duty's own."""
        return {**self.database, **(self.owner if duty == "owner" else {})}


def load(path: Path | None = None) -> Settings:
    """Read the settings file; without one, libpq's environment (PGHOST, PGSERVICE, ...) serves.

    Raises:
        CbmError: ``config_missing`` when a path was named but is not there, ``config_invalid``
            when the file is not TOML, or has keys that mean nothing.

    """
    named = path or (Path(os.environ[CONFIG_VARIABLE]) if CONFIG_VARIABLE in os.environ else None)
    file = named or DEFAULT_CONFIG
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        if named is None:
            return Settings()
        raise CbmError(
            "config_missing",
            f"The configuration file {file} does not exist.",
            f"Correct {CONFIG_VARIABLE} or --config, or create the file.",
        ) from None
    except OSError as error:
        raise CbmError(
            "config_unreadable",
            f"The configuration file {file} cannot be read: {error.strerror}.",
            "Run as a user who may read it.",
        ) from None
    return _parse(text, file)


def _parse(text: str, file: Path) -> Settings:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CbmError("config_invalid", f"{file} is not valid TOML: {error}.") from None
    database: dict[str, Any] = dict(document.pop("database", {}))
    owner = database.pop("owner", {})
    unknown = sorted([*document, *(set(database) - _KEYS), *(set(owner) - _KEYS)])
    if unknown:
        raise CbmError(
            "config_invalid",
            f"{file} has keys that mean nothing here: {', '.join(unknown)}.",
            f"Known keys of [database] and [database.owner]: {', '.join(sorted(_KEYS))}.",
        )
    return Settings(
        database={key: str(value) for key, value in database.items()},
        owner={key: str(value) for key, value in owner.items()},
    )
