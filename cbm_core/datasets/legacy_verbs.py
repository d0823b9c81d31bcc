"""The command ``cbm dataset legacy-views``."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from cbm_core import db
from cbm_core.datasets import legacy, store
from cbm_core.verbs import Answer, ChangingArguments, Context, Verb, positional


class _LegacyViews(ChangingArguments):
    dataset: str = positional("Dataset, aoi:year.")
    schema_name: str = Field(
        default=db.SCHEMA,
        description="The schema of the views. In one of its own an AOI's views also have the names "
        "without the AOI (parcels_2024, sigs_2024, dias_catalogue).",
    )
    products: list[str] | None = Field(
        default=None,
        description="The products that serve, one per card, kept with the dataset; at first s2, bs "
        "and c6.",
    )
    absent: bool = Field(default=False, description="Take the dataset's views away.")


def _legacy_views(arguments: _LegacyViews, context: Context) -> Answer:
    with db.session(context.settings, "owner") as connection, connection.cursor() as cursor:
        dataset = store.require_dataset(cursor, arguments.dataset)
        lines = []
        if arguments.products is not None:
            before = dict(dataset.settings)
            dataset = legacy.keep_products(cursor, replace(dataset), arguments.products)
            if dataset.settings != before:
                lines.append(f"let {', '.join(arguments.products)} serve legacy clients")
        plan = legacy.plan(cursor, dataset, arguments.schema_name, absent=arguments.absent)
        lines += plan.lines
        if arguments.check:
            connection.rollback()
        else:
            legacy.apply(cursor, plan)
            if lines:
                store.audit(cursor, "dataset legacy-views", dataset.name, lines)
            connection.commit()
    serving = ", ".join(f"{card}: {name}" for card, name in plan.serving.items())
    done = "\n".join(lines) or "Nothing to do."
    return Answer(
        changed=bool(lines),
        plan=lines,
        result={"schema": plan.schema, "products": plan.serving},
        before="".join(f"{name}\n" for name in plan.drop),
        after="".join(f"{view.name}{view.query};\n" for view in plan.create),
        text="" if arguments.check and lines else f"{done}\nServed by {serving or 'no product'}.",
    )


LEGACY_VIEWS = Verb(
    "Make views with the predecessor's names and columns, for clients that talk SQL.",
    _LegacyViews,
    _legacy_views,
)
