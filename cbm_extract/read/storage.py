"""Which object storage ``s3://`` addresses mean, for everything in this process that asks it.

Settings are written into the environment (``AWS_*``, as GDAL and boto3 name them); without settings
what stands there serves. Secrets stay in the credentials file.
"""

from __future__ import annotations

import configparser
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from cbm_core.errors import CbmError
from cbm_core.settings import StorageSettings

# What would be preferred to the credentials file.
_OTHER_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_NO_SIGN_REQUEST"
).split()
_READABLE_BY_OTHERS = 0o007
_LINK_SECONDS = 3600
_CONNECT_SECONDS, _SILENCE_SECONDS = 15, 30


def configure(storage: StorageSettings) -> None:
    """Make this process ask the storage that the settings name; call it before any read.

    Raises:
        CbmError: ``credentials_missing``, ``credentials_exposed``, ``credentials_invalid``,
            ``ca_file_missing``.

    """
    wanted = environment(storage)
    if storage.credentials_file:
        _check_credentials(Path(storage.credentials_file), storage.profile)
        for name in _OTHER_CREDENTIALS:
            os.environ.pop(name, None)
    if storage.ca_file and not os.access(storage.ca_file, os.R_OK):
        raise CbmError(
            "ca_file_missing",
            f"The file of certificates {storage.ca_file} does not exist or cannot be read.",
            "Correct ca_file in [storage].",
        )
    os.environ.update(wanted)


def environment(storage: StorageSettings) -> dict[str, str]:
    """Return the variables that say the same to boto3, requests and :func:`client`."""
    wanted: dict[str, str] = {}
    if storage.endpoint:
        scheme, _, host = storage.endpoint.rstrip("/").partition("://")
        wanted |= {
            "AWS_S3_ENDPOINT": host,
            "AWS_HTTPS": "YES" if scheme == "https" else "NO",
            "AWS_VIRTUAL_HOSTING": "TRUE" if storage.virtual_hosting else "FALSE",
        }
    if storage.credentials_file:
        wanted |= {
            "AWS_SHARED_CREDENTIALS_FILE": storage.credentials_file,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_PROFILE": storage.profile,
        }
    if wanted:
        wanted["AWS_REGION"] = storage.region
    if storage.ca_file:
        wanted["REQUESTS_CA_BUNDLE"] = storage.ca_file
    return wanted


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


def split(href: str) -> tuple[str, str]:
    """Return bucket and key of an ``s3://`` address."""
    bucket, _, key = href.removeprefix("s3://").partition("/")
    return bucket, key


def link(href: str) -> str:
    """Return an https address of an S3 object that is valid for an hour; keep it secret.

    Byte ranges and conditions can be asked for with it as with any web address. Where the
    environment asks for unsigned requests, the plain address is returned.

    Raises:
        CbmError: ``raster_forbidden`` where there are no credentials.

    """
    from botocore.exceptions import BotoCoreError

    bucket, key = split(href)
    try:
        address: str = client().generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=_LINK_SECONDS
        )
    except BotoCoreError as error:
        from cbm_extract.read import gdal

        raise gdal.forbidden(href, str(error)) from None
    return address


def client() -> Any:
    """Return boto3's S3 client for the storage of this process. It does not retry by itself."""
    names = [name for name in os.environ if name.startswith("AWS_")]
    file = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", ""))
    # Credentials that are replaced while a worker runs are found.
    changed = file.stat().st_mtime_ns if file.is_file() else 0
    return _client(os.getpid(), tuple((name, os.environ[name]) for name in sorted(names)), changed)


@lru_cache(maxsize=4)
def _client(_pid: int, variables: tuple[tuple[str, str], ...], _changed: int) -> Any:
    from boto3.session import Session
    from botocore import UNSIGNED
    from botocore.config import Config

    given = dict(variables)
    endpoint = given.get("AWS_S3_ENDPOINT")
    if endpoint and "://" not in endpoint:
        endpoint = f"{'http' if _no(given, 'AWS_HTTPS') else 'https'}://{endpoint}"
    style = "path" if _no(given, "AWS_VIRTUAL_HOSTING") else "virtual" if endpoint else "auto"
    unsigned = given.get("AWS_NO_SIGN_REQUEST", "NO").upper() in {"YES", "TRUE"}
    config = Config(
        s3={"addressing_style": style},
        signature_version=UNSIGNED if unsigned else "s3v4",
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_SILENCE_SECONDS,
        retries={"total_max_attempts": 1},
    )
    region = given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION") or "us-east-1"
    return Session().client("s3", endpoint_url=endpoint, region_name=region, config=config)


def _no(given: dict[str, str], name: str) -> bool:
    return given.get(name, "YES").upper() in {"NO", "FALSE"}
