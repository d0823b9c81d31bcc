"""Which version of a file was read: kept as evidence with every extraction."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cbm_core.remote.addresses import missing, remote_address
from cbm_core.remote.objects import version_of
from cbm_extract.read import gdal, remote


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
        CbmError: ``raster_missing``, ``raster_forbidden``, ``raster_unreachable``.

    """
    archive = gdal.archive_of(href)
    if archive is not None:
        return fingerprint(archive)
    path = gdal.local_path(href)
    if path is not None:
        try:
            status = path.stat()
        except FileNotFoundError:
            raise missing(href) from None
        return Fingerprint(size=status.st_size, mtime_ns=status.st_mtime_ns)
    address = remote_address(href)
    if address is None:
        return Fingerprint()
    size, version = version_of(address, remote.access())
    return Fingerprint(size=size, etag=version)
