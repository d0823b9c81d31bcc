"""The command ``cbm sample``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from cbm_core.verbs import Answer, ChangingArguments, Context, Verb, positional
from cbm_extract.sample import build
from cbm_extract.sample.season import PASSES


class SampleArguments(ChangingArguments):
    """What sample to make, and where."""

    out_dir: Path = positional("New or empty folder, or one that holds this sample already.")
    parcels: int = Field(default=2000, ge=40, le=20_000, description="Number of parcels (2000).")
    dates: int = Field(
        default=30, ge=4, le=PASSES, description="Number of acquisitions, March to October (30)."
    )
    size: int = Field(
        default=1024, ge=128, le=5490, multiple_of=2, description="Pixels of 10 m per side (1024)."
    )
    seed: int = Field(default=1, ge=0, description="Another seed makes another sample (1).")


def _sample(arguments: SampleArguments, _context: Context) -> Answer:
    recipe = build.Recipe(arguments.parcels, arguments.dates, arguments.size, arguments.seed)
    folder = arguments.out_dir.expanduser().absolute()
    todo = build.plan(folder, recipe)
    if not arguments.check:
        build.apply(todo)
    changed = bool(todo.reason)
    text = f"{folder}: the sample is complete; README.txt says what is there."
    if arguments.check and changed:
        text = ""
    return Answer(
        changed=changed,
        plan=todo.lines,
        result={"folder": str(folder), "demo": str(folder / "demo.yml")},
        before=todo.reason,
        after="complete",
        text=text,
    )


SAMPLE = Verb(
    summary="Make a small area with parcels, scenes and known truth, to try the system on.",
    arguments=SampleArguments,
    run=_sample,
)
