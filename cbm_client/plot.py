"""Pictures of series and chips, with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cbm_client.images import Picture

# Told apart by their shapes as well: colours alone do not do for all eyes (Okabe and Ito, 2008).
_CLEAR, _CLOUDED, _UNKNOWN = "#0072b2", "#d55e00", "#767676"


def series(
    frame: pd.DataFrame,
    column: str = "NDVI_mean",
    *,
    max_cloud: float | None = 0.0,
    ax: Axes | None = None,
) -> Axes:
    """Draw a parcel's curve; a line leads from one clear observation to the next.

    Args:
        frame: A parcel's series from ``Client.signatures`` or ``Client.peer_statistics``.
        column: What is drawn. With the peers' columns, the middle half of the peers is shaded, and
            their median dashed, on clear passes.
        max_cloud: The greatest clouded share of a clear observation, 0 to 1. Clouded ones are
            crosses; those of which no pixel was classified hollow squares. None where clouds do
            not matter (radar): all observations are on the line.
        ax: Where to draw; a new one if left out.

    Raises:
        KeyError: There is no such column.
        ValueError: The series is of several parcels.

    """
    if "pid" in frame and frame["pid"].nunique() > 1:
        raise ValueError(f"expected the series of one parcel, found {frame['pid'].nunique()}")
    values, share = frame[column], frame["clouded"]
    there = values.notna()
    clear = there if max_cloud is None else there & (share <= max_cloud)
    unknown = there & ~clear & share.isna()
    clouded = there & ~clear & ~unknown
    if ax is None:
        _, ax = plt.subplots(figsize=(9, 3.5), layout="constrained")
    if f"{column}_peers_p50" in frame:
        _peers(ax, frame[clear], column)
    times = frame["obstime"].to_numpy()
    name = column if max_cloud is None else "clear"
    ax.plot(times[clear], values[clear], "-o", color=_CLEAR, markersize=4, label=name)
    if clouded.any():
        ax.plot(times[clouded], values[clouded], "x", color=_CLOUDED, markersize=5, label="clouded")
    if unknown.any():
        ax.plot(
            times[unknown], values[unknown], "s", color=_UNKNOWN, markersize=5, fillstyle="none",
            label="not classified",
        )  # fmt: skip
    ax.set_ylabel(column)
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def chips(pictures: Sequence[Picture], *, columns: int = 8) -> Figure:
    """Draw pictures from ``Client.pictures`` in rows, each under its date and the scene's cloud.

    Raises:
        ValueError: There are none.

    """
    if not pictures:
        raise ValueError("there are no pictures; expected one at least")
    width = min(columns, len(pictures))
    rows = ceil(len(pictures) / width)
    figure, axes = plt.subplots(
        rows, width, figsize=(1.5 * width, 1.75 * rows), squeeze=False, layout="constrained"
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, one in zip(axes.flat, pictures, strict=False):
        cloud = "" if one.cloud_percent is None else f"  {one.cloud_percent:.0f} %"
        ax.set_title(f"{one.obstime:%Y-%m-%d}{cloud}", fontsize=7)
        if one.pixels is not None:
            ax.imshow(one.pixels, interpolation="nearest")
    return figure


def _peers(ax: Axes, frame: pd.DataFrame, column: str) -> None:
    times: Any = frame["obstime"].to_numpy()
    low, middle, high = (
        np.asarray(frame[f"{column}_peers_{name}"], dtype=float) for name in ("p25", "p50", "p75")
    )
    ax.fill_between(times, low, high, color=_UNKNOWN, alpha=0.25, label="peers, middle half")
    ax.plot(times, middle, "--", color=_UNKNOWN, label="peers, median")
