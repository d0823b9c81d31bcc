"""The commands ``cbm user add|passwd|disable|list|grant|revoke``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from cbm_core import db
from cbm_core.datasets.store import require_dataset
from cbm_core.db import Cursor
from cbm_core.users import passwords, store
from cbm_core.users.store import User
from cbm_core.verbs import Answer, Arguments, ChangingArguments, Context, Verb, positional

_PASSWORD_FILE = "A file of mode 0600 whose first line is the password."  # noqa: S105


class Named(ChangingArguments):
    """Arguments of what is done to one user."""

    name: str = positional(
        "Name of the user, e.g. anna or anna@agency.example.", pattern=store.NAME
    )


class _Add(Named):
    password_file: Path | None = Field(
        default=None,
        description=f"{_PASSWORD_FILE} Left out: unchanged; a new user has none at first.",
    )
    datasets: list[str] | None = Field(
        default=None,
        description="The datasets (aoi:year) that the user may read: all of them, others are "
        "taken away. Left out: unchanged.",
    )


class _Passwd(Named):
    password_file: Path | None = Field(
        default=None, description=f"{_PASSWORD_FILE} Left out: asked for on the terminal."
    )


class _Grants(Named):
    datasets: list[str] = positional("Datasets, aoi:year.", min_length=1)


class _List(Arguments):
    """No arguments."""


@dataclass(frozen=True)
class Plan:
    """What is to be done about a user; ``before`` is None where the user has to be added.

    ``password_hash`` and ``disabled`` are None where they stay; ``granted`` and ``revoked`` are
    datasets' ids by name.
    """

    name: str
    before: User | None
    password_hash: str | None = None
    disabled: bool | None = None
    granted: dict[str, int] | None = None
    revoked: dict[str, int] | None = None

    @property
    def lines(self) -> list[str]:
        """The changes in words, empty when there is nothing to do."""
        name = self.name
        lines = [f"add user {name}"] if self.before is None else []
        if self.disabled is not None:
            lines.append(f"{'disable' if self.disabled else 'enable'} user {name}")
        if self.password_hash is not None:
            lines.append(f"set the password of {name}")
        lines += [f"let {name} read {dataset}" for dataset in self.granted or {}]
        lines += [f"take reading of {dataset} from {name}" for dataset in self.revoked or {}]
        return lines


def apply(cursor: Cursor, plan: Plan, action: str) -> None:
    """Do what the plan says and write it into the audit."""
    if not plan.lines:
        return
    if plan.before is None:
        store.insert(cursor, plan.name)
    if plan.disabled is not None:
        store.set_disabled(cursor, plan.name, plan.disabled)
    if plan.password_hash is not None:
        store.set_password(cursor, plan.name, plan.password_hash)
    store.grant(cursor, plan.name, list((plan.granted or {}).values()))
    store.revoke(cursor, plan.name, list((plan.revoked or {}).values()))
    store.audit(cursor, action, plan.name, plan.lines)


@contextmanager
def changing(arguments: ChangingArguments, context: Context) -> Iterator[Cursor]:
    """Give the owner's cursor; others who change users wait, unless nothing will be changed."""
    with db.session(context.settings, "owner") as connection, db.transaction(connection) as cursor:
        if not arguments.check:
            store.lock(cursor)
        yield cursor


def _new_hash(before: User | None, password: str) -> str | None:
    """Return a hash to store, None where the password is the stored one."""
    same = before is not None and passwords.matches(before.password_hash, password)
    return None if same else passwords.hashed(password)


def _add(arguments: _Add, context: Context) -> Answer:
    password = passwords.from_file(arguments.password_file) if arguments.password_file else None
    with changing(arguments, context) as cursor:
        before = store.find(cursor, arguments.name)
        had = _ids(cursor, before.datasets if before else ())
        wanted = had if arguments.datasets is None else _ids(cursor, arguments.datasets)
        plan = Plan(
            arguments.name,
            before,
            password_hash=None if password is None else _new_hash(before, password),
            disabled=False if before and before.disabled_at else None,
            granted={name: number for name, number in wanted.items() if name not in had},
            revoked={name: number for name, number in had.items() if name not in wanted},
        )
        return _done(cursor, arguments, plan, "user add")


def _passwd(arguments: _Passwd, context: Context) -> Answer:
    with db.session(context.settings, "owner") as connection, db.transaction(connection) as cursor:
        store.require_user(cursor, arguments.name)
    # Nobody waits for a lock while somebody types.
    file = arguments.password_file
    password = passwords.from_file(file) if file else passwords.asked()
    with changing(arguments, context) as cursor:
        before = store.require_user(cursor, arguments.name)
        plan = Plan(arguments.name, before, password_hash=_new_hash(before, password))
        return _done(cursor, arguments, plan, "user passwd")


def _disable(arguments: Named, context: Context) -> Answer:
    with changing(arguments, context) as cursor:
        before = store.require_user(cursor, arguments.name)
        plan = Plan(arguments.name, before, disabled=None if before.disabled_at else True)
        return _done(cursor, arguments, plan, "user disable")


def _grant(arguments: _Grants, context: Context) -> Answer:
    with changing(arguments, context) as cursor:
        before = store.require_user(cursor, arguments.name)
        named = _ids(cursor, arguments.datasets)
        granted = {name: number for name, number in named.items() if name not in before.datasets}
        return _done(cursor, arguments, Plan(arguments.name, before, granted=granted), "user grant")


def _revoke(arguments: _Grants, context: Context) -> Answer:
    with changing(arguments, context) as cursor:
        before = store.require_user(cursor, arguments.name)
        named = _ids(cursor, arguments.datasets)
        revoked = {name: number for name, number in named.items() if name in before.datasets}
        return _done(
            cursor, arguments, Plan(arguments.name, before, revoked=revoked), "user revoke"
        )


def _ids(cursor: Cursor, names: Iterator[str] | list[str] | tuple[str, ...]) -> dict[str, int]:
    return {name: require_dataset(cursor, name).id for name in sorted(set(names))}


def _done(cursor: Cursor, arguments: Named, plan: Plan, action: str) -> Answer:
    lines = plan.lines
    if not arguments.check:
        apply(cursor, plan, action)
    after = None if arguments.check else store.find(cursor, plan.name)
    done = f"User {plan.name}: " + ("; ".join(lines) or "nothing to do") + "."
    if after and after.password_hash is None and not after.tokens:
        done += f" No password yet: `cbm user passwd {plan.name}`."
    return Answer(
        changed=bool(lines),
        plan=lines,
        result={"user": plan.name},
        before=_describe(plan.before),
        after=_describe(_planned(plan)),
        text="" if arguments.check and lines else done,
    )


def _planned(plan: Plan) -> dict[str, Any]:
    """Return what :func:`as_json` will say of the user."""
    was = as_json(plan.before) if plan.before else {}
    datasets = {*was.get("datasets", ()), *(plan.granted or ())} - set(plan.revoked or ())
    return {
        "user": plan.name,
        "disabled": was.get("disabled", False) if plan.disabled is None else plan.disabled,
        "has_password": plan.password_hash is not None or was.get("has_password", False),
        "datasets": sorted(datasets),
        "tokens": was.get("tokens", []),
    }


def as_json(user: User) -> dict[str, Any]:
    """Return a user as `cbm user list` prints it; times are ISO 8601, UTC."""
    return {
        "user": user.name,
        "disabled": user.disabled_at is not None,
        "has_password": user.password_hash is not None,
        "datasets": list(user.datasets),
        "tokens": [
            {"label": token.label, "expires_at": token.expires_at.isoformat()}
            for token in user.tokens
        ],
    }


def _describe(user: User | dict[str, Any] | None) -> str:
    if user is None:
        return ""
    document = as_json(user) if isinstance(user, User) else user
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _list(_arguments: _List, context: Context) -> Answer:
    with db.session(context.settings, "owner") as connection, db.transaction(connection) as cursor:
        users = [as_json(user) for user in store.list_all(cursor)]
    return Answer(
        result={"users": users}, text="\n".join(_line(user) for user in users) or "No users."
    )


def _line(user: dict[str, Any]) -> str:
    tokens = [f"{token['label']} until {token['expires_at'][:10]}" for token in user["tokens"]]
    parts = [
        f"{user['user']}{' (disabled)' if user['disabled'] else ''}",
        "password" if user["has_password"] else "no password",
        f"tokens: {', '.join(tokens) or 'none'}",
        f"reads: {', '.join(user['datasets']) or 'nothing'}",
    ]
    return "  ".join(parts)


ADD = Verb("Add a user of the API, or change password and datasets.", _Add, _add)
PASSWD = Verb("Set a user's password, and end lockouts.", _Passwd, _passwd)
DISABLE = Verb("Shut a user out; `cbm user add` lets the user in again.", Named, _disable)
LIST = Verb("List the users of the API, what they may read, and their tokens.", _List, _list)
GRANT = Verb("Let a user read datasets.", _Grants, _grant)
REVOKE = Verb("Take the reading of datasets from a user.", _Grants, _revoke)
