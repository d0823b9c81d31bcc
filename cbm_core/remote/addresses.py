"""Addresses of remote files, and what goes wrong with them; no message shows a signature."""

from __future__ import annotations

import re

from cbm_core.errors import CbmError

_SCHEMES = ("http://", "https://", "s3://")
_LOGIN = re.compile(r"^((?:/vsicurl/)?(?:[a-z0-9+.-]*:)?//)[^/?#]*@", re.IGNORECASE)
_ARCHIVE = re.compile(r"(zip(?:\+|://))([^!]*)(.*)", re.DOTALL)


def remote_address(href: str) -> str | None:
    """Return the ``s3://`` or ``http(s)://`` address that an href means, None for other hrefs.

    GDAL's names ``/vsis3/bucket/key`` and ``/vsicurl/https://...`` are understood.
    """
    if href.startswith("/vsis3/"):
        return f"s3://{href.removeprefix('/vsis3/')}"
    address = href.removeprefix("/vsicurl/")
    return address if address.startswith(_SCHEMES) else None


def shown(href: str) -> str:
    """Return an href without login and query, which may be somebody's signature.

    Local paths are returned as they are.
    """
    archive = _ARCHIVE.fullmatch(href)
    if archive:
        return archive[1] + shown(archive[2]) + archive[3].partition("?")[0]
    is_local = "://" not in href and not href.startswith("/vsis3/")
    return href if is_local else _without_login(href.partition("?")[0])


def shown_location(location: str) -> str:
    """Return where a redirect points to, absolute or relative, without login, query, fragment."""
    return _without_login(re.split("[?#]", location, maxsplit=1)[0])


def _without_login(address: str) -> str:
    return _LOGIN.sub(r"\1", address)


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
