"""The page to look at parcels with; it is built from ``viewer/`` by ``tools/build-viewer``."""

from __future__ import annotations

from pathlib import Path

from flask import Response, request, send_from_directory
from flask_openapi3 import APIBlueprint
from pydantic import BaseModel, Field
from werkzeug.exceptions import NotFound

from cbm_api.context import public
from cbm_core.errors import CbmError

FOLDER = Path(__file__).parents[1] / "static" / "viewer"
# The page needs nothing from elsewhere, and nobody may put it into a page of theirs.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

api = APIBlueprint("viewer", __name__, url_prefix="/viewer", doc_ui=False)


class File(BaseModel):
    """A file of the page."""

    name: str = Field(max_length=100)


@api.get("/")
@public
def page() -> Response:
    """Give the page. It holds no data: it asks for them with the user's login."""
    return _file("index.html")


@api.get("/<name>")
@public
def file(path: File) -> Response:
    """Give a file of the page."""
    return _file(path.name)


def _file(name: str) -> Response:
    accepted = request.accept_encodings.quality("gzip") > 0
    packed = accepted and (FOLDER / f"{name}.gz").is_file()
    try:
        # The ending .gz becomes the header Content-Encoding.
        response = send_from_directory(FOLDER, f"{name}.gz" if packed else name)
    except NotFound:
        raise CbmError("not_found", "The viewer has no such file, or was not built.") from None
    response.vary.add("Accept-Encoding")
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-cache"
    return response
