"""Which object storage ``s3://`` addresses mean, and web addresses of what it holds.

Settings come first; without settings, what the environment says in the names of AWS and of GDAL
(``AWS_S3_ENDPOINT``, ``AWS_HTTPS``, ``AWS_VIRTUAL_HOSTING``, ``AWS_NO_SIGN_REQUEST``). Secrets stay
in the credentials file.
"""

from __future__ import annotations

import configparser
import os
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cbm_core.errors import CbmError
from cbm_core.remote.addresses import forbidden
from cbm_core.settings import StorageSettings

_READABLE_BY_OTHERS = 0o007
_LINK_SECONDS, _NEW_LINK_SECONDS = 3600, 900  # clocks may differ by as much as the second


def check(storage: StorageSettings) -> None:
    """Refuse settings that cannot serve, before anything is read.

    Raises:
        CbmError: ``credentials_missing``, ``credentials_exposed``, ``credentials_invalid``,
            ``ca_file_missing``.

    """
    if storage.credentials_file:
        _check_credentials(Path(storage.credentials_file), storage.profile)
    if storage.ca_file and not os.access(storage.ca_file, os.R_OK):
        raise CbmError(
            "ca_file_missing",
            f"The file of certificates {storage.ca_file} does not exist or cannot be read.",
            "Correct ca_file in [storage].",
        )


def _check_credentials(file: Path, profile: str) -> None:
    """Refuse a file that cannot serve, or that others may read; its content is never shown."""
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise CbmError(
            "credentials_missing",
            f"The credentials file {file} cannot be read: {why}.",
            "Correct credentials_file in [storage], or its owner.",
        ) from None
    if mode & _READABLE_BY_OTHERS:
        raise CbmError(
            "credentials_exposed",
            f"The credentials file {file} has mode {mode & 0o777:04o}: every user of this host may"
            " use it; expected 0600 (or 0640).",
            f"chmod 600 {file}, and replace the keys if somebody may have seen them.",
        )
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error:
        parser.clear()
    keys = ("aws_access_key_id", "aws_secret_access_key")
    # ConfigParser's own DEFAULT is another section than [default].
    found = dict(parser[profile]) if parser.has_section(profile) else {}
    if not all(found.get(key) for key in keys):
        raise CbmError(
            "credentials_invalid",
            f"The credentials file {file} has no section [{profile}] with {' and '.join(keys)}.",
            "Write it in AWS's format, or correct profile in [storage].",
        )


def link(href: str, storage: StorageSettings) -> str:
    """Return a web address of an S3 object that is valid for 45 minutes or more; keep it secret.

    Byte ranges and conditions can be asked for with it as with any web address. Where the
    environment asks for unsigned requests, the plain address is returned.

    Raises:
        CbmError: ``raster_forbidden`` where there are no credentials.

    """
    file = Path(storage.credentials_file or os.environ.get("AWS_SHARED_CREDENTIALS_FILE", ""))
    # Credentials that are replaced while a process runs are found.
    replaced = file.stat().st_mtime_ns if file.is_file() else 0
    names = sorted(name for name in os.environ if name.startswith("AWS_"))
    variables = tuple((name, os.environ[name]) for name in names)
    period = int(time.monotonic() / _NEW_LINK_SECONDS)
    return _signed(href, _Given(os.getpid(), storage, variables, replaced), period)


class _Given(NamedTuple):
    """What an address is signed with."""

    pid: int
    storage: StorageSettings
    variables: tuple[tuple[str, str], ...]
    replaced: int


_client_lock = threading.Lock()


@lru_cache(maxsize=1024)
def _signed(href: str, given: _Given, _period: int) -> str:
    from botocore.exceptions import BotoCoreError

    bucket, _, key = href.removeprefix("s3://").partition("/")
    try:
        with _client_lock:  # making one takes half a second
            client = _client(given)
        address: str = client.generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=_LINK_SECONDS
        )
    except BotoCoreError as error:
        raise forbidden(href, str(error)) from None
    return address


@lru_cache(maxsize=4)
def _client(wanted: _Given) -> Any:
    """Return boto3's S3 client, which signs addresses and asks for nothing itself."""
    from boto3.session import Session
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.session import Session as Configured

    storage, given = wanted.storage, dict(wanted.variables)
    file = storage.credentials_file
    # A profile that is named here is preferred to keys in the environment.
    own = Configured(profile=storage.profile if file else None)
    if file:
        own.set_config_variable("credentials_file", file)
        own.set_config_variable("config_file", os.devnull)
    endpoint, virtual = storage.endpoint, storage.virtual_hosting
    if endpoint is None:
        endpoint, virtual = given.get("AWS_S3_ENDPOINT"), not _no(given, "AWS_VIRTUAL_HOSTING")
        if endpoint and "://" not in endpoint:
            endpoint = f"{'http' if _no(given, 'AWS_HTTPS') else 'https'}://{endpoint}"
    style = "path" if not virtual else "virtual" if endpoint else "auto"
    unsigned = not file and given.get("AWS_NO_SIGN_REQUEST", "NO").upper() in {"YES", "TRUE"}
    region = given.get("AWS_REGION") or own.get_config_variable("region")
    return Session(botocore_session=own).client(
        "s3",
        endpoint_url=endpoint,
        region_name=storage.region if storage.endpoint or file or not region else region,
        config=Config(
            s3={"addressing_style": style}, signature_version=UNSIGNED if unsigned else "s3v4"
        ),
    )


def _no(given: dict[str, str], name: str) -> bool:
    return given.get(name, "YES").upper() in {"NO", "FALSE"}
