"""What a command is: one definition serves the terminal, ``cbm --json`` and the Ansible modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from cbm_core.settings import Settings


class Arguments(BaseModel):
    """Base of every verb's arguments: unknown names are refused, values are not changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ChangingArguments(Arguments):
    """Arguments of a verb that changes something."""

    check: bool = Field(default=False, description="Say what would be done and change nothing.")


def positional(description: str, **extra: Any) -> Any:
    """Declare a field that stands without a flag on the command line."""
    return Field(description=description, json_schema_extra={"positional": True}, **extra)


ArgumentsT = TypeVar("ArgumentsT", bound=Arguments)


@dataclass(frozen=True)
class Answer:
    """What a verb returns.

    ``plan`` lists in words what was, or with ``check`` would be, done: empty when ``changed`` is
    false. ``result`` is what programs read. ``before``/``after`` feed Ansible's diff.
    ``text`` is what a person reads.
    """

    changed: bool = False
    plan: list[str] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    before: str = ""
    after: str = ""
    text: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the form that ``cbm --json`` prints."""
        return {
            "changed": self.changed,
            "plan": self.plan,
            "result": self.result,
            "diff": {"before": self.before, "after": self.after},
        }


@dataclass(frozen=True)
class Context:
    """What a verb runs with."""

    settings: Settings


@dataclass(frozen=True)
class Verb(Generic[ArgumentsT]):
    """A command: its arguments' model and the function that does it."""

    summary: str
    arguments: type[ArgumentsT]
    run: Callable[[ArgumentsT, Context], Answer]
