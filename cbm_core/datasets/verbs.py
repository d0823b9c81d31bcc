"""The commands ``cbm dataset add|list|purge``."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from cbm_core import db
from cbm_core.datasets import background as backgrounds
from cbm_core.datasets import store
from cbm_core.datasets.store import Dataset
from cbm_core.db import Cursor
from cbm_core.errors import CbmError
from cbm_core.verbs import Answer, Arguments, ChangingArguments, Context, Verb, positional

_AOI = r"^[a-z][a-z0-9_]{0,31}$"


def parse_bounds(text: str) -> list[float]:
    """Read ``west,south,east,north`` in EPSG:4326 degrees.

    West may be greater than east: the area then crosses the antimeridian.

    Raises:
        ValueError: when these are not four numbers in range.

    """
    parts = [float(part) for part in text.split(",")]
    if len(parts) != 4:
        raise ValueError("expected four numbers: west,south,east,north")
    west, south, east, north = parts
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90):
        raise ValueError("expected degrees: -180..180 for west and east, south below north")
    return parts


def _checked(text: str) -> str:
    parse_bounds(text)
    return text


BoundsText = Annotated[str, AfterValidator(_checked)]
"""A field of what :func:`parse_bounds` reads."""


class _Name(ChangingArguments):
    aoi: str = positional("Short name of the area, e.g. ie.", pattern=_AOI)
    year: int = positional("Year of declaration.", ge=1980, le=2200)


class _Add(_Name):
    imagery_start: date | None = Field(
        default=None, description="First day of imagery; default 1 January of the year."
    )
    imagery_end: date | None = Field(
        default=None, description="Last day of imagery, inclusive; default 31 December of the year."
    )
    bounds: BoundsText | None = Field(
        default=None,
        description="west,south,east,north of the area in degrees (EPSG:4326): an import reports "
        "parcels outside. A negative west is written --bounds=-10.7,51.3,-5.9,55.5.",
    )
    readers: list[str] | None = Field(
        default=None,
        description="The database roles that may read the dataset: all of them, others lose it. "
        "Left out: unchanged.",
    )
    background: str | None = Field(
        default=None,
        max_length=1000,
        description=f"What is shown behind the parcels. {backgrounds.SOURCE} Left out: unchanged;"
        " empty: none.",
    )
    background_layers: str | None = Field(
        default=None, max_length=200, description="Layers, where the background is a map service."
    )
    background_zoom: int | None = Field(
        default=None,
        ge=0,
        le=24,
        description="Deepest zoom, where the background are map tiles;"
        f" default {backgrounds.DEEPEST_ZOOM}.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> _Add:
        if self.imagery_start and self.imagery_end and self.imagery_start > self.imagery_end:
            raise ValueError("imagery_start is after imagery_end")
        further = (self.background_layers, self.background_zoom)
        if not self.background and further != (None, None):
            raise ValueError("background_layers and background_zoom go with background")
        return self


class _List(Arguments):
    """No arguments."""


class _Purge(_Name):
    confirm: str | None = Field(
        default=None,
        description="The dataset's name aoi:year again; without it nothing is removed.",
    )


@dataclass(frozen=True)
class AddPlan:
    """What makes a dataset as declared; ``before`` is None where it has to be inserted."""

    before: Dataset | None
    after: Dataset
    granted: list[str]
    revoked: list[str]

    @property
    def lines(self) -> list[str]:
        """The changes in words, empty when there is nothing to do."""
        name, before, after = self.after.name, self.before, self.after
        period = f"{after.imagery_start} to {after.imagery_end}"
        lines = []
        if before is None:
            lines.append(f"add dataset {name} (imagery {period})")
        elif (before.imagery_start, before.imagery_end) != (after.imagery_start, after.imagery_end):
            was = f"{before.imagery_start} to {before.imagery_end}"
            lines.append(f"change imagery of {name} from {was} to {period}")
        settings = before.settings if before else {}
        bounds = self.after.settings.get("bounds")
        if bounds != settings.get("bounds"):
            lines.append(f"set bounds of {name} to {bounds}")
        lines += backgrounds.change(settings, self.after)
        lines += [f"let role {role} read {name}" for role in self.granted]
        lines += [f"take reading of {name} from role {role}" for role in self.revoked]
        return lines


def plan_add(cursor: Cursor, arguments: _Add) -> AddPlan:
    """Compare what is declared with what is there; changes nothing.

    Raises:
        CbmError: ``role_unknown`` when a reader is no database role that may read at all,
            ``period_invalid`` when a given date contradicts the stored other one,
            ``background_invalid``.

    """
    before = store.find(cursor, arguments.aoi, arguments.year)
    after = before or Dataset(
        id=0,
        aoi=arguments.aoi,
        year=arguments.year,
        imagery_start=date(arguments.year, 1, 1),
        imagery_end=date(arguments.year, 12, 31),
    )
    after = replace(
        after,
        imagery_start=arguments.imagery_start or after.imagery_start,
        imagery_end=arguments.imagery_end or after.imagery_end,
    )
    if after.imagery_start > after.imagery_end:
        raise CbmError(
            "period_invalid",
            f"The imagery of {after.name} would start {after.imagery_start}, after its end "
            f"{after.imagery_end}.",
            "Give both imagery_start and imagery_end.",
        )
    if arguments.bounds is not None:
        bounds = parse_bounds(arguments.bounds)
        after = replace(after, settings={**after.settings, "bounds": bounds})
    if arguments.background is not None:
        after = backgrounds.placed(after, _background(arguments))
    if arguments.readers is not None:
        _require_roles(cursor, arguments.readers)
        after = replace(after, readers=tuple(sorted(set(arguments.readers))))
    had = set(before.readers) if before else set()
    wanted = set(after.readers)
    return AddPlan(before, after, sorted(wanted - had), sorted(had - wanted))


def _background(arguments: _Add) -> backgrounds.Background | None:
    if not arguments.background:
        return None
    zoom = arguments.background_zoom
    return backgrounds.wanted(
        arguments.background,
        arguments.background_layers,
        backgrounds.DEEPEST_ZOOM if zoom is None else zoom,
    )


def apply_add(cursor: Cursor, plan: AddPlan) -> None:
    """Do what the plan says."""
    if not plan.lines:
        return
    if plan.before is None:
        dataset_id = store.insert(cursor, plan.after)
    else:
        dataset_id = plan.before.id
        store.update(cursor, plan.after)
    store.grant(cursor, dataset_id, plan.granted)
    store.revoke(cursor, dataset_id, plan.revoked)
    store.audit(cursor, "dataset add", plan.after.name, plan.lines)


def _require_roles(cursor: Cursor, roles: list[str]) -> None:
    unusable = store.roles_that_cannot_read(cursor, roles)
    if unusable:
        raise CbmError(
            "role_unknown",
            f"Not database roles that may read: {', '.join(unusable)}.",
            "A reader must exist and be a member of cbm_read.",
            roles=unusable,
        )


def _add(arguments: _Add, context: Context) -> Answer:
    with db.session(context.settings) as connection, db.transaction(connection) as cursor:
        if not arguments.check:
            store.lock(cursor)
        plan = plan_add(cursor, arguments)
        if not arguments.check:
            apply_add(cursor, plan)
    name = plan.after.name
    done = f"Dataset {name}: " + ("; ".join(plan.lines) or "nothing to do") + "."
    return Answer(
        changed=bool(plan.lines),
        plan=plan.lines,
        result={"dataset": name},
        before=_describe(plan.before),
        after=_describe(plan.after),
        text="" if arguments.check and plan.lines else done,
    )


def _as_json(dataset: Dataset) -> dict[str, Any]:
    return {
        "dataset": dataset.name,
        "aoi": dataset.aoi,
        "year": dataset.year,
        "imagery_start": dataset.imagery_start.isoformat(),
        "imagery_end": dataset.imagery_end.isoformat(),
        "bounds": dataset.settings.get("bounds"),
        "background": dataset.settings.get("background"),
        "readers": list(dataset.readers),
    }


def _describe(dataset: Dataset | None) -> str:
    if dataset is None:
        return ""
    return json.dumps(_as_json(dataset), indent=2, sort_keys=True) + "\n"


def _list(_arguments: _List, context: Context) -> Answer:
    with db.session(context.settings) as connection, db.transaction(connection) as cursor:
        datasets = store.list_all(cursor)
        counts = store.parcel_counts(cursor)
    rows = [{**_as_json(d), "parcels": counts.get(d.id, {})} for d in datasets]
    lines = [
        f"{row['dataset']}  imagery {row['imagery_start']} to {row['imagery_end']}  "
        f"{sum(row['parcels'].values())} parcels in {len(row['parcels'])} layers  "
        f"readers: {', '.join(row['readers']) or 'none'}"
        for row in rows
    ]
    return Answer(result={"datasets": rows}, text="\n".join(lines) or "No datasets.")


def _purge(arguments: _Purge, context: Context) -> Answer:
    name = f"{arguments.aoi}:{arguments.year}"
    if not arguments.check and arguments.confirm != name:
        raise CbmError(
            "not_confirmed",
            f"Purging removes all parcels and signatures of {name} for good; "
            f"expected confirm={name}, found {arguments.confirm or 'none'}.",
            f"See what goes with --check, then add --confirm {name}.",
        )
    with db.session(context.settings) as connection, db.transaction(connection) as cursor:
        dataset = store.find(cursor, arguments.aoi, arguments.year)
        if dataset is None:
            return Answer(result={"dataset": name}, text=f"There is no dataset {name}.")
        act = store.contents if arguments.check else store.purge
        removed = act(cursor, dataset.id)
    counts = ", ".join(f"{number} {what}" for what, number in removed.items())
    return Answer(
        changed=True,
        plan=[f"purge dataset {name}: {counts}"],
        result={"dataset": name, "removed": removed},
        before=_describe(dataset),
        text="" if arguments.check else f"Purged {name}: {counts}.",
    )


ADD = Verb("Add a dataset or change its period, bounds, background and readers.", _Add, _add)
LIST = Verb("List datasets.", _List, _list)
PURGE = Verb("Remove a dataset's parcels, plans and signatures for good.", _Purge, _purge)
