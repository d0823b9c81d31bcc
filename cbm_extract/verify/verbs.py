"""The command ``cbm signatures verify``."""

from __future__ import annotations

import random
from datetime import date
from typing import Any

from pydantic import Field, model_validator

from cbm_core import db
from cbm_core.datasets.store import Dataset, require_dataset
from cbm_core.db import Connection, Cursor
from cbm_core.errors import CbmError
from cbm_core.progress import step
from cbm_core.settings import Settings
from cbm_core.verbs import Answer, Arguments, Context, Verb, positional
from cbm_extract.read import staging
from cbm_extract.store import evidence, standing
from cbm_extract.store.evidence import Slot
from cbm_extract.store.products import registered_ids
from cbm_extract.verify import assets, recompute, stored
from cbm_extract.verify.findings import Finding, lines
from cbm_extract.verify.stored import Origins


class _Verify(Arguments):
    dataset: str = positional("Dataset, as aoi:year.")
    products: list[str] | None = Field(
        default=None, description="Only this product (s2, or s2@2); repeatable."
    )
    scene: str | None = Field(default=None, description="Only the scene so named.")
    start: date | None = Field(default=None, description="Only scenes from this day (UTC) on.")
    end: date | None = Field(default=None, description="Only scenes up to this day, inclusive.")
    recompute: bool = Field(
        default=False, description="Read the scenes again and compare what comes out as well."
    )
    sample: int | None = Field(
        default=None, ge=1, description="Only so many scenes, drawn anew each time."
    )

    @property
    def whole(self) -> bool:
        """Whether no scene is left out."""
        return not any((self.scene, self.sample, self.start, self.end))

    @model_validator(mode="after")
    def _period(self) -> _Verify:
        if self.start and self.end and self.start > self.end:
            raise ValueError("start is after end")
        return self


def _verify(arguments: _Verify, context: Context) -> Answer:
    staging.prepare(context.settings.storage)
    with db.session(context.settings) as connection:
        with db.transaction(connection) as cursor:
            # Rows and evidence of one moment, whatever is extracted meanwhile.
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            dataset, slots = _choose(cursor, arguments)
            origins = Origins(*evidence.parcel_sets_of(cursor, dataset.id))
            findings = _check_stored(cursor, dataset.id, slots, origins, arguments.whole)
        findings += _check_files(connection, dataset.id, slots)
        if arguments.recompute:
            findings += _recompute(context.settings, connection, dataset.id, slots, origins)
    result = {
        "dataset": dataset.name,
        "slices": len(slots),
        "scenes": len({slot.scene_id for slot in slots}),
        "recomputed": arguments.recompute,
        "findings": [one.as_json() for one in findings],
    }
    errors = [one for one in findings if not one.warning]
    if errors:
        raise CbmError(
            "signatures_differ",
            f"{len(errors)} differences in {len(slots)} slices of {dataset.name}:"
            f" {'; '.join(lines(findings))}.",
            "`cbm ledger explain` tells the history of a scene; `cbm ledger redo` extracts it"
            " again.",
            result=result,
        )
    return Answer(result=result, text="\n".join(_summary(result, findings)))


def _choose(cursor: Cursor, arguments: _Verify) -> tuple[Dataset, list[Slot]]:
    dataset = require_dataset(cursor, arguments.dataset)
    if arguments.scene:
        standing.require(cursor, arguments.scene, None)
    products = registered_ids(cursor, arguments.products) if arguments.products else None
    slots = evidence.slots(
        cursor,
        dataset.id,
        product_ids=products,
        reference=arguments.scene,
        start=arguments.start,
        end=arguments.end,
    )
    scenes = sorted({slot.scene_id for slot in slots})
    if arguments.sample is not None and arguments.sample < len(scenes):
        drawn = set(random.sample(scenes, arguments.sample))
        slots = [slot for slot in slots if slot.scene_id in drawn]
    return dataset, slots


def _check_stored(
    cursor: Cursor, dataset_id: int, slots: list[Slot], origins: Origins, whole: bool
) -> list[Finding]:
    with step("Comparing rows with their evidence", len(slots), "slices") as progress:
        found = stored.check_rows(
            cursor, dataset_id, slots, origins, progress.advance, whole_months=whole
        )
    return found + stored.check_plans(cursor, dataset_id, slots)


def _check_files(connection: Connection, dataset_id: int, slots: list[Slot]) -> list[Finding]:
    scenes = len({slot.scene_id for slot in slots})
    with step("Asking for the versions of files", scenes, "scenes") as progress:
        return assets.check(connection, dataset_id, slots, progress.advance)


def _recompute(
    settings: Settings,
    connection: Connection,
    dataset_id: int,
    slots: list[Slot],
    origins: Origins,
) -> list[Finding]:
    scenes: dict[int, list[Slot]] = {}
    for slot in slots:
        if slot.covers:
            scenes.setdefault(slot.scene_id, []).append(slot)
    found = []
    threads = settings.engine.threads
    with step("Computing anew", len(scenes), "scenes") as progress:
        for mine in scenes.values():
            found += recompute.check_scene(connection, dataset_id, mine, origins, threads)
            progress.advance()
    return found


def _summary(result: dict[str, Any], findings: list[Finding]) -> list[str]:
    if not result["slices"]:
        return [f"Nothing of {result['dataset']} is extracted in that selection."]
    what = "their evidence and what comes out anew" if result["recomputed"] else "their evidence"
    return [
        f"{result['slices']} slices of {result['scenes']} scenes agree with {what}.",
        *lines(findings),
    ]


VERIFY = Verb(
    "Compare stored statistics with their evidence, or compute them anew.", _Verify, _verify
)
