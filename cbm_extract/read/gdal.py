"""How GDAL is told to behave, and the one function that opens a raster.

Everything that may differ between hosts is fixed here and in :mod:`cbm_core.gdal`: the formats
GDAL may try, what it may look at besides the file itself, and how it treats damaged files. Remote
files reach GDAL through :mod:`cbm_core.remote`: its own /vsicurl/ and /vsis3/ take a connection
that is cut in the middle of a header for the end of the file, and open the file without the tags
that are missing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError

from cbm_core.errors import CbmError
from cbm_core.gdal import OPTIONS, Options, likely_driver, opening_options
from cbm_core.remote.addresses import missing, remote_address, shown

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from cbm_core.remote.files import RemoteFolder
    from cbm_core.remote.objects import RemoteObject

# GDAL knows some 80 formats, and several (VRT, WMS, ...) are programs more than files: they fetch
# other files and addresses. Only plain rasters are opened. A COG is a GeoTIFF to GDAL.
FORMATS = {"GTiff": "GeoTIFF", "JP2OpenJPEG": "JPEG 2000", "ENVI": "ENVI (.img with .hdr)"}

_OPTIONS: Options = {
    **OPTIONS,
    # Strips are whole rows of blocks, so nothing is read twice and a large cache is waste.
    "GDAL_CACHEMAX": 64 * 2**20,  # bytes
}


def local_path(href: str) -> Path | None:
    """Return the local file that an href means, None for everything remote or inside an archive."""
    if href.startswith("/vsi"):
        return None
    if href.startswith("file://"):
        return Path(unquote(urlsplit(href).path))
    return None if "://" in href else Path(href)


def archive_of(href: str) -> str | None:
    """Return the href of the zip archive that holds the raster, None where there is none.

    ``zip://<archive>!/<member>`` and ``zip+https://<archive>!/<member>`` are understood.
    """
    scheme, separator, rest = href.partition("://")
    if not separator or not (scheme == "zip" or scheme.startswith("zip+")):
        return None
    archive, mark, _ = rest.partition("!")
    if not mark:
        raise CbmError(
            "href_invalid",
            f"{shown(href)} names an archive, but no file in it.",
            "Write zip:///folder/archive.zip!/member.tif.",
        )
    return archive if scheme == "zip" else f"{scheme[4:]}://{archive}"


def gdal_name(href: str) -> str:
    """Translate an href into the name GDAL opens.

    Local paths, ``file://``, ``http(s)://``, ``s3://bucket/key`` and
    ``zip[+scheme]://archive!/member`` are understood.

    Raises:
        CbmError: ``href_unsupported``, ``href_invalid``.

    """
    archive = archive_of(href)
    if archive is not None:
        member = href.partition("!")[2].lstrip("/")
        return f"/vsizip/{{{gdal_name(archive)}}}/{member}"
    path = local_path(href)
    if path is not None:
        return str(path.absolute())
    address = remote_address(href)
    if address is not None:
        # A name that only :class:`RemoteFolder` knows, without the address's query.
        return f"/remote/{shown(address).rpartition('/')[2]}"
    raise CbmError(
        "href_unsupported",
        f"{shown(href)} is no address that rasters are read from.",
        "Expected a local path, http(s)://, s3:// or zip://archive!/member.",
    )


@contextmanager
def open_raster(href: str) -> Iterator[DatasetReader]:
    """Open a raster read-only under the fixed GDAL settings for the length of the block.

    Whoever reads pixels of it asks :func:`trouble` before using them.

    Raises:
        CbmError: ``raster_missing``, ``raster_forbidden`` (credentials), ``raster_unreachable``
            (network), ``raster_changed``, ``not_a_raster`` (also for formats that are not
            allowed), ``raster_damaged``, ``archive_without_copy``.

    """
    name = gdal_name(href)
    archive = remote_address(archive_of(href) or "")
    if archive is not None:
        with _unpacked(href, archive) as near, open_raster(near) as dataset:
            yield dataset
        return
    path = local_path(href)
    if path is not None and not path.is_file():
        raise missing(href)
    address = remote_address(href)
    folder = None
    if address is not None:
        from cbm_core.remote.files import RemoteFolder
        from cbm_extract.read.remote import opened

        folder = RemoteFolder(name, opened(address))
    with rasterio.Env(**_OPTIONS), _open(href, name, folder) as dataset:
        if folder is None:
            yield dataset
            return
        _FOLDERS[dataset.name] = folder
        try:
            yield dataset
        finally:
            del _FOLDERS[dataset.name]


@contextmanager
def _unpacked(href: str, archive: str) -> Iterator[str]:
    """Copy a remote archive, and give the href of the same member in the copy."""
    from cbm_extract.read.remote import opened
    from cbm_extract.read.staging import copy_of

    with copy_of(opened(archive)) as copy:
        path = copy.path() if copy else None
        if path is None:
            raise CbmError(
                "archive_without_copy",
                f"{shown(archive)} is an archive on the network, and there is no room for a copy.",
                "Raise staging_limit_mb in [storage], or unpack the archive.",
            )
        yield f"zip://{path}!{href.partition('!')[2]}"


# Of the remote files that are open, by the name GDAL has for them.
_FOLDERS: dict[str, RemoteFolder] = {}


def trouble(dataset: DatasetReader) -> CbmError | None:
    """Return what went wrong in reading a remote file, although GDAL may not have said so."""
    folder = _FOLDERS.get(dataset.name)
    return folder.trouble if folder else None


def remote_of(dataset: DatasetReader) -> RemoteObject | None:
    """Return the remote file that an open dataset is, None for a local one."""
    folder = _FOLDERS.get(dataset.name)
    return folder.remote if folder else None


def _open(href: str, name: str, folder: RemoteFolder | None) -> DatasetReader:
    likely = likely_driver(name)
    first: RasterioIOError | None = None
    for driver in sorted(FORMATS, key=lambda driver: driver != likely):
        try:
            with rasterio.Env(**opening_options(driver)), warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                dataset = rasterio.open(name, driver=driver, opener=folder)
        except RasterioIOError as error:
            if folder and folder.trouble:
                raise folder.trouble from error
            if "not recognized" not in str(error):
                raise _opening_error(href, error) from error
            first = first or error
        else:
            if folder:
                # Looks for a mask beside the file, which rasterio can do in this thread only.
                _ = dataset.mask_flag_enums
                if folder.trouble:
                    dataset.close()
                    raise folder.trouble
            return dataset
    raise CbmError(
        "not_a_raster",
        f"{shown(href)} is not a raster of a supported format.",
        f"Supported: {', '.join(FORMATS.values())}. Other formats are not opened.",
    ) from first


def _opening_error(href: str, error: RasterioError) -> CbmError:
    text = reason(error)
    if any(part in text for part in ("No such file", "does not exist")):
        return missing(href)
    return CbmError(
        "raster_damaged",
        f"{shown(href)} cannot be opened: {text}.",
        "Fetch or make the file again.",
    )


def reason(error: BaseException) -> str:
    """Return the innermost message of a failure, on one line, without a full stop."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()).rstrip(".")
