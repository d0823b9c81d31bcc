"""Logins with a token: one of ours (``cbm user token add``), or one of an identity provider."""

from __future__ import annotations

from cbm_api.database import Database
from cbm_api.logins import store
from cbm_api.logins.oidc import Provider
from cbm_core.errors import CbmError
from cbm_core.users import tokens


def check(database: Database, provider: Provider | None, token: str) -> str:
    """Return the name of the user whom a token stands for.

    Raises:
        CbmError: ``login_failed``, ``token_expired``, ``identity_provider_unreachable``; as
            :meth:`cbm_api.database.Database.transaction`.

    """
    if token.startswith(tokens.PREFIX):
        return _own(database, token)
    if provider is None:
        raise _worthless()
    name = provider.user_name(token)
    with database.transaction(None) as cursor:
        if not store.is_user(cursor, name):
            raise CbmError("login_failed", "The token's user is not a user of this API.")
    return name


def _own(database: Database, token: str) -> str:
    with database.transaction(None) as cursor:
        found = store.token_holder(cursor, token)
    if found is None:
        raise _worthless()
    name, expired = found
    if expired:
        raise CbmError("token_expired", "The token has expired.", "Ask for a new one.")
    return name


def _worthless() -> CbmError:
    return CbmError("login_failed", "The token is not valid, or not any more.")
