"""Scenes set aside by a person, and put back into use."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from psycopg2.extras import Json

from cbm_core.db import Cursor
from cbm_core.errors import CbmError
from cbm_extract.catalogue import register
from cbm_extract.catalogue.register import ACTIVE, HELD, RETRACTED, Key, Known, RegisterPlan, key_of
from cbm_extract.store import scenes

_CANDIDATES = 200
_WORD = re.compile(r"[A-Za-z0-9]{3,}")


@dataclass(frozen=True)
class StandingPlan:
    """Scenes whose state is set to ``state``, and what then becomes of others of their time."""

    state: str
    scenes: tuple[Known, ...]
    follows: RegisterPlan

    @property
    def lines(self) -> list[str]:
        """The plan in words, empty when there is nothing to do."""
        word = "retract" if self.state == RETRACTED else "release"
        return [f"{word} {key_of(one.scene)}" for one in self.scenes] + self.follows.lines

    def describe(self, *, after: bool) -> str:
        """Return the scenes concerned as they stand before or after, a line each."""
        rows = {key_of(one.scene): self.state if after else one.state for one in self.scenes}
        for change in self.follows.states:
            if after:
                rows[change.key] = str(change.after)
            elif change.key not in rows:
                rows[change.key] = str(change.before)
        return "".join(f"{key}: {rows[key]}\n" for key in sorted(rows))


def require(cursor: Cursor, reference: str, part: str | None) -> list[Known]:
    """Return the scenes so named.

    Raises:
        CbmError: ``scene_unknown`` with the nearest names.

    """
    found = scenes.named(cursor, reference, part)
    if found:
        return found
    near = nearest(cursor, reference)
    parts = [one.scene.part for one in scenes.named(cursor, reference, None)] if part else []
    raise CbmError(
        "scene_unknown",
        f"No scene {reference}{f' part {part}' if part else ''} is catalogued"
        + (f"; its parts are: {', '.join(parts)}." if parts else "."),
        f"Names like it: {', '.join(near)}." if near else "`cbm scenes list` shows what there is.",
        nearest=near,
    )


def nearest(cursor: Cursor, reference: str, limit: int = 5) -> list[str]:
    """Return the catalogued references most like one that is not there.

    Those that share most of its words come into question; their letters decide.
    """
    words = _WORD.findall(reference) or [reference]
    cursor.execute(
        """SELECT reference FROM (SELECT DISTINCT reference FROM cbm.scene) s,
           LATERAL (SELECT count(*) AS shared FROM unnest(%s::text[]) word
                    WHERE strpos(lower(reference), lower(word)) > 0) w
           ORDER BY shared DESC, reference LIMIT %s""",
        (words, _CANDIDATES),
    )
    return difflib.get_close_matches(reference, [row[0] for row in cursor.fetchall()], limit, 0.5)


def plan(cursor: Cursor, found: Sequence[Known], state: str) -> StandingPlan:
    """Find what retracting (``retracted``) or releasing (``active``) scenes changes.

    Only held and retracted scenes can be released; what is so already is left out. Changes nothing.
    """
    movable = {HELD, RETRACTED} if state == ACTIVE else {"active", "superseded", HELD}
    chosen = {one.id: one for one in found if one.state in movable}
    known = [
        replace(one, state=state, superseded_by=None) if one.id in chosen else one
        for one in scenes.concerned(cursor, [one.scene for one in chosen.values()])
    ]
    return StandingPlan(state, tuple(chosen.values()), register.plan(known, []))


def apply(cursor: Cursor, todo: StandingPlan, reason: str | None) -> None:
    """Do what the plan says; the caller has locked the catalogue.

    A scene released from being held is not held for the same reason again.
    """
    if not todo.scenes:
        return
    cursor.execute(
        """UPDATE cbm.scene SET state = %(state)s, superseded_by = NULL, state_since = now(),
             state_reason = CASE WHEN %(state)s = 'retracted' THEN %(reason)s END,
             overruled = CASE WHEN %(state)s = 'active' AND state = 'held'
                                AND state_reason <> ALL(overruled)
                         THEN overruled || state_reason ELSE overruled END
           WHERE id = ANY(%(ids)s)""",
        {"state": todo.state, "reason": reason, "ids": [one.id for one in todo.scenes]},
    )
    scenes.apply(cursor, todo.follows)
    detail = {
        "scenes": [str(Key(*key_of(one.scene))) for one in todo.scenes],
        "reason": reason,
        "before": sorted({one.state for one in todo.scenes}),
    }
    action = "scenes retract" if todo.state == RETRACTED else "scenes release"
    cursor.execute("INSERT INTO cbm.audit (action, detail) VALUES (%s, %s)", (action, Json(detail)))
