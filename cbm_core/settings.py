"""Where database, object storage and workers are: one TOML file, or libpq's own environment.

The file (``/etc/cbm/cbm.toml``, or the path in ``CBM_CONFIG``) holds no secret; passwords stand in
the file that ``passfile`` names (libpq's format, mode 0600)::

    [database]
    host = "/run/postgresql"
    port = 5433
    dbname = "cbm"
    user = "cbm_extractor"

    [database.owner]        # what differs for `cbm schema`
    user = "cbm_admin"

    [storage]               # where s3:// addresses are; without it, AWS's own environment serves
    endpoint = "https://s3.example"
    virtual_hosting = false
    credentials_file = "/etc/cbm/s3-credentials"

    [engine]                # how scenes are worked on
    threads = 2
    scheduler = "tls://manager:8786"
    tls_ca_file = "/etc/cbm/pki/ca.pem"
    tls_cert_file = "/etc/cbm/pki/host.pem"
    tls_key_file = "/etc/cbm/pki/host.key"

    [api]                   # of a host that serves the API
    listen = "127.0.0.1:8080"
    pool_size = 4
    cors_origins = "https://maps.example https://tables.example"
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from cbm_core.errors import CbmError

DEFAULT_CONFIG = Path("/etc/cbm/cbm.toml")
CONFIG_VARIABLE = "CBM_CONFIG"

Duty = Literal["ingest", "owner"]

_Section = TypeVar("_Section", "StorageSettings", "EngineSettings", "ApiSettings")
_KINDS = {str: "a text in quotes", int: "a whole number", bool: "true or false"}

_DATABASE_KEYS = frozenset(
    "host port dbname user passfile service sslmode sslrootcert sslcert sslkey "
    "connect_timeout".split()
)


@dataclass(frozen=True)
class StorageSettings:
    """The object storage that ``s3://`` addresses mean.

    ``credentials_file`` is in AWS's format, mode 0600; ``profile`` names its section. Files that
    are read from there may be kept in ``staging_folder`` (default: one in /var/tmp) while they are
    used, all together up to ``staging_limit_mb`` (10^6 bytes); 0 stages nothing. ``ca_file`` holds
    all certificates (PEM) that https addresses are checked with.
    """

    endpoint: str | None = None
    region: str = "us-east-1"
    virtual_hosting: bool = True
    credentials_file: str | None = None
    profile: str = "default"
    ca_file: str | None = None
    staging_folder: str | None = None
    staging_limit_mb: int = 4096


@dataclass(frozen=True)
class EngineSettings:
    """How scenes are worked on: ``threads`` decode a scene's blocks (0: all cores).

    The rest says where the workers' scheduler is, and the certificates (PEM) that all of them show.
    """

    threads: int = 0
    scheduler: str | None = None
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None


@dataclass(frozen=True)
class ApiSettings:
    """How the API serves: gunicorn answers HTTP at ``listen`` (address:port).

    ``workers`` processes answer requests with ``threads`` each. A worker process has ``pool_size``
    database sessions; a request waits ``pool_wait_seconds`` for one. The server ends statements
    after ``statement_timeout_seconds``. ``cors_origins``, with spaces between, may be asked from by
    scripts of other sites. ``trusted_proxies`` stand between client and API. A worker process
    answers a user ``requests_per_minute``, and ``requests_at_once``: fewer than threads leave some
    to others. The log of reads goes back ``read_log_days`` (0: for ever).

    Image chips are read from the scenes' files by ``raster_threads`` at a time in each worker
    process; a request waits ``raster_seconds`` for its own. What is too large to be answered at
    once is written to files in ``jobs_folder``, which all hosts of the API share.

    Who logs in elsewhere (OpenID Connect) brings a token of ``oidc_issuer`` made for
    ``oidc_audience``, signed with a key of ``oidc_jwks`` (a file or an https address);
    ``oidc_claim`` of it is the user's name; it must be one that users cannot change.
    """

    listen: str = "127.0.0.1:8080"
    workers: int = 2
    threads: int = 8
    pool_size: int = 4
    pool_wait_seconds: int = 2
    statement_timeout_seconds: int = 20
    cors_origins: str = ""
    trusted_proxies: int = 0
    requests_per_minute: int = 1200
    requests_at_once: int = 6
    read_log_days: int = 365
    raster_threads: int = 8
    raster_seconds: int = 15
    jobs_folder: str = "/var/lib/cbm/api-jobs"
    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    oidc_jwks: str | None = None
    oidc_claim: str = "sub"


@dataclass(frozen=True)
class Settings:
    """All settings of a host; ``database`` and ``owner`` are connection parameters of libpq."""

    database: dict[str, str] = field(default_factory=dict)
    owner: dict[str, str] = field(default_factory=dict)
    storage: StorageSettings = field(default_factory=StorageSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    api: ApiSettings = field(default_factory=ApiSettings)

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
    storage = _section(document.pop("storage", {}), StorageSettings, "storage", file)
    _check_storage(storage, file)
    engine = _section(document.pop("engine", {}), EngineSettings, "engine", file)
    api = _section(document.pop("api", {}), ApiSettings, "api", file)
    _check_api(api, file)
    unknown = sorted([*document, *(set(database) - _DATABASE_KEYS), *(set(owner) - _DATABASE_KEYS)])
    if unknown:
        raise _unknown_keys(file, unknown, "[database] and [database.owner]", _DATABASE_KEYS)
    return Settings(
        database={key: str(value) for key, value in database.items()},
        owner={key: str(value) for key, value in owner.items()},
        storage=storage,
        engine=engine,
        api=api,
    )


def _section(given: dict[str, Any], kind: type[_Section], name: str, file: Path) -> _Section:
    known = {one.name: type(one.default) for one in fields(kind)}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise _unknown_keys(file, unknown, f"[{name}]", known)
    for key, value in given.items():
        # Settings without a default are texts.
        expected = str if known[key] is type(None) else known[key]
        if type(value) is not expected:
            raise CbmError(
                "config_invalid",
                f"{file}: {key} in [{name}] is {value!r}; expected {_KINDS[expected]}.",
            )
    return kind(**given)


def _check_storage(storage: StorageSettings, file: Path) -> None:
    if storage.endpoint is not None:
        parts = urlsplit(storage.endpoint)
        if parts.username or parts.password:
            raise CbmError(
                "config_invalid",
                f"{file}: endpoint in [storage] holds credentials.",
                "Put them into the file that credentials_file names.",
            )
        rest = parts.path.strip("/") or parts.query or parts.fragment
        if parts.scheme not in {"http", "https"} or not parts.hostname or rest:
            raise CbmError(
                "config_invalid",
                f"{file}: endpoint in [storage] is {storage.endpoint!r}; expected"
                " https://host or https://host:port.",
            )
    if storage.staging_limit_mb < 0:
        raise CbmError(
            "config_invalid",
            f"{file}: staging_limit_mb in [storage] is {storage.staging_limit_mb}; expected 0"
            " (nothing is staged) or more.",
        )


def _check_api(api: ApiSettings, file: Path) -> None:
    for origin in api.cors_origins.split():
        if not re.fullmatch(r"https?://[^/?#@\s]+", origin):
            raise CbmError(
                "config_invalid",
                f"{file}: cors_origins in [api] has {origin.rpartition('@')[2]!r}; expected"
                " https://host or https://host:port, with spaces between.",
            )
    positive = ("workers", "threads", "pool_size", "statement_timeout_seconds")
    asked = ("requests_per_minute", "requests_at_once")
    least = {**dict.fromkeys((*positive, *asked), 1), "trusted_proxies": 0}
    for name, number in least.items():
        if getattr(api, name) < number:
            raise CbmError(
                "config_invalid",
                f"{file}: {name} in [api] is {getattr(api, name)}; expected {number} or more.",
            )
    if api.read_log_days and api.read_log_days < 30:
        raise CbmError(
            "config_invalid",
            f"{file}: read_log_days in [api] is {api.read_log_days}; expected 30 or more, or 0"
            " (for ever).",
        )
    oidc = (api.oidc_issuer, api.oidc_audience, api.oidc_jwks)
    if any(oidc) and not all(oidc):
        raise CbmError(
            "config_invalid",
            f"{file}: [api] has some of oidc_issuer, oidc_audience and oidc_jwks; expected all"
            " three or none.",
        )


def _unknown_keys(file: Path, unknown: list[str], where: str, known: Iterable[str]) -> CbmError:
    return CbmError(
        "config_invalid",
        f"{file} has keys that mean nothing here: {', '.join(unknown)}.",
        f"Known keys of {where}: {', '.join(sorted(known))}.",
    )
