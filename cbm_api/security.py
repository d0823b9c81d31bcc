"""Who asks: a login with every request, by password (Basic) or token (bearer)."""

from __future__ import annotations

import math
import time

from flask import Flask, Response, current_app, g, request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from werkzeug.middleware.proxy_fix import ProxyFix

from cbm_api.database import Database
from cbm_api.logins import basic, bearer, origins
from cbm_api.logins.oidc import Provider
from cbm_api.logins.retention import Retention
from cbm_core.errors import CbmError
from cbm_core.settings import ApiSettings

# The OpenAPI document and its page are for everybody.
_DOCUMENTATION = frozenset({"openapi", "swagger"})


class Guard:
    """What a process knows of those who ask."""

    def __init__(self, settings: ApiSettings, database: Database) -> None:
        """Prepare; the database is asked with the first request."""
        self.origins = frozenset(settings.cors_origins.split())
        self._database = database
        self._passwords = basic.Passwords(database)
        self._provider = Provider.of(settings)
        self.retention = Retention(database, settings.read_log_days)
        self._rate = RateLimitItemPerMinute(settings.requests_per_minute)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def identify(self, header: str | None, address: str | None) -> str:
        """Return the name of the user whom an Authorization header shows.

        Raises:
            CbmError: ``login_required``, ``too_many_requests``, or as
                :meth:`cbm_api.logins.basic.Passwords.check` and
                :func:`cbm_api.logins.bearer.check`.

        """
        if not header:
            raise CbmError(
                "login_required", "Log in: this needs a user and a password, or a token."
            )
        login = basic.parse(header)
        scheme, _, token = header.partition(" ")
        if login is not None:
            name = self._passwords.check(*login, address)
        elif scheme.lower() == "bearer":
            name = bearer.check(self._database, self._provider, token.strip())
        else:
            raise CbmError("login_failed", "Expected a user and a password, or a bearer token.")
        self._count(name)
        return name

    def _count(self, name: str) -> None:
        if self._limiter.hit(self._rate, name):
            return
        seconds = self._limiter.get_window_stats(self._rate, name).reset_time - time.time()
        raise CbmError(
            "too_many_requests",
            f"More than {self._rate.amount} requests in a minute.",
            "Ask more slowly; bulk requests take many parcels at once.",
            retry_after=max(1, math.ceil(seconds)),
        )


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


def _guard() -> Guard:
    found: Guard = current_app.extensions["cbm_guard"]
    return found


def _identify() -> None:
    view = current_app.view_functions.get(request.endpoint or "")
    # Browsers ask without a login what they may ask.
    if view is None or request.method == "OPTIONS":
        return
    if getattr(view, "is_public", False) or request.blueprint in _DOCUMENTATION:
        return
    origins.require_known(request, _guard().origins)
    g.user = _guard().identify(request.headers.get("Authorization"), request.remote_addr)


def _finish(response: Response) -> Response:
    guard = _guard()
    origins.answer(request, response, guard.origins)
    if "user" in g and guard.retention.is_due():
        response.call_on_close(guard.retention.run)
    return response
