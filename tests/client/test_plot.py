"""Curves: what is clear, clouded and not classified are told apart."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from cbm_client import plot

mpl.use("Agg")
DAYS = pd.date_range("2024-04-01", periods=6, freq="10D", tz="UTC")


@pytest.fixture
def frame():
    return pd.DataFrame({
        "pid": "p0", "obstime": DAYS, "clouded": [0, 0.2, 0, np.nan, 1, 0],
        "NDVI_mean": [0.2, 0.1, 0.5, 0.6, np.nan, 0.7],
    })  # fmt: skip


def drawn(ax) -> dict[str, list[float]]:
    return {line.get_label(): list(line.get_ydata()) for line in ax.lines}


def test_clear_and_clouded_observations(frame):
    ax = plot.series(frame)
    assert drawn(ax) == {"clear": [0.2, 0.5, 0.7], "clouded": [0.1], "not classified": [0.6]}
    markers = [line.get_marker() for line in ax.lines]
    assert len(set(markers)) == 3
    assert [line.get_linestyle() for line in ax.lines] == ["-", "None", "None"]
    assert {text.get_text() for text in ax.get_legend().get_texts()} == set(drawn(ax))


def test_how_much_cloud_is_clear_can_be_said(frame):
    assert drawn(plot.series(frame, max_cloud=0.2))["clear"] == [0.2, 0.1, 0.5, 0.7]


def test_clouds_do_not_matter_to_radar(frame):
    frame["VV_mean"] = [1, 2, 3, 4, np.nan, 6]
    assert drawn(plot.series(frame, "VV_mean", max_cloud=None)) == {"VV_mean": [1, 2, 3, 4, 6]}


def test_peers_are_drawn_where_they_are_known(frame):
    for name, value in (("p25", 0.3), ("p50", 0.4), ("p75", 0.5)):
        frame[f"NDVI_mean_peers_{name}"] = value
    ax = plot.series(frame.drop(columns="pid"), ax=plot.plt.figure().gca())
    assert drawn(ax)["peers, median"] == [0.4] * 3
    (band,) = ax.collections
    assert set(band.get_paths()[0].vertices[:, 1]) >= {0.3, 0.5}


def test_several_parcels_are_refused(frame):
    with pytest.raises(ValueError, match="found 2"):
        plot.series(pd.concat([frame, frame.assign(pid="p1")]))
