"""The commands ``cbm signatures show`` and ``cbm report``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from cbm_core import bands as band_names
from cbm_core import db
from cbm_core.datasets.products import Product, newest, of_dataset
from cbm_core.datasets.store import Dataset, require_dataset
from cbm_core.errors import CbmError, folder_unusable
from cbm_core.verbs import Answer, Arguments, ChangingArguments, Context, Verb, positional
from cbm_extract.report import collect, figure, page, series
from cbm_extract.report.collect import Report
from cbm_extract.store import report_queries as queries
from cbm_extract.store.report_queries import Parcel

PAGE, CHART = "report.html", "ndvi.png"
_MOST_PARCELS = 24


class ShowArguments(Arguments):
    """Which series to show."""

    dataset: str = positional("Dataset, as aoi:year.")
    parcel: str = positional("The parcel's id.")
    layer: str | None = Field(default=None, description="The parcel's layer, where ids repeat.")
    product: str | None = Field(default=None, description="Product (s2).")
    bands: list[str] | None = Field(
        default=None,
        description="Only this band or index; repeat. B4, VVb and VVc are understood as well.",
    )
    start: date | None = Field(default=None, description="First day (UTC).")
    end: date | None = Field(default=None, description="Last day (UTC), inclusive.")
    format: Literal["table", "csv"] = Field(default="table", description="table or csv (table).")

    @model_validator(mode="after")
    def _period(self) -> ShowArguments:
        if self.start and self.end and self.start > self.end:
            raise ValueError("start is after end")
        return self


class ReportArguments(ChangingArguments):
    """Which report to write, and where."""

    dataset: str = positional("Dataset, as aoi:year.")
    out_dir: Path = positional("Folder for report.html and ndvi.png; made if need be.")
    product: str | None = Field(default=None, description="Product (s2).")
    layer: str | None = Field(
        default=None, description="Chart and list only parcels of this layer."
    )
    parcels: list[str] | None = Field(
        default=None,
        max_length=_MOST_PARCELS,
        description="Chart this parcel; repeat. Left out: two typical parcels of the six most "
        "frequent crops.",
    )
    cloud_limit: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Share of a parcel under cloud, shadow, cirrus or snow above which a date "
        "is drawn hollow (0.2).",
    )


def _show(arguments: ShowArguments, context: Context) -> Answer:
    with db.session(context.settings) as connection, db.transaction(connection) as cursor:
        dataset = require_dataset(cursor, arguments.dataset)
        found = newest(of_dataset(cursor, dataset.id))
        product = collect.find_product(found, arguments.product, dataset.name)
        bands = _stored_bands(arguments.bands, product)
        parcel = collect.find_parcels(
            cursor, dataset, product, [arguments.parcel], arguments.layer
        )[0]
        rows = queries.values(
            cursor,
            dataset.id,
            product,
            [parcel],
            bands=bands,
            start=arguments.start,
            end=arguments.end,
        )
    records = series.as_records(rows, product.card)
    heading = _heading(dataset, parcel, product)
    table = f"{heading}\n{series.as_table(records)}"
    return Answer(
        result={
            "dataset": dataset.name,
            "parcel": {
                "pid": parcel.pid,
                "layer": parcel.layer,
                "crop_code": parcel.crop_code,
                "crop_name": parcel.crop_name,
                "area_m2": parcel.area_m2,
                "monitorability": parcel.code,
            },
            "product": {"name": product.name, "revision": product.revision},
            "rows": records,
        },
        text=series.as_csv(records) if arguments.format == "csv" else table,
    )


def _heading(dataset: Dataset, parcel: Parcel, product: Product) -> str:
    crop = f"{parcel.crop_code or '-'} {parcel.crop_name or ''}".strip()
    return (
        f"Parcel {parcel.pid} of {dataset.name}, {parcel.area_m2 / 10_000:.2f} ha, crop {crop}; "
        f"product {product.name} revision {product.revision}"
    )


def _stored_bands(names: list[str] | None, product: Product) -> list[str] | None:
    """Return bands under the names they are stored by, whichever way they were spelt."""
    if names is None:
        return None
    bands = [band_names.stored(product.card, name) for name in names]
    unknown = [
        name for name, band in zip(names, bands, strict=True) if band not in product.variables
    ]
    if unknown:
        raise CbmError(
            "band_unknown",
            f"Product {product.name} has no {', '.join(unknown)}; it has: "
            f"{', '.join(product.variables)}.",
            "Name some of these.",
            existing=list(product.variables),
        )
    return bands


@dataclass(frozen=True)
class ReportPlan:
    """The files of a report and their content; ``stale`` are those that are not there like that."""

    folder: Path
    content: dict[str, bytes]
    stale: list[str]

    @property
    def lines(self) -> list[str]:
        """The plan in words."""
        return [f"write {self.folder / name}" for name in self.stale]


def plan_report(report: Report, folder: Path) -> ReportPlan:
    """Render the report and compare it with what is in the folder.

    Raises:
        CbmError: ``cannot_read``.

    """
    chart = figure.draw(report)
    content = {CHART: chart, PAGE: page.render(report, chart).encode()}
    try:
        stale = [name for name, new in content.items() if _read(folder / name) != new]
    except OSError as error:
        raise folder_unusable(folder, error) from error
    return ReportPlan(folder, content, stale)


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def write_report(plan: ReportPlan) -> None:
    """Write what is stale, each file under a temporary name first.

    Raises:
        CbmError: ``cannot_write``.

    """
    try:
        for name in plan.stale:
            plan.folder.mkdir(parents=True, exist_ok=True)
            waiting = plan.folder / f".tmp-{name}"
            waiting.write_bytes(plan.content[name])
            waiting.rename(plan.folder / name)
    except OSError as error:
        raise CbmError(
            "cannot_write",
            f"The report cannot be written to {plan.folder}: {error.strerror or error}.",
            "Free space, or name a folder that you may write.",
        ) from error


def summary(report: Report) -> str:
    """Return the report in short, as text."""
    done = sum(scene.item == "done" for scene in report.scenes)
    asked = sum(scene.item is not None for scene in report.scenes)
    rows = sum(scene.rows for scene in report.scenes if scene.state == "active")
    states = ", ".join(
        f"{sum(scene.state == state for scene in report.scenes)} {state}"
        for state in sorted({scene.state for scene in report.scenes})
    )
    lines = [["parcel", "crop", "ha", "pixels", "dates", "clear", "peak", "on"]]
    for parcel in report.charted:
        row = page.parcel_row(report, parcel)
        lines.append(
            [
                parcel.pid,
                row.crop,
                f"{row.hectares:.2f}",
                str(parcel.pixels),
                str(row.dates),
                str(row.clear),
                f"{row.peak.value:.2f}" if row.peak else "-",
                f"{row.peak.obstime:%Y-%m-%d}" if row.peak else "-",
            ]
        )
    return "\n".join(
        [
            f"{report.dataset.name}: {report.parcels} parcels, {len(report.crops)} crops; scenes: "
            f"{states or 'none'}; {report.product.name}: {done} of {asked} scenes extracted, "
            f"{rows} parcel dates",
            "",
            series.text_table(lines, left=2),
        ]
    )


def _report(arguments: ReportArguments, context: Context) -> Answer:
    with db.session(context.settings) as connection, db.transaction(connection) as cursor:
        # One snapshot: the numbers of the page agree, whatever is being extracted meanwhile.
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        report = collect.collect(
            cursor,
            require_dataset(cursor, arguments.dataset),
            product_name=arguments.product,
            pids=arguments.parcels,
            layer=arguments.layer,
            cloud_limit=arguments.cloud_limit,
        )
    folder = arguments.out_dir.expanduser().absolute()
    plan = plan_report(report, folder)
    if not arguments.check:
        write_report(plan)
    where = f"\n\n{folder / PAGE}\n{folder / CHART}"
    return Answer(
        changed=bool(plan.stale),
        plan=plan.lines,
        result={
            "report": str(folder / PAGE),
            "chart": str(folder / CHART),
            "parcels": [parcel.pid for parcel in report.charted],
        },
        text=summary(report) + ("" if arguments.check else where),
    )


SHOW = Verb("Show one parcel's series.", ShowArguments, _show)
REPORT = Verb("Write a report with a chart of NDVI series.", ReportArguments, _report)
