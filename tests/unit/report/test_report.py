"""Series, chart and page, from values made here: no database."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser

import pytest

from cbm_core.datasets.products import Product
from cbm_core.datasets.store import Dataset
from cbm_extract.report import figure, page, series, verbs
from cbm_extract.report.collect import Report
from cbm_extract.report.series import Point
from cbm_extract.store.report_queries import CropCount, Parcel, SceneState, Value

T0 = datetime(2024, 4, 1, 10, 30, tzinfo=UTC)
PRODUCT = Product(1, "s2", 2, "s2", ("B04", "B08", "NDVI"), 0.0)
EVIL = "<script>alert('maize')</script> & $x_2^$"


def value(band, mean, *, day=0, pid="a", classes=None, tile="32UAA") -> Value:
    statistics = (mean, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    when = T0 + timedelta(days=day)
    return Value("", pid, when, f"scene{day}", tile, band, 9, statistics, 10, 9, classes)


def parcel(pid="a", crop="Maize", code="1") -> Parcel:
    return Parcel("", pid, code, crop, 1, 12_345.0, "ok", 120)


def scene(**changes) -> SceneState:
    made = SceneState(T0, "S2A_X", "", "32UAA", "N0500", 12.0, "active", None, "done", None, 2, [])
    return replace(made, **changes)


def report(**changes) -> Report:
    one, two = parcel(), parcel("b", "Wheat", "2")
    points = [Point(T0 + timedelta(days=day), 0.2 + day / 100, 0.0) for day in range(0, 60, 10)]
    clouded = Point(T0 + timedelta(days=33), 0.9, 0.8)
    made = Report(
        dataset=Dataset(1, "tt", 2024, date(2024, 1, 1), date(2024, 12, 31)),
        product=PRODUCT,
        ndvi_from=("NDVI",),
        cloud_limit=0.2,
        layers={"": (2, 2.469)},
        crops=[CropCount("1", "Maize", 1, 1.2345, 1), CropCount("2", "Wheat", 1, 1.2345, 0)],
        monitorability={"ok": 1, "few_pixels": 1},
        scenes=[scene()],
        progress={("s2", 2): {"done": 1, "failed": 3}},
        last_extraction=T0,
        charted=[one, two],
        listed=[one, two],
        points={("", "a"): [*points, clouded], ("", "b"): points},
    )
    return replace(made, **changes)


def test_clouded_share_counts_shadow_clouds_cirrus_and_snow():
    assert series.clouded_share({4: 5, 3: 1, 8: 1, 9: 1, 10: 1, 11: 1}) == 0.5
    assert series.clouded_share({4: 2, 5: 1, 6: 1, 7: 1, 2: 1, 1: 1, 0: 1}) == 0
    assert series.clouded_share({}) is None
    assert series.clouded_share(None) is None


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (("B04", "B08", "NDVI"), ("NDVI",)),
        (("B02", "B04", "B08", "B8A"), ("B08", "B04")),
        (("B04", "B8A"), ("B8A", "B04")),
        (("B02", "B08"), None),
        (("VV", "VH"), None),
    ],
)
def test_ndvi_is_taken_from_the_index_or_from_bands(variables, expected):
    assert series.ndvi_variables(replace(PRODUCT, variables=variables)) == expected


def test_ndvi_from_means_of_bands():
    rows = [
        value("B08", 4000.0, day=5), value("B04", 1000.0, day=5, classes={4: 3, 9: 1}),
        value("B08", 3000.0), value("B04", None),
        value("B08", -10.0, day=9), value("B04", 5.0, day=9),
    ]  # fmt: skip
    points = series.ndvi_series(rows, ("B08", "B04"))[("", "a")]
    assert [point.value for point in points] == [None, 0.6, None]
    assert [point.obstime.day for point in points] == [1, 6, 10]


def test_parcels_and_tiles_keep_their_own_points():
    rows = [value("NDVI", 0.5), value("NDVI", 0.6, tile="33UAA"), value("NDVI", 0.7, pid="b")]
    found = series.ndvi_series(rows, ("NDVI",))
    assert [p.value for p in found[("", "a")]] == [0.5, 0.6]
    assert [p.value for p in found[("", "b")]] == [0.7]


def test_unclassified_points_are_clear_only_where_nothing_is_classified():
    unknown = Point(T0, 0.5, None)
    assert series.is_clear(unknown, 0.2, classified=False)
    assert not series.is_clear(unknown, 0.2, classified=True)
    assert series.is_clear(Point(T0, 0.5, 0.2), 0.2, classified=True)
    assert not series.is_clear(Point(T0, 0.5, 0.21), 0.2, classified=True)


def test_table_and_csv_show_missing_values_as_such():
    rows = [value("B04", 1234.5, classes={4: 3, 9: 1}), value("NDVI", None, day=1)]
    records = series.as_records(rows)
    table = series.as_table(records).splitlines()
    assert len({len(line) for line in table}) == 1
    assert re.search(r"2024-04-01 10:30 +32UAA +B04 +9 +1234\.5 .* 25 %$", table[1])
    assert re.search(r"2024-04-02 10:30 +32UAA +NDVI +9 +- .* -$", table[2])
    csv = series.as_csv(records).splitlines()
    assert csv[0].split(",") == [
        "obstime", "reference", "tile", "band", "count", "mean", "std", "min", "p25", "p50",
        "p75", "max", "px_imaged", "px_clear", "clouded",
    ]  # fmt: skip
    assert csv[1].startswith("2024-04-01T10:30:00+00:00,scene0,32UAA,B04,9,1234.5,1.0,")
    assert csv[1].endswith(",10,9,0.25")
    assert csv[2].split(",")[5] == csv[2].split(",")[-1] == ""
    assert series.as_table([]) == "No rows."


def test_backscatter_is_shown_in_decibels_of_the_mean():
    rows = [value("VV", 0.1), value("VH", -0.001), value("VH", None, day=1)]
    records = series.as_records(rows, "bs")
    assert [record["mean_db"] for record in records] == [pytest.approx(-10.0), None, None]
    table = series.as_table(records).splitlines()
    assert "dB" in table[0].split()
    assert re.search(r" VV +9 +0\.1000 .* -10\.0 ", table[1])
    assert re.search(r" VH +9 +-0\.001000 ", table[2])
    assert series.as_csv(records).splitlines()[0].endswith(",mean_db")
    assert "mean_db" not in series.as_records(rows)[0]


class _Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data + "\n"


def test_page_escapes_everything_that_comes_from_data():
    made = report(
        crops=[CropCount(EVIL, EVIL, 1, 1.0, 1)],
        charted=[parcel(f'"><img src=x>{EVIL}', EVIL, EVIL)],
        listed=[replace(parcel(EVIL, EVIL, EVIL), layer="", code=EVIL)],
        scenes=[scene(reference=EVIL, reason=EVIL, item="failed", error=EVIL, missing=[EVIL])],
        monitorability={EVIL: 1},
        layers={EVIL: (1, 1.0), "": (1, 1.0)},
    )
    html = page.render(made, figure.draw(made))
    elements = _Elements(html)
    assert not [tag for tag, _ in elements.tags if tag == "script"]
    assert len([tag for tag, _ in elements.tags if tag == "img"]) == 1
    assert elements.text.count(EVIL) >= 8  # shown as text, nothing lost


def test_page_is_self_contained():
    made = report()
    html = page.render(made, figure.draw(made))
    for tag, attributes in _Elements(html).tags:
        assert tag not in {"link", "iframe", "object", "script"}
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:image/png;base64,") or (
                name not in attributes
            )
    assert "url(" not in html
    assert "@import" not in html


def test_page_says_what_it_counts():
    made = report(
        scenes=[
            scene(),
            scene(reference="OLD", state="superseded", reason="newer baseline", item=None, rows=0),
            scene(reference="LACKS", missing=["B11"]),
        ]
    )
    text = _Elements(page.render(made, b"png")).text
    for expected in ("tt:2024", "2 active, 1 superseded", "superseded: newer baseline",
                     "without B11", "Wheat", "few_pixels"):  # fmt: skip
        assert expected in text
    rows = re.findall(r"<tr><td><b>a</b></td>.*?</tr>", page.render(made, b"png"), re.S)
    cells = re.findall(r">([^<>]+)</td>", rows[0])
    assert cells[-4:] == ["7", "6", "0.70", "2024-05-21"]  # the clouded 0.9 is no peak


def test_chart_is_a_png_and_the_same_each_time():
    made = report()
    first = figure.draw(made)
    assert first[:8] == b"\x89PNG\r\n\x1a\n"
    assert figure.draw(made) == first
    assert figure.draw(report(cloud_limit=0.9)) != first  # the clouded date is filled then


@pytest.mark.parametrize("crops", [1, 2, 3, 6])
def test_chart_has_a_panel_per_crop_with_legend_of_ids(crops, monkeypatch):
    from matplotlib import pyplot as plt

    shown = []
    monkeypatch.setattr(plt, "close", shown.append)
    parcels = [parcel(f"p{n}{m}", f"Crop {n} $", str(n)) for n in range(crops) for m in (0, 1)]
    points = report().points[("", "a")]
    made = report(charted=parcels, points={("", p.pid): points for p in parcels})
    figure.draw(made)
    monkeypatch.undo()
    axes = [axis for axis in shown[0].axes if axis.get_visible()]
    assert [axis.get_title(loc="left") for axis in axes] == [f"Crop {n} $" for n in range(crops)]
    for n, axis in enumerate(axes):
        labels = [text.get_text() for text in axis.get_legend().get_texts()]
        assert labels == [f"p{n}0 (1.23 ha)", f"p{n}1 (1.23 ha)"]
        joined, hollow = axis.lines[:2]
        assert len(joined.get_xdata()) == 6
        assert list(hollow.get_ydata()) == [0.9]
        assert hollow.get_markerfacecolor() == "white"
    assert axes[0].get_ylabel().startswith("NDVI")
    assert axes[-1].get_xlabel().startswith("Acquisition date")
    plt.close(shown[0])


def test_summary_lists_charted_parcels():
    text = verbs.summary(report()).splitlines()
    assert "2 parcels" in text[0]
    assert "1 active" in text[0]
    assert re.search(r"^a +Maize +1\.23 +120 +7 +6 +0\.70 +2024-05-21$", text[3])


def test_report_files_are_written_once(tmp_path):
    made = report()
    first = verbs.plan_report(made, tmp_path / "new")
    assert first.stale == ["ndvi.png", "report.html"]
    assert not (tmp_path / "new").exists()
    verbs.write_report(first)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == first.stale
    assert verbs.plan_report(made, tmp_path / "new").stale == []
    changed = report(crops=[])
    assert verbs.plan_report(changed, tmp_path / "new").stale == ["report.html"]
