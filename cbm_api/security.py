"""Who asks: a login with every request (Basic)."""

from __future__ import annotations

from flask import Flask, current_app, g, request

from cbm_api.context import database
from cbm_core.errors import CbmError
from cbm_core.users import passwords


def install(app: Flask) -> None:
    """Ask for a login before every view that is not public."""
    app.before_request(_identify)


def _identify() -> None:
    view = current_app.view_functions.get(request.endpoint or "")
    # The OpenAPI document and its page are for everybody.
    if view is None or request.blueprint == "openapi" or getattr(view, "is_public", False):
        return
    given = request.authorization
    if given is None:
        raise CbmError("login_required", "Log in: this needs a user and a password, or a token.")
    if given.type != "basic" or not given.username or given.password is None:
        raise CbmError("login_failed", "Expected a user and a password.")
    with database().transaction(None) as cursor:
        cursor.execute(
            "SELECT password_hash FROM cbm.api_user WHERE name = %s AND disabled_at IS NULL",
            (given.username,),
        )
        row = cursor.fetchone()
    if not passwords.matches(row[0] if row else None, given.password):
        raise CbmError("login_failed", "User or password is wrong.")
    g.user = given.username
