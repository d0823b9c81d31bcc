"""Opening the files of scenes and orthophotos, and what it means when that fails.

Names of files come from the catalogue and from a dataset's settings only, never from a request.
GDAL opens plain rasters: formats that fetch other files (VRT, WMS, ...) are not among them.
Nothing of remote files is kept, so that a storage that was away, or a file that was replaced, is
seen as it is now.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import rasterio
from rasterio.errors import RasterioError
from rasterio.session import DummySession

from cbm_core.errors import CbmError
from cbm_core.settings import StorageSettings

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Options = dict[str, str | int]

_log = logging.getLogger("cbm_api")
_CONNECT_SECONDS = 5
_BY_SUFFIX = {".jp2": "JP2OpenJPEG", ".j2k": "JP2OpenJPEG", ".img": "ENVI", ".bsq": "ENVI"}
_OTHER_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def options(storage: StorageSettings, seconds: int) -> Options:
    """Return GDAL's options for the storage of the settings; no answer takes longer than that.

    Without an endpoint or credentials the environment (``AWS_*``) serves.
    https://gdal.org/en/stable/user/virtual_file_systems.html#vsis3-aws-s3-files
    """
    found: Options = {
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_PAM_ENABLED": "NO",
        "GDAL_NUM_THREADS": "1",
        "CPL_VSIL_CURL_NON_CACHED": "/vsis3/:/vsicurl/",
        "CPL_VSIL_CURL_USE_HEAD": "NO",
        "GDAL_HTTP_CONNECTTIMEOUT": min(_CONNECT_SECONDS, seconds),
        "GDAL_HTTP_TIMEOUT": seconds,
        "GDAL_HTTP_MAX_RETRY": 2,
        "GDAL_HTTP_RETRY_DELAY": "0.2",
    }
    if storage.endpoint:
        scheme, _, host = storage.endpoint.rstrip("/").partition("://")
        found |= {
            "AWS_S3_ENDPOINT": host,
            "AWS_HTTPS": "YES" if scheme == "https" else "NO",
            "AWS_VIRTUAL_HOSTING": "TRUE" if storage.virtual_hosting else "FALSE",
        }
    if storage.credentials_file:
        found |= {
            "CPL_AWS_CREDENTIALS_FILE": storage.credentials_file,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_PROFILE": storage.profile,
        }
        # GDAL would prefer them to the file.
        for name in _OTHER_CREDENTIALS:
            os.environ.pop(name, None)
    if storage.endpoint or storage.credentials_file:
        found["AWS_REGION"] = storage.region
    if storage.ca_file:
        found["GDAL_CURL_CA_BUNDLE"] = storage.ca_file
    return found


@contextmanager
def opened(href: str, settings: Options, what: str) -> Iterator[DatasetReader]:
    """Open a raster for the length of the block; ``what`` names it in messages.

    Failures to read its pixels in the block are told as those to open it. Addresses and paths come
    into the log only: they may be secret.

    Raises:
        CbmError: ``raster_missing``, ``raster_unreachable``, ``raster_damaged``.

    """
    name = _gdal_name(href)
    if not name:
        _log.warning("%s: rasters are not read from %s", what, href.partition("?")[0])
        raise CbmError("raster_damaged", f"The catalogue's entry of {what} is no address.")
    driver = _BY_SUFFIX.get(PurePath(name.partition("?")[0]).suffix.lower(), "GTiff")
    own: Options = {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"} if driver == "ENVI" else {}
    remote = "://" in href and not href.startswith("file:")
    with _open(name, driver, settings | own, what, remote=remote) as dataset:
        yield dataset


@contextmanager
def service(description: str, settings: Options, what: str) -> Iterator[DatasetReader]:
    """Open a map service that GDAL's driver WMS is told of, for the length of the block.

    ``description`` is XML, https://gdal.org/en/stable/drivers/raster/wms.html.

    Raises:
        CbmError: as :func:`opened`.

    """
    with _open(description, "WMS", settings, what, remote=True) as dataset:
        yield dataset


@contextmanager
def _open(
    name: str, driver: str, settings: Options, what: str, *, remote: bool
) -> Iterator[DatasetReader]:
    try:
        with (
            rasterio.Env(session=DummySession(), **settings),
            rasterio.open(name, driver=driver) as dataset,
        ):
            yield dataset
    except RasterioError as error:
        text = _reasons(error)
        _log.warning("%s: %s", what, text)
        raise failure(what, text, remote=remote) from error


def failure(what: str, text: str, *, remote: bool) -> CbmError:
    """Return what GDAL's words mean."""
    if any(part in text for part in ("No such file", "response code: 404", "response code: 410")):
        return CbmError(
            "raster_missing",
            f"The file of {what} is no longer where the catalogue says it is.",
            "Ask the operator whether it was archived.",
        )
    if remote and "not recognized" not in text:
        return CbmError(
            "raster_unreachable", f"The storage did not hand out {what}.", "Ask again later."
        )
    return CbmError("raster_damaged", f"The file of {what} cannot be read as a raster.")


def _gdal_name(href: str) -> str:
    """Translate an href of the catalogue into the name that GDAL opens; empty for all others."""
    if href.startswith(("zip://", "zip+")):
        archive, _, member = href.partition("!")
        scheme, _, rest = archive.partition("://")
        outer = rest if scheme == "zip" else f"{scheme.removeprefix('zip+')}://{rest}"
        inside = _gdal_name(outer)
        return f"/vsizip/{{{inside}}}/{member.lstrip('/')}" if inside and member else ""
    if href.startswith(("/vsis3/", "/vsicurl/http://", "/vsicurl/https://")):
        return href
    if href.startswith("s3://"):
        return f"/vsis3/{href.removeprefix('s3://')}"
    if href.startswith(("http://", "https://")):
        return f"/vsicurl/{href}"
    if href.startswith("file://"):
        href = unquote(urlsplit(href).path)
    # Other names with a colon in front are GDAL's connections, not files.
    return href if href.startswith("/") and not href.startswith("/vsi") else ""


def _reasons(error: BaseException) -> str:
    """Return the messages of a failure and of its causes, on one line."""
    texts: list[str] = []
    one: BaseException | None = error
    while one is not None:
        texts.append(" ".join(str(one).split()))
        one = one.__cause__
    return "; ".join(texts)
