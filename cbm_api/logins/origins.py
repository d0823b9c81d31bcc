"""Which sites' scripts may ask (CORS, https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Request, Response

from cbm_core.errors import CbmError

_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})
_EXPOSED = "Content-Disposition, ETag, Link, Location, Retry-After, X-Request-Id"


def require_known(request: Request, origins: frozenset[str]) -> None:
    """Refuse changes that a page of another site asks for with the login a browser remembers.

    Raises:
        CbmError: ``origin_refused``.

    """
    origin = request.headers.get("Origin")
    if origin is None or request.method in _HARMLESS or origin in origins:
        return
    if urlsplit(origin).netloc != request.host:
        raise CbmError("origin_refused", "This site's scripts may not change anything here.")


def answer(request: Request, response: Response, origins: frozenset[str]) -> None:
    """Tell browsers which sites may see the answer, and ask with a login."""
    if not origins:
        return
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin not in origins:
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = _EXPOSED
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", "GET")
        response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
        response.headers["Access-Control-Max-Age"] = "600"
