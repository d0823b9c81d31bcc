"""The commands ``cbm user token add|revoke``."""

from __future__ import annotations

from pydantic import Field

from cbm_core.errors import CbmError
from cbm_core.users import store, tokens
from cbm_core.users.verbs import Named, changing
from cbm_core.verbs import Answer, Context, Verb, positional


class _Token(Named):
    label: str = positional(
        "What the token is for, e.g. laptop.", pattern=r"^[A-Za-z0-9._-]{1,64}$"
    )


class _Add(_Token):
    days: int = Field(default=90, ge=1, le=3660, description="How long it is valid.")


def _add(arguments: _Add, context: Context) -> Answer:
    name, label = arguments.name, arguments.label
    token = tokens.fresh()
    with changing(arguments, context) as cursor:
        user = store.require_user(cursor, name)
        if any(one.label == label for one in user.tokens):
            raise CbmError(
                "token_exists",
                f"{name} has a token {label}.",
                f"Give the new one another label, or `cbm user token revoke {name} {label}` first.",
            )
        lines = [f"add token {label} of {name}, valid for {arguments.days} days"]
        if arguments.check:
            return Answer(changed=True, plan=lines, result={"user": name, "label": label})
        digest = tokens.digest(token)
        expires = store.add_token(cursor, name, label, digest, arguments.days)
        store.audit(cursor, "user token add", name, lines)
    return Answer(
        changed=True,
        plan=lines,
        result={
            "user": name,
            "label": label,
            "token": token,
            "expires_at": expires.isoformat(),
        },
        text=f"{token}\nShown this once; valid until {expires:%Y-%m-%d %H:%M} UTC.",
    )


def _revoke(arguments: _Token, context: Context) -> Answer:
    name, label = arguments.name, arguments.label
    with changing(arguments, context) as cursor:
        user = store.require_user(cursor, name)
        there = any(one.label == label for one in user.tokens)
        lines = [f"revoke token {label} of {name}"] if there else []
        if lines and not arguments.check:
            store.revoke_token(cursor, name, label)
            store.audit(cursor, "user token revoke", name, lines)
    done = f"Token {label} of {name} is worthless now." if there else f"{name} has no such token."
    return Answer(
        changed=there,
        plan=lines,
        result={"user": name, "label": label},
        text="" if arguments.check and lines else done,
    )


ADD = Verb("Make a token for programs of a user; it is shown once.", _Add, _add)
REVOKE = Verb("Make a token worthless.", _Token, _revoke)
