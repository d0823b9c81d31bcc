"""Opening the files of scenes and orthophotos, and what it means when that fails.

Names of files come from the catalogue and from a dataset's settings only, never from a request.
GDAL opens plain rasters: formats that fetch other files (VRT, WMS, ...) are not among them. Its own
/vsis3/ and /vsicurl/ are not used: rasterio calls GDAL for a file's facts with Python's global lock
held, so that a storage that says nothing would stop the whole process.
Nothing of remote files is kept, so that a storage that was away, or a file that was replaced, is
seen as it is now.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import rasterio
from rasterio.abc import FileContainer
from rasterio.errors import RasterioError
from rasterio.session import DummySession

from cbm_core.errors import CbmError
from cbm_core.gdal import OPTIONS, likely_driver, opening_options
from cbm_core.remote.addresses import remote_address, shown
from cbm_core.remote.files import RemoteFolder
from cbm_core.remote.objects import RemoteObject
from cbm_core.remote.web import Access

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

FileContainer.register(RemoteFolder)

_log = logging.getLogger("cbm_api")


@contextmanager
def opened(href: str, access: Access, what: str) -> Iterator[DatasetReader]:
    """Open a raster for the length of the block; ``what`` names it in messages.

    Failures to read its pixels in the block are told as those to open it. Addresses and paths come
    into the log only: they may be secret.

    Raises:
        CbmError: ``raster_missing``, ``raster_unreachable``, ``raster_damaged``.

    """
    folder = None
    name, address = _local_name(href), remote_address(href)
    if address is not None:
        name = f"/remote/{shown(address).rpartition('/')[2]}"
        try:
            folder = RemoteFolder(name, RemoteObject(address, access))
        except CbmError as error:
            raise _told(error, what) from None
    if not name:
        _log.warning("%s: rasters are not read from %s", what, shown(href))
        raise CbmError("raster_damaged", f"The catalogue's entry of {what} is no address.")
    try:
        with _open(name, what, folder) as dataset:
            yield dataset
    except CbmError as error:
        # GDAL's words do not tell what the network said.
        raise (_told(folder.trouble, what) if folder and folder.trouble else error) from None
    if folder and folder.trouble:
        raise _told(folder.trouble, what)


@contextmanager
def _open(name: str, what: str, folder: RemoteFolder | None) -> Iterator[DatasetReader]:
    driver = likely_driver(name)
    try:
        with (
            rasterio.Env(session=DummySession(), **{**OPTIONS, **opening_options(driver)}),
            rasterio.open(name, driver=driver, opener=folder) as dataset,
        ):
            yield dataset
    except RasterioError as error:
        text = _reasons(error)
        _log.warning("%s: %s", what, text)
        if "No such file" in text:
            raise _missing(what) from error
        raise damaged(what) from error


def damaged(what: str) -> CbmError:
    """Say that a file is no raster that can be read."""
    return CbmError("raster_damaged", f"The file of {what} cannot be read as a raster.")


def _missing(what: str) -> CbmError:
    return CbmError(
        "raster_missing",
        f"The file of {what} is no longer where the catalogue says it is.",
        "Ask the operator whether it was archived.",
    )


def _unreachable(what: str) -> CbmError:
    return CbmError(
        "raster_unreachable", f"The storage did not hand out {what}.", "Ask again later."
    )


def _told(trouble: CbmError, what: str) -> CbmError:
    """Log what the network said, and return what of it is told."""
    _log.warning("%s: %s", what, trouble.message)
    return _missing(what) if trouble.code == "raster_missing" else _unreachable(what)


def _local_name(href: str) -> str:
    """Return GDAL's name of a local file, of one in a local zip archive too; empty for others."""
    if href.startswith("zip://"):
        archive, _, member = href.removeprefix("zip://").partition("!")
        inside = _local_name(archive)
        return f"/vsizip/{{{inside}}}/{member.lstrip('/')}" if inside and member else ""
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
