"""What GDAL is told wherever rasters are opened, so that API and extraction read the same."""

from __future__ import annotations

from pathlib import PurePath

Options = dict[str, str | int]

OPTIONS: Options = {
    # No listing of folders and buckets, no sidecars (.aux.xml, .msk, .ovr): numbers come from the
    # file whose fingerprint is kept as evidence.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    # With more than one thread GDAL 3.10 swallows the decoder's errors: a truncated JPEG 2000
    # file reads as garbage without a word. Whoever wants parallel work starts threads of its own.
    "GDAL_NUM_THREADS": "1",
}
_BY_SUFFIX = {".jp2": "JP2OpenJPEG", ".j2k": "JP2OpenJPEG", ".img": "ENVI", ".bsq": "ENVI"}


def likely_driver(name: str) -> str:
    """Return GDAL's short name of the format that a file's name tells; GTiff where it tells none.

    A COG is a GeoTIFF to GDAL.
    """
    return _BY_SUFFIX.get(PurePath(name).suffix.lower(), "GTiff")


def opening_options(driver: str) -> Options:
    """Return what holds while a driver opens a file, to be set over ``OPTIONS``."""
    # ENVI's header is a file of its own, found by asking for it by name.
    return {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE" if driver == "ENVI" else "EMPTY_DIR"}
