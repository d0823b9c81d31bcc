"""The API as a Flask application."""

from __future__ import annotations

import re
import uuid
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, g, request
from flask_openapi3 import Info
from werkzeug.exceptions import RequestEntityTooLarge

from cbm_api import metrics, problems, security
from cbm_api.database import Database
from cbm_api.document import DESCRIPTION, TITLE, Application
from cbm_api.problems import Problem
from cbm_api.routes import BLUEPRINTS
from cbm_core import __version__
from cbm_core.errors import CbmError
from cbm_core.settings import Settings

MAX_BODY_BYTES = 2**20
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECURITY: dict[str, Any] = {
    "basic": {"type": "http", "scheme": "basic"},
    "bearer": {"type": "http", "scheme": "bearer"},
}


def create_app(settings: Settings) -> Flask:
    """Return the application; it opens its database sessions when it is first asked."""
    app = Application(
        "cbm_api",
        info=Info(
            title=TITLE,
            version=__version__,
            description=DESCRIPTION,
        ),
        security_schemes=_SECURITY,
        validation_error_status=HTTPStatus.BAD_REQUEST,
        validation_error_model=Problem,
        validation_error_callback=problems.bad_parameters,
        static_folder=None,
    )
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["cbm_settings"] = settings
    app.extensions["cbm_database"] = Database(settings)
    metrics.install(app)
    app.before_request(_name_request)
    problems.install(app)
    security.install(app)
    app.before_request(_take_body)
    app.after_request(_finish)
    for blueprint in BLUEPRINTS:
        app.register_api(blueprint)
    # Now, in one thread: the document is in the making while others could be given it.
    app.generate_spec_json()
    return app


def _name_request() -> None:
    """Take the request's id from the proxy in front, or make one."""
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _take_body() -> None:
    """Take the body of one who is known; what is too large or too deep would pass for none later.

    Raises:
        RequestEntityTooLarge: of more than MAX_BODY_BYTES.
        CbmError: ``bad_parameter`` where JSON is nested deeper than Python goes.

    """
    # What comes in chunks is cut at the limit without a word.
    if len(request.get_data()) >= MAX_BODY_BYTES:
        raise RequestEntityTooLarge
    try:
        request.get_json(silent=True)
    except RecursionError:
        raise CbmError("bad_parameter", "The body is nested too deeply.") from None


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.get("request_id", "")
    response.headers["X-Content-Type-Options"] = "nosniff"
    # Answers depend on who asks.
    response.headers.setdefault("Cache-Control", "private, no-cache")
    return response
