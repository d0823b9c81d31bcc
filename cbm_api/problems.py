"""What the API says when it cannot do what was asked: problem documents (RFC 9457).

Whatever goes wrong is a :class:`cbm_core.errors.CbmError` with a stable code, or becomes one here;
one table says which status a code has.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import psycopg2
from flask import Flask, Response, g, json
from pydantic import BaseModel, Field, ValidationError
from werkzeug.exceptions import HTTPException

from cbm_core.errors import CbmError

_log = logging.getLogger("cbm_api")

# Codes that are not here mean a fault of ours: 500.
STATUS = {
    "bad_parameter": HTTPStatus.BAD_REQUEST,
    "login_required": HTTPStatus.UNAUTHORIZED,
    "login_failed": HTTPStatus.UNAUTHORIZED,
    "token_expired": HTTPStatus.UNAUTHORIZED,
    "not_granted": HTTPStatus.FORBIDDEN,
    "origin_refused": HTTPStatus.FORBIDDEN,
    "not_found": HTTPStatus.NOT_FOUND,
    "dataset_unknown": HTTPStatus.NOT_FOUND,
    "parcel_unknown": HTTPStatus.NOT_FOUND,
    "product_unknown": HTTPStatus.NOT_FOUND,
    "scene_unknown": HTTPStatus.NOT_FOUND,
    "job_unknown": HTTPStatus.NOT_FOUND,
    "search_too_wide": HTTPStatus.UNPROCESSABLE_ENTITY,
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "locked_out": HTTPStatus.TOO_MANY_REQUESTS,
    "too_many_requests": HTTPStatus.TOO_MANY_REQUESTS,
    "busy": HTTPStatus.SERVICE_UNAVAILABLE,
    "database_unreachable": HTTPStatus.SERVICE_UNAVAILABLE,
    "database_lost": HTTPStatus.SERVICE_UNAVAILABLE,
    "database_timeout": HTTPStatus.SERVICE_UNAVAILABLE,
    "schema_missing": HTTPStatus.SERVICE_UNAVAILABLE,
    "identity_provider_unreachable": HTTPStatus.SERVICE_UNAVAILABLE,
    "raster_unreachable": HTTPStatus.SERVICE_UNAVAILABLE,
    "raster_missing": HTTPStatus.NOT_FOUND,
    "raster_damaged": HTTPStatus.BAD_GATEWAY,
}
# What these say names hosts, logins or tables.
_INSIDE = {"database_unreachable", "database_lost", "schema_missing"}
# What passes by itself, and when to ask again, in seconds.
RETRY_AFTER = 5


class Problem(BaseModel):
    """A problem document."""

    type: str = Field(description="A URN that names the kind: urn:cbm:problem:<code>.")
    title: str = Field(description="The status in words.")
    status: int
    code: str = Field(description="Stable name of the kind, for programs.")
    detail: str = Field(description="What was expected, what was found, what to do.")
    request_id: str = Field(description="Find this request in the server's log by it.")
    errors: list[dict[str, Any]] | None = Field(
        default=None, description="Of bad parameters: where each stood and what was wrong."
    )
    cursor: str | None = Field(
        default=None, description="Of search_too_wide: the parameter to go on with."
    )


def respond(error: CbmError) -> Response:
    """Return the problem document of an error."""
    status = STATUS.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    code, detail = error.code, str(error)
    # Nothing of an inside goes out: its text is in the log.
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        code, detail = "internal_error", "The server failed; the operator finds why in its log."
    elif code in _INSIDE:
        detail = "The database does not answer as it should; the operator finds why in the log."
    response = _document(status, code, detail, error.details)
    if status is HTTPStatus.UNAUTHORIZED:
        response.headers.add("WWW-Authenticate", 'Basic realm="cbm", charset="UTF-8"')
        response.headers.add("WWW-Authenticate", 'Bearer realm="cbm"')
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        response.headers["Retry-After"] = str(error.details.get("retry_after", RETRY_AFTER))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("%s: %s", error.code, error)
    return response


def bad_parameters(error: ValidationError) -> Response:
    """Refuse a request whose parameters do not validate.

    Raises:
        CbmError: ``bad_parameter``, always.

    """
    found = [
        {"where": ".".join(str(part) for part in one["loc"]), "what": one["msg"]}
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    text = "; ".join(f"{one['where']}: {one['what']}" for one in found)
    raise CbmError("bad_parameter", f"The request is not as it should be: {text}.", errors=found)


def install(app: Flask) -> None:
    """Let every failure of a request end as a problem document."""
    app.register_error_handler(CbmError, respond)
    app.register_error_handler(HTTPException, _of_http)
    app.register_error_handler(psycopg2.Error, _of_fault)
    app.register_error_handler(Exception, _of_fault)


def _of_http(error: HTTPException) -> Response:
    if error.response is not None:
        return Response.force_type(error.response)  # type: ignore[return-value, arg-type]
    status = HTTPStatus(error.code or 500)
    code = error.name.lower().replace(" ", "_")
    response = _document(status, code, error.description or status.description)
    for name, value in error.get_headers():
        if name.lower() != "content-type":
            response.headers.add(name, value)
    return response


def _document(
    status: HTTPStatus, code: str, detail: str, more: Mapping[str, Any] | None = None
) -> Response:
    given = more or {}
    problem = Problem(
        type=f"urn:cbm:problem:{code}",
        title=status.phrase,
        status=status,
        code=code,
        detail=detail,
        request_id=g.get("request_id", ""),
        errors=given.get("errors"),
        cursor=given.get("cursor"),
    )
    body = json.dumps(problem.model_dump(exclude_none=True))
    return Response(body, status, content_type="application/problem+json")


def _of_fault(error: Exception) -> Response:
    _log.exception("request %s failed", g.get("request_id", ""), exc_info=error)
    return respond(CbmError("internal_error", str(error)))
