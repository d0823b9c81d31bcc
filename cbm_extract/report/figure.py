"""The chart of NDVI series: one panel per crop."""

from __future__ import annotations

import io
import warnings
from typing import Any

from cbm_extract.report.collect import Report
from cbm_extract.store.report_queries import Parcel

# Okabe and Ito's palette, readable with colour-blind eyes and in grey: dark ones first.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_COLUMNS = 2


def crop_label(parcel: Parcel) -> str:
    """Return how a parcel's crop is called: its name, else its code."""
    return parcel.crop_name or parcel.crop_code or "no crop declared"


def draw(report: Report) -> bytes:
    """Draw the charted parcels' series as a PNG.

    Filled marks joined by a line are clear dates, hollow marks clouded ones. The same report gives
    the same bytes.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels: dict[str, list[Parcel]] = {}
    for parcel in report.charted:
        panels.setdefault(crop_label(parcel), []).append(parcel)
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    # Crop names are text, whatever characters they hold: no $formulas$.
    settings: Any = {"text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(settings), warnings.catch_warnings():
        # A letter the font does not have is drawn as a box; the page spells it out.
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        figure, axes = plt.subplots(
            rows,
            columns,
            figsize=(6.2 * columns, 2.9 * rows + 1.0),
            squeeze=False,
            sharex=True,
            sharey=True,
            layout="constrained",
        )
        for axis, (crop, parcels) in zip(axes.flat, panels.items(), strict=False):
            _panel(axis, crop, parcels, report)
        _dress(figure, axes, len(panels), report)
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
        plt.close(figure)
    return out.getvalue()


def _panel(axis: Any, crop: str, parcels: list[Parcel], report: Report) -> None:
    axis.set_title(crop, loc="left", fontweight="bold", fontsize=11)
    axis.grid(axis="both", color="#dddddd", linewidth=0.7)
    axis.set_axisbelow(True)
    for number, parcel in enumerate(parcels):
        colour = _COLOURS[number % len(_COLOURS)]
        style = {"marker": _MARKERS[number % len(_MARKERS)], "color": colour, "markersize": 5.5}
        clear = report.clear(parcel)
        hollow = [p for p in report.of(parcel) if p.value is not None and p not in clear]
        axis.plot(
            [point.obstime for point in clear],
            [point.value for point in clear],
            linewidth=1.6,
            label=f"{parcel.pid} ({parcel.area_m2 / 10_000:.2f} ha)",
            **style,
        )
        axis.plot(
            [point.obstime for point in hollow],
            [point.value for point in hollow],
            linestyle="none",
            markerfacecolor="white",
            markeredgewidth=1.1,
            alpha=0.65,
            **style,
        )
    axis.legend(loc="lower center", ncols=2, fontsize=8.5, frameon=True, framealpha=0.85)


def _dress(figure: Any, axes: Any, used: int, report: Report) -> None:
    import matplotlib.dates

    dates: Any = matplotlib.dates
    locator = dates.MonthLocator()
    for axis in axes.flat:
        axis.set_ylim(-0.15, 1.0)
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    for axis in list(axes.flat)[used:]:
        axis.set_visible(False)
    columns = axes.shape[1]
    for number, axis in enumerate(list(axes.flat)[:used]):
        if number % columns == 0:
            axis.set_ylabel("NDVI (mean of the parcel)")
        if number + columns >= used:
            axis.tick_params(labelbottom=True)
            axis.set_xlabel(f"Acquisition date (UTC), product {report.product.name}")
    title = f"NDVI of parcels, {report.dataset.name}"
    if report.classified:
        title += (
            f"\nfilled: clear; hollow: more than {100 * report.cloud_limit:.0f} % of the parcel "
            "cloud, shadow, cirrus or snow, or not classified"
        )
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
