"""The commands ``cbm schema plan|migrate|status|bootstrap``."""

from __future__ import annotations

from cbm_core.migrations import runner
from cbm_core.migrations.files import BOOTSTRAP
from cbm_core.verbs import Answer, Arguments, ChangingArguments, Context, Verb


def bootstrap_sql() -> str:
    """Return the SQL a superuser runs once: roles, extension, schema."""
    return BOOTSTRAP.read_text(encoding="utf-8")


class _None(Arguments):
    """No arguments."""


def _listing(names: list[str]) -> str:
    return "".join(f"{name}\n" for name in names)


def _answer(todo: runner.Plan, *, changed: bool) -> Answer:
    applied = [row.name for row in todo.applied]
    pending = [migration.name for migration in todo.pending]
    return Answer(
        changed=changed,
        plan=[f"apply {m.name} ({m.kind})" for m in todo.pending] if changed else [],
        result={
            "applied": applied,
            "pending": pending,
            "newer": [row.name for row in todo.newer],
        },
        before=_listing(applied),
        after=_listing(applied + pending) if changed else _listing(applied),
    )


def _plan(_arguments: _None, context: Context) -> Answer:
    todo = runner.plan(context.settings)
    answer = _answer(todo, changed=False)
    lines = [f"apply {m.name} ({m.kind})" for m in todo.pending]
    text = "\n".join(lines) or f"Nothing to do: {len(todo.applied)} migrations applied."
    return Answer(result=answer.result, before=answer.before, after=answer.after, text=text)


def _migrate(arguments: ChangingArguments, context: Context) -> Answer:
    todo = (runner.plan if arguments.check else runner.migrate)(context.settings)
    answer = _answer(todo, changed=bool(todo.pending))
    done = f"{len(todo.pending)} migrations applied." if todo.pending else "Nothing to do."
    return Answer(
        changed=answer.changed,
        plan=answer.plan,
        result=answer.result,
        before=answer.before,
        after=answer.after,
        text="" if arguments.check and todo.pending else done,
    )


def _status(_arguments: _None, context: Context) -> Answer:
    todo = runner.plan(context.settings)
    rows = [f"applied  {row.name}" for row in todo.applied]
    rows += [f"pending  {migration.name}" for migration in todo.pending]
    return Answer(result=_answer(todo, changed=False).result, text="\n".join(rows))


def _bootstrap(_arguments: _None, _context: Context) -> Answer:
    text = bootstrap_sql()
    return Answer(result={"sql": text}, text=text.rstrip())


PLAN = Verb("Show which migrations would be applied.", _None, _plan)
MIGRATE = Verb("Apply the pending migrations.", ChangingArguments, _migrate)
STATUS = Verb("List applied and pending migrations.", _None, _status)
BOOTSTRAP_VERB = Verb("Print the SQL a superuser runs once.", _None, _bootstrap)
