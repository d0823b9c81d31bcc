"""Addresses of remote files, and what goes wrong with them; no message shows a signature."""

from __future__ import annotations

from cbm_core.errors import CbmError

_SCHEMES = ("http://", "https://", "s3://")


def remote_address(href: str) -> str | None:
    """Return the ``s3://`` or ``http(s)://`` address that an href means, None for other hrefs.

    GDAL's names ``/vsis3/bucket/key`` and ``/vsicurl/https://...`` are understood.
    """
    if href.startswith("/vsis3/"):
        return f"s3://{href.removeprefix('/vsis3/')}"
    address = href.removeprefix("/vsicurl/")
    return address if address.startswith(_SCHEMES) else None


def shown(href: str) -> str:
    """Return an href without its query, which may be somebody's signature."""
    return href.partition("?")[0] if remote_address(href) else href


def missing(href: str) -> CbmError:
    """Say that a raster is not where the catalogue says it is."""
    return CbmError(
        "raster_missing",
        f"The raster {shown(href)} does not exist.",
        "Correct the catalogue's entry, or put the file there.",
    )


def unreachable(href: str, text: str) -> CbmError:
    """Say that a remote raster could not be had."""
    return CbmError(
        "raster_unreachable",
        f"{shown(href)} cannot be reached: {text}.",
        "Check network and address, then run the same command again.",
    )


def forbidden(href: str, text: str) -> CbmError:
    """Say that the storage refuses whoever asks."""
    return CbmError(
        "raster_forbidden",
        f"The storage refuses to hand out {shown(href)}: {text}.",
        "Check keys and rights of the credentials ([storage] in the settings) and this host's"
        " clock, then retry. Storage that hides what exists answers so for missing files too.",
    )


def redirected(href: str, text: str) -> CbmError:
    """Say that a server does not hand out the file, but another address."""
    return CbmError(
        "raster_redirected",
        f"The server of {shown(href)} points elsewhere ({text}); expected the file itself.",
        "Redirects are not followed. Catalogue the file's own address; for s3:// correct region"
        " and endpoint in [storage].",
    )


def changed(href: str) -> CbmError:
    """Say that a file was replaced while it was read."""
    return CbmError(
        "raster_changed",
        f"{shown(href)} was replaced while it was read.",
        "Read it again once nobody writes there.",
    )
