"""Which version of a file was read: kept as evidence with every extraction."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from cbm_extract.read import gdal

_TIMEOUT = (15, 30)  # seconds to connect, to answer


@dataclass(frozen=True)
class Fingerprint:
    """Size in bytes, and what the store offers to tell versions apart; None where it does not.

    ``mtime_ns`` (local files) is nanoseconds since 1970; ``etag`` comes from HTTP or S3.
    """

    size: int | None = None
    mtime_ns: int | None = None
    etag: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what is known, for the evidence of a run."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def fingerprint(href: str) -> Fingerprint:
    """Ask for the version of a raster's file; of the archive, for a raster inside one.

    Raises:
        CbmError: ``raster_missing``, ``raster_unreachable``.

    """
    archive = gdal.archive_of(href)
    if archive is not None:
        return fingerprint(archive)
    path = gdal.local_path(href)
    if path is not None:
        try:
            status = path.stat()
        except FileNotFoundError:
            raise gdal.missing(href) from None
        return Fingerprint(size=status.st_size, mtime_ns=status.st_mtime_ns)
    if href.startswith("/vsicurl/"):
        href = href.removeprefix("/vsicurl/")
    if href.startswith(("http://", "https://")):
        return _http(href)
    if href.startswith(("s3://", "/vsis3/")):
        return _s3(href)
    return Fingerprint()


def _http(href: str) -> Fingerprint:
    import requests

    try:
        answer = requests.head(href, allow_redirects=True, timeout=_TIMEOUT)
    except requests.RequestException as error:
        raise gdal.unreachable(href, " ".join(str(error).split())) from None
    if answer.status_code in {404, 410}:
        raise gdal.missing(href)
    if not answer.ok:
        # Signed addresses often allow GET alone; the evidence is then without a version.
        return Fingerprint()
    length = answer.headers.get("Content-Length", "")
    return Fingerprint(
        size=int(length) if length.isdigit() else None,
        etag=answer.headers.get("ETag") or answer.headers.get("Last-Modified"),
    )


def _s3(href: str) -> Fingerprint:
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = href.removeprefix("s3://").removeprefix("/vsis3/").partition("/")
    try:
        answer = _s3_client().head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            raise gdal.missing(href) from None
        raise gdal.unreachable(href, str(error)) from None
    except BotoCoreError as error:
        raise gdal.unreachable(href, str(error)) from None
    return Fingerprint(size=int(answer["ContentLength"]), etag=answer.get("ETag"))


def _s3_client() -> Any:
    """Return a client for the endpoint that GDAL's variables name, so that both ask the same."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    endpoint = os.environ.get("AWS_S3_ENDPOINT")
    if endpoint and "://" not in endpoint:
        secure = os.environ.get("AWS_HTTPS", "YES").upper() not in {"NO", "FALSE"}
        endpoint = f"{'https' if secure else 'http'}://{endpoint}"
    options: dict[str, Any] = {"connect_timeout": _TIMEOUT[0], "read_timeout": _TIMEOUT[1]}
    if os.environ.get("AWS_VIRTUAL_HOSTING", "TRUE").upper() in {"NO", "FALSE"}:
        options["s3"] = {"addressing_style": "path"}
    if os.environ.get("AWS_NO_SIGN_REQUEST", "NO").upper() in {"YES", "TRUE"}:
        options["signature_version"] = UNSIGNED
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return boto3.client("s3", endpoint_url=endpoint, region_name=region, config=Config(**options))
