"""The commands ``cbm scenes retract|release``."""

from __future__ import annotations

from pydantic import Field

from cbm_core import db
from cbm_core.verbs import Answer, ChangingArguments, Context, Verb, positional
from cbm_extract.catalogue.register import ACTIVE, RETRACTED, key_of
from cbm_extract.store import scenes, standing


class _Release(ChangingArguments):
    reference: str = positional("The scene's reference, as `cbm scenes list` shows it.")
    part: str | None = Field(
        default=None, description="Only this part of it; all its parts otherwise."
    )
    reason: str | None = Field(default=None, description="Why; kept in the audit trail.")


class _Retract(_Release):
    reason: str = Field(
        min_length=1, description="Why; shown with the scene and kept in the audit trail."
    )


def _retract(arguments: _Retract, context: Context) -> Answer:
    return _stand(arguments, context, RETRACTED)


def _release(arguments: _Release, context: Context) -> Answer:
    return _stand(arguments, context, ACTIVE)


def _stand(arguments: _Release, context: Context, state: str) -> Answer:
    with db.session(context.settings) as connection, db.transaction(connection) as cursor:
        if not arguments.check:
            scenes.lock(cursor)
        found = standing.require(cursor, arguments.reference, arguments.part)
        todo = standing.plan(cursor, found, state)
        if not arguments.check:
            standing.apply(cursor, todo, arguments.reason)
    names = [str(key_of(one.scene)) for one in todo.scenes]
    after = {str(change.key): str(change.after) for change in todo.follows.states}
    as_they_are = sorted({f"{one.state}" for one in found if one not in todo.scenes})
    return Answer(
        changed=bool(todo.scenes),
        plan=todo.lines,
        result={"scenes": names, "state": state, "others": after},
        before=todo.describe(after=False),
        after=todo.describe(after=True),
        text=_text(state, names, as_they_are, done=not arguments.check),
    )


def _text(state: str, names: list[str], as_they_are: list[str], *, done: bool) -> str:
    if not names:
        return f"Nothing to do: the scene is {' and '.join(as_they_are)}."
    if not done:
        return ""
    if state == RETRACTED:
        return (
            f"{len(names)} scenes retracted: their statistics are hidden, not deleted. The next"
            " `cbm extract` fills what neighbouring tiles had left to them."
        )
    return f"{len(names)} scenes released; the next `cbm extract` goes on with them."


RETRACT = Verb("Take a scene out of use: its statistics are hidden.", _Retract, _retract)
RELEASE = Verb("Put a held or retracted scene into use.", _Release, _release)
