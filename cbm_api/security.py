"""Who asks: a login with every request, by password (Basic) or token (bearer); and how much."""

from __future__ import annotations

import weakref
from typing import Any

from flask import Flask, Response, current_app, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from cbm_api.context import when_sent
from cbm_api.database import Database
from cbm_api.imaging.tickets import Desk
from cbm_api.logins import basic, bearer, origins
from cbm_api.logins.oidc import Provider
from cbm_api.logins.pace import Pace
from cbm_api.logins.retention import Retention
from cbm_core.errors import CbmError
from cbm_core.settings import ApiSettings

# The OpenAPI document and its page are for everybody.
_DOCUMENTATION = frozenset({"openapi", "swagger"})
# What everybody may fetch and who is slow could take long to.
_FILES = _DOCUMENTATION | {"landing", "viewer"}


class Guard:
    """What a process knows of those who ask."""

    def __init__(self, settings: ApiSettings, database: Database) -> None:
        """Prepare; the database is asked with the first request."""
        self.origins = frozenset(settings.cors_origins.split())
        self.pace = Pace(settings.requests_per_minute, settings.requests_at_once)
        self._database = database
        self._passwords = basic.Passwords(database)
        self._provider = Provider.of(settings)
        self.retention = Retention(database, settings.read_log_days)

    def identify(self, header: str | None, address: str | None) -> str:
        """Return the name of the user whom an Authorization header shows.

        Raises:
            CbmError: ``login_required``, or as :meth:`cbm_api.logins.basic.Passwords.check` and
                :func:`cbm_api.logins.bearer.check`.

        """
        if not header:
            raise CbmError(
                "login_required", "Log in: this needs a user and a password, or a token."
            )
        login = basic.parse(header)
        scheme, _, token = header.partition(" ")
        if login is not None:
            return self._passwords.check(*login, address)
        if scheme.lower() == "bearer":
            return bearer.check(self._database, self._provider, token.strip())
        raise CbmError("login_failed", "Expected a user and a password, or a bearer token.")

    def ticket(self, kind: str, text: str) -> tuple[str, list[Any]]:
        """Return the user and the wish of a signed address.

        Raises:
            CbmError: as :meth:`cbm_api.imaging.tickets.Desk.take`.

        """
        with self._database.transaction(None) as cursor:
            return Desk(cursor, kind).take(cursor, text)


def install(app: Flask) -> None:
    """Ask for a login before every view that is not public."""
    settings: ApiSettings = app.extensions["cbm_settings"].api
    app.extensions["cbm_guard"] = Guard(settings, app.extensions["cbm_database"])
    app.before_request(_identify)
    app.after_request(_finish)
    if settings.trusted_proxies:
        trusted = dict.fromkeys(
            ("x_for", "x_proto", "x_host", "x_prefix"), settings.trusted_proxies
        )
        app.wsgi_app = ProxyFix(app.wsgi_app, **trusted)  # type: ignore[method-assign]


def with_ticket(kind: str, text: str) -> list[Any]:
    """Go on as the user of a signed address, and return its wish.

    Raises:
        CbmError: as :meth:`cbm_api.imaging.tickets.Desk.take`; ``too_many_requests``.

    """
    name, wish = _guard().ticket(kind, text)
    _admit(name)
    return wish


def _guard() -> Guard:
    found: Guard = current_app.extensions["cbm_guard"]
    return found


def _identify() -> None:
    view = current_app.view_functions.get(request.endpoint or "")
    # Browsers ask without a login what they may ask.
    if view is None or request.method == "OPTIONS":
        return
    if request.blueprint in _FILES:
        _enter(f"address {basic.network(request.remote_addr)}")
    elif not getattr(view, "is_public", False):
        origins.require_known(request, _guard().origins)
        _admit(_guard().identify(request.headers.get("Authorization"), request.remote_addr))


def _admit(name: str) -> None:
    """Go on as a user who does not ask too much."""
    g.user = name
    _guard().pace.count(name)
    _enter(name)


def _enter(who: str) -> None:
    _guard().pace.enter(who)
    g.in_work = who


def _finish(response: Response) -> Response:
    guard = _guard()
    origins.answer(request, response, guard.origins)
    if "in_work" in g:
        # Once: when the answer is sent, or when it is thrown away unsent.
        held = response.response if response.direct_passthrough else response
        when_sent(response, weakref.finalize(held, guard.pace.leave, g.in_work))
    if "user" in g and guard.retention.is_due():
        when_sent(response, guard.retention.run)
    return response
