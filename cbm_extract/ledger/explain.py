"""The command ``cbm ledger explain``: a scene's state and history in plain words."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from cbm_core import db
from cbm_core.datasets.store import require_dataset
from cbm_core.verbs import Answer, Arguments, Context, Verb, positional
from cbm_extract.ledger import history
from cbm_extract.ledger.history import ItemFacts, SceneFacts
from cbm_extract.ledger.states import MAX_ATTEMPTS
from cbm_extract.store import standing

_SCOPES = {
    "delta": "the parcels that came since",
    "fill": "parcels that no better tile serves any more, and those that came since",
    "full": "everything again",
}


class _Explain(Arguments):
    reference: str = positional("The scene's reference, as `cbm scenes list` shows it.")
    part: str | None = Field(default=None, description="Only this part of it.")
    dataset: str | None = Field(default=None, description="Only this dataset, as aoi:year.")


def _explain(arguments: _Explain, context: Context) -> Answer:
    with db.session(context.settings) as connection, db.transaction(connection) as cursor:
        dataset = require_dataset(cursor, arguments.dataset) if arguments.dataset else None
        chosen = dataset.id if dataset else None
        found = standing.require(cursor, arguments.reference, arguments.part)
        documents, texts = [], []
        for scene in history.scenes(cursor, [one.id for one in found]):
            items = history.items(cursor, scene.id, chosen)
            unasked = history.unasked(cursor, scene.id, chosen)
            documents.append(_document(scene, items, unasked))
            texts.append(_text(scene, items, unasked))
    return Answer(result={"scenes": documents}, text="\n\n".join(texts))


def _document(scene: SceneFacts, items: list[ItemFacts], unasked: list[str]) -> dict[str, Any]:
    return {
        **_plain(vars(scene)),
        "explanation": _standing(scene),
        "items": [
            {
                **_plain(vars(item)),
                "runs": [_plain(run) for run in item.runs],
                "next": _next(scene, item),
            }
            for item in items
        ],
        "not_asked_for_by": unasked,
    }


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in facts.items()
    }


def _text(scene: SceneFacts, items: list[ItemFacts], unasked: list[str]) -> str:
    name = f"{scene.card} {scene.reference}" + (f" part {scene.part}" if scene.part else "")
    lines = [
        f"{name}, seen {_time(scene.obstime)}" + (f", tile {scene.tile}" if scene.tile else ""),
        f"  catalogue: {_standing(scene)}",
    ]
    for item in items:
        lines += [f"  {item.dataset} {item.product}: {item.state}"]
        lines += [f"    {line}" for line in _item_lines(scene, item)]
    if unasked:
        lines.append(
            f"  not asked for yet by {', '.join(unasked)}, whose parcels it shows; `cbm extract`"
            " of the dataset does."
        )
    elif not items:
        lines.append("  No dataset has parcels under it in its period of imagery.")
    return "\n".join(lines)


def _standing(scene: SceneFacts) -> str:
    """Say what the catalogue thinks of a scene, and what can be done about it."""
    since = f"since {_time(scene.state_since)}"
    if scene.state == "active":
        words = "active: in use"
        if scene.supersedes:
            words += f", instead of {', '.join(scene.supersedes)}"
        if scene.overruled:
            words += f"; released by an operator in spite of {', '.join(scene.overruled)}"
        return f"{words}."
    if scene.state == "superseded":
        return (
            f"superseded {since} by {scene.superseded_by}: its statistics are hidden."
            f" `cbm scenes retract` of {scene.superseded_by} would bring it back."
        )
    if scene.state == "held":
        return (
            f"held {since} ({scene.state_reason}): not extracted, not shown. Catalogue it with"
            " right values, or, where they are right, `cbm scenes release` it."
        )
    return (
        f"retracted {since} ({scene.state_reason}): not extracted, not shown."
        " `cbm scenes release` takes it back."
    )


def _item_lines(scene: SceneFacts, item: ItemFacts) -> list[str]:
    lines = [f"covers: {_covers(item)}"]
    if item.attempts and item.state != "done":
        lines.append(f"attempts: {item.attempts} of {MAX_ATTEMPTS}")
    if item.error:
        lines.append(f"last error, {_time(item.finished_at)} ({item.error_code}): {item.error}")
    for run in item.runs:
        lines.append(f"run {run['id']}, {_time(run['finished_at'])}: {_run(run)}")
    lines.append(f"next: {_next(scene, item)}")
    return lines


def _covers(item: ItemFacts) -> str:
    if not item.parcel_set_id:
        return "nothing yet"
    sets = ", ".join(map(str, item.newer_sets))
    upto = f"parcels imported up to set {item.parcel_set_id}"
    return f"{upto}, not those of {sets}" if sets else f"{upto}: all it shows"


def _run(run: dict[str, Any]) -> str:
    words = {
        "full": f"all parcels up to set {run['parcel_set_to']}",
        "delta": f"parcels of sets {run['parcel_set_from'] + 1} to {run['parcel_set_to']}",
        "fill": "parcels that had no row",
    }[run["scope"]]
    text = f"{words}, {run['rows']} rows, digest {run['digest']}, version {run['software_version']}"
    if run["missing_bands"]:
        text += f", without {', '.join(run['missing_bands'])}"
    if run["replaced"] is not None:
        text += (
            f"; differed: {run['replaced']} old rows are archived"
            if run["replaced"]
            else "; it came out as before"
        )
    return text


def _next(scene: SceneFacts, item: ItemFacts) -> str:
    """Say what will happen to an item, and what an operator can do."""
    extract = f"`cbm extract {item.dataset}`"
    if item.state == "running":
        return _running(item)
    if item.state == "failed":
        return (
            f"nothing, until the cause is mended and `cbm ledger retry {item.dataset}` puts it back"
            " to work."
        )
    if item.state == "done":
        if item.newer_sets and scene.state == "active":
            return f"{extract} does the parcels that came since."
        return "nothing, until new parcels come or `cbm ledger redo` asks for it again."
    what = _SCOPES[item.scope] if item.parcel_set_id else "all parcels"
    why = f" ({item.reason})" if item.reason and item.scope != "delta" else ""
    if scene.state != "active":
        return f"nothing while the scene is {scene.state}; then {what}{why}."
    return f"the next worker does {what}{why}: {extract}, or one that runs already."


def _running(item: ItemFacts) -> str:
    then = f" Then {_SCOPES[item.next_scope]}." if item.next_scope else ""
    since = f"{item.worker} has worked on it since {_time(item.started_at)}"
    if item.lease_expired:
        return (
            f"{since}, but was last heard of before {_time(item.lease_until)}: the next worker"
            f" takes it over.{then}"
        )
    return (
        f"{since}; its lease, extended as long as it lives, is to {_time(item.lease_until)}.{then}"
    )


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "never"


EXPLAIN = Verb(
    "Say all about a scene: its state, its history, what comes next.", _Explain, _explain
)
