"""The HTML page of a report: one file, no script, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass
from importlib import resources

from cbm_core import __version__
from cbm_extract.report.collect import LISTED_SCENES, Report
from cbm_extract.report.figure import crop_label
from cbm_extract.report.series import CLOUDED_CLASSES, Point
from cbm_extract.store.report_queries import Parcel

ITEM_STATES = ("done", "running", "pending", "failed")
_TEMPLATE = "report.html.j2"


def render(report: Report, png: bytes) -> str:
    """Render the page; every value is escaped."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    source = resources.files("cbm_extract.report").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(source).render(
        report=report,
        version=__version__,
        png=base64.b64encode(png).decode(),
        scene_states=Counter(scene.state for scene in report.scenes),
        item_states=ITEM_STATES,
        scenes=report.scenes[:LISTED_SCENES],
        rows=[parcel_row(report, parcel) for parcel in report.listed],
        clouded_classes=CLOUDED_CLASSES,
    )


@dataclass(frozen=True)
class ParcelRow:
    """What tables say of a parcel: dates seen, dates clear, the clear one of greatest NDVI."""

    parcel: Parcel
    crop: str
    hectares: float
    charted: bool
    dates: int
    clear: int
    peak: Point | None


def parcel_row(report: Report, parcel: Parcel) -> ParcelRow:
    """Sum up a parcel's series."""
    clear = report.clear(parcel)
    return ParcelRow(
        parcel=parcel,
        crop=crop_label(parcel),
        hectares=parcel.area_m2 / 10_000,
        charted=parcel in report.charted,
        dates=len(report.of(parcel)),
        clear=len(clear),
        peak=max(clear, key=lambda point: point.value or 0.0, default=None),
    )
