"""`cbm signatures show` and `cbm report` on a real database, filled without the code under test."""

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from psycopg2.extras import Json

from cbm_core import db as database
from cbm_core.errors import CbmError
from cbm_core.settings import Settings
from cbm_core.verbs import Answer, Context
from cbm_extract.report.verbs import REPORT, SHOW
from tests import postgis
from tests.factories import add_dataset, add_parcels, add_scene, sql, square

pytestmark = pytest.mark.postgis

CORNER = (600_000.0, 5_300_000.0)
CLEAR, CLOUDED = {4: 20, 5: 5}, {9: 20, 4: 5}


@dataclass
class World:
    settings: Settings
    dataset: int
    product: int
    geometries: list[int]
    scenes: dict[str, int]


def classes(counts: dict[int, int]) -> bytes:
    return b"".join(bytes([n]) + pixels.to_bytes(3, "big") for n, pixels in sorted(counts.items()))


def statistics(mean: float) -> list[float]:
    return [25.0, mean, 0.5, mean - 1, mean + 1, mean - 0.25, mean, mean + 0.25]


def add_signature(
    world: World, geometry: int, scene: int, means: list[float] | None, counts
) -> None:
    obstime = sql(world.settings, "SELECT obstime FROM cbm.scene WHERE id = %s", scene)[0][0]
    stats = None if means is None else [value for mean in means for value in statistics(mean)]
    sql(
        world.settings,
        "SELECT cbm.ensure_signature_partition(%s::smallint, %s::date)",
        world.dataset, obstime,
    )  # fmt: skip
    sql(
        world.settings,
        """INSERT INTO cbm.signature (obstime, geometry_id, scene_id, px_imaged, px_clear,
             dataset_id, product_id, tile_rank, stats, class_counts)
           VALUES (%s, %s, %s, 100, %s, %s, %s, 0, %s, %s)""",
        obstime, geometry, scene, 0 if means is None else 100, world.dataset, world.product,
        stats, classes(counts),
    )  # fmt: skip


def add_item(world: World, scene: int, state: str = "done", error: str | None = None) -> None:
    sql(
        world.settings,
        """INSERT INTO cbm.work_item (scene_id, dataset_id, product_id, state, error)
           VALUES (%s, %s, %s, %s, %s)""",
        scene, world.dataset, world.product, state, error,
    )  # fmt: skip


def add_run(world: World, scene: int, rows: int, scope: str = "full", missing=()) -> None:
    sql(
        world.settings,
        """INSERT INTO cbm.run (scene_id, dataset_id, product_id, scope, parcel_set_from,
             parcel_set_to, token, worker, software_version, product_hash, plans, assets,
             missing_bands, rows, digest, started_at, finished_at)
           VALUES (%s, %s, %s, %s, 0, 1, 1, 'w', '0', 'h', '[]', '{}', %s, %s, 'd', now(),
             '2024-12-01T08:00Z')""",
        scene, world.dataset, world.product, scope, list(missing), rows,
    )  # fmt: skip


def add_product(settings: Settings, name: str, variables: list[str], revision: int = 1) -> int:
    return sql(
        settings,
        """INSERT INTO cbm.product (name, revision, card, variables, definition, hash)
           VALUES (%s, %s, 's2', %s, '{"buffer_m": 0}', %s) RETURNING id""",
        name, revision, variables, f"{name}{revision}".encode(),
    )[0][0]  # fmt: skip


@pytest.fixture(scope="module")
def stored(pg_server, migrated_template) -> World:
    """Seven parcels of two crops; four scenes: clear, clouded, superseded, failed; to be copied."""
    db = pg_server.settings(postgis.new_database(pg_server, migrated_template))
    dataset = add_dataset(db)
    x, y = CORNER
    squares = [square(x + 200 * n, y, 100 + 10 * n) for n in range(7)]
    geometries = add_parcels(db, dataset, squares)
    sql(
        db,
        """UPDATE cbm.parcel SET crop_code = CASE WHEN pid < 'p4' THEN '115' ELSE '451' END,
             crop_name = CASE WHEN pid < 'p4' THEN 'Wheat' ELSE '<script>alert(1)</script>' END""",
    )
    sql(
        db,
        "UPDATE cbm.parcel_geometry SET area_m2 = 10000 + 1000 * (id - %s)",
        geometries[0],
    )
    with closing(database.connect(db)) as connection, connection, connection.cursor() as cursor:
        for number, geometry in enumerate(geometries):
            for lattice, pixels in (("EPSG:32632|10|10|0|0", 100), ("EPSG:32632|20|20|0|0", 25)):
                code = "few_pixels" if number == 6 else "ok"
                cursor.execute(
                    """INSERT INTO cbm.monitorability (geometry_id, lattice, buffer_m, dataset_id,
                         pixels, whole_pixels, pixels_planned, width_m, code)
                       VALUES (%s, %s, 0, %s, %s, %s, %s, 50, %s)""",
                    (geometry, lattice, dataset, pixels, pixels, pixels, code),
                )
    product = add_product(db, "s2", ["B04", "B08"])
    bounds = (x - 1000, y - 1000, x + 3000, y + 1000)
    scenes = {
        name: add_scene(db, {}, reference=f"S2A_{name}", bounds=bounds, obstime=time)
        for name, time in {
            "clear": datetime(2024, 5, 1, 10, 30, tzinfo=UTC),
            "clouded": datetime(2024, 5, 31, 23, 59, 59, tzinfo=UTC),
            "old": datetime(2024, 6, 5, 10, 30, tzinfo=UTC),
            "failed": datetime(2024, 6, 10, 10, 30, tzinfo=UTC),
            "earlier": datetime(2023, 12, 31, 23, 59, tzinfo=UTC),
        }.items()
    }
    add_scene(db, {}, reference="S2A_elsewhere", bounds=(0, 0, 1000, 1000))
    made = World(db, dataset, product, geometries, scenes)
    sql(
        db,
        """UPDATE cbm.scene SET state = 'superseded', state_reason = 'newer baseline'
           WHERE id = %s""",
        scenes["old"],
    )
    for geometry in geometries:
        add_signature(made, geometry, scenes["clear"], [1000.0, 4000.0], CLEAR)
        add_signature(made, geometry, scenes["clouded"], [7000.0, 7200.0], CLOUDED)
        add_signature(made, geometry, scenes["old"], [1.0, 9000.0], CLEAR)
    for name in ("clear", "clouded", "old"):
        add_item(made, scenes[name])
    add_item(made, scenes["failed"], "failed", "B08 is truncated")
    add_run(made, scenes["clear"], 99)
    add_run(made, scenes["clear"], 5)  # a full re-run: only what came after the last one counts
    add_run(made, scenes["clear"], 2, "delta")
    add_run(made, scenes["clouded"], 7, missing=["B11"])
    return made


@pytest.fixture
def world(pg_server, stored) -> Iterator[World]:
    with postgis.copied(pg_server, stored.settings.database["dbname"]) as settings:
        yield replace(stored, settings=settings)


def show(world: World, parcel: str = "p1", **given) -> Answer:
    parsed = SHOW.arguments.model_validate({"dataset": "tt:2024", "parcel": parcel, **given})
    return SHOW.run(parsed, Context(world.settings))


def report(world: World, folder, **given) -> Answer:
    parsed = REPORT.arguments.model_validate({"dataset": "tt:2024", "out_dir": folder, **given})
    return REPORT.run(parsed, Context(world.settings))


def test_show_gives_the_stored_statistics_of_active_scenes(world):
    answer = show(world)
    assert not answer.changed
    rows = answer.result["rows"]
    assert [(row["obstime"], row["band"]) for row in rows] == [
        ("2024-05-01T10:30:00+00:00", "B04"),
        ("2024-05-01T10:30:00+00:00", "B08"),
        ("2024-05-31T23:59:59+00:00", "B04"),
        ("2024-05-31T23:59:59+00:00", "B08"),
    ]
    first = rows[0]
    names = ("count", "mean", "std", "min", "max", "p25", "p50", "p75")
    assert [first[name] for name in names] == statistics(1000.0)
    assert (first["px_imaged"], first["px_clear"], first["clouded"]) == (100, 100, 0.0)
    assert rows[2]["clouded"] == 0.8
    assert answer.result["parcel"]["crop_code"] == "115"
    assert answer.result["parcel"]["monitorability"] == "ok"
    json.dumps(answer.as_json())
    assert "1.10 ha, crop 115 Wheat" in answer.text
    assert re.search(r"2024-05-01 10:30 +32TMT +B04 +25 +1000\.0", answer.text)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"bands": ["B08"]}, [(1, "B08"), (31, "B08")]),
        ({"bands": ["B8"]}, [(1, "B08"), (31, "B08")]),
        ({"end": "2024-05-01"}, [(1, "B04"), (1, "B08")]),
        ({"start": "2024-05-31", "end": "2024-05-31"}, [(31, "B04"), (31, "B08")]),
        ({"start": "2024-06-01"}, []),
    ],
)
def test_show_filters_by_band_and_inclusive_days(world, given, expected):
    rows = show(world, **given).result["rows"]
    assert [(int(row["obstime"][8:10]), row["band"]) for row in rows] == expected


def test_show_as_csv(world):
    rows = list(csv.DictReader(io.StringIO(show(world, format="csv").text)))
    assert [row["mean"] for row in rows] == ["1000.0", "4000.0", "7000.0", "7200.0"]
    assert rows[0]["reference"] == "S2A_clear"


def test_show_says_no_value_where_all_is_masked(world):
    other = add_product(world.settings, "s2_clear", ["B04"])
    masked = World(world.settings, world.dataset, other, world.geometries, world.scenes)
    add_item(masked, world.scenes["clouded"])
    add_signature(masked, world.geometries[1], world.scenes["clouded"], None, CLOUDED)
    answer = show(world, product="s2_clear")
    (row,) = answer.result["rows"]
    assert (row["count"], row["mean"], row["px_clear"]) == (0, None, 0)
    assert re.search(r"B04 +0 +- +-", answer.text)


def test_show_takes_the_newest_revision_that_was_asked_for(world):
    newer = add_product(world.settings, "s2", ["B04", "NDVI"], revision=2)
    assert show(world).result["product"]["revision"] == 1
    again = World(world.settings, world.dataset, newer, world.geometries, world.scenes)
    add_item(again, world.scenes["clear"])
    add_signature(again, world.geometries[1], world.scenes["clear"], [1.0, 0.5], CLEAR)
    answer = show(world)
    assert answer.result["product"]["revision"] == 2
    assert [row["mean"] for row in answer.result["rows"]] == [1.0, 0.5]


def test_parcels_that_share_a_geometry_are_told_apart(world):
    sql(
        world.settings,
        """INSERT INTO cbm.parcel (dataset_id, layer, pid, geometry_id, parcel_set_id, valid_from)
           SELECT dataset_id, layer, 'twin', geometry_id, parcel_set_id, valid_from
           FROM cbm.parcel WHERE pid = 'p1'""",
    )
    assert len(show(world).result["rows"]) == 4
    assert len(show(world, "twin").result["rows"]) == 4


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ({"dataset": "xx:2024"}, "dataset_unknown", "tt:2024"),
        ({"parcel": "P1"}, "parcel_unknown", "7 parcels, the first are: p0, p1, p2, p3, p4"),
        ({"product": "s3"}, "product_unknown", "it has: s2"),
        ({"bands": ["B99"]}, "band_unknown", "it has: B04, B08"),
        ({"layer": "g"}, "layer_unknown", "it has: ''"),
    ],
)
def test_show_names_what_exists(world, given, code, said):
    with pytest.raises(CbmError) as caught:
        show(world, **given)
    assert caught.value.code == code
    assert said in caught.value.message


def test_id_in_two_layers_needs_the_layer(world):
    add_parcels(world.settings, world.dataset, [square(*CORNER, 77)] * 1, layer="g")
    with pytest.raises(CbmError) as caught:
        show(world, "p0")
    assert caught.value.code == "parcel_ambiguous"
    assert show(world, "p0", layer="g").result["rows"] == []
    assert len(show(world, "p0", layer="").result["rows"]) == 4


def test_nothing_extracted_yet_is_said(db, tmp_path):
    dataset = add_dataset(db)
    add_parcels(db, dataset, [square(*CORNER)])
    world = World(db, dataset, add_product(db, "s2", ["B04", "B08"]), [], {})
    for call in (lambda: show(world, "p0"), lambda: report(world, tmp_path)):
        with pytest.raises(CbmError) as caught:
            call()
        assert caught.value.code == "nothing_extracted"
        assert "cbm extract tt:2024" in caught.value.hint
    scene = add_scene(db, {}, bounds=(*CORNER, CORNER[0] + 100, CORNER[1] + 100))
    add_item(world, scene, "pending")
    with pytest.raises(CbmError) as caught:
        report(world, tmp_path)
    assert caught.value.code == "nothing_extracted"
    assert list(tmp_path.iterdir()) == []


def test_report_says_what_is_there(world, tmp_path):
    answer = report(world, tmp_path / "out")
    assert answer.changed
    html = (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "ndvi.png").read_bytes()[:4] == b"\x89PNG"
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html

    def row(reference: str) -> list[str]:
        found = re.search(rf"<tr><td>[^<]*</td><td>{reference}</td>.*?</tr>", html, re.S)
        return re.findall(r">([^<>]*)</td>", found[0])[4:]

    assert row("S2A_clear") == ["active", "done", "7"]
    assert row("S2A_clouded") == ["active", "done, without B11", "7"]
    assert row("S2A_old") == ["superseded: newer baseline", "done", "0"]
    assert row("S2A_failed") == ["active", "failed: B08 is truncated", "0"]
    assert "S2A_earlier" not in html
    assert "S2A_elsewhere" not in html
    assert "3 active, 1 superseded" in html
    assert re.search(r"<td>s2</td><td class=\"n\">1</td>\s*(<td class=\"n\">[0-9]</td>){4}", html)
    wheat = re.search(r"<tr><td>115</td>.*?</tr>", html, re.S)[0]
    assert re.findall(r">([^<>]*)</td>", wheat) == ["115", "Wheat", "4", "4.6", "4"]
    grass = re.search(r"<tr><td>451</td>.*?</tr>", html, re.S)[0]
    assert re.findall(r">([^<>]*)</td>", grass)[2:] == ["3", "4.5", "2"]
    assert "Newest statistics stored 2024-12-01 08:00 UTC" in html
    assert "7 parcels, 2 crops" in answer.text
    assert re.search(r"p1 +Wheat +1\.10 +100 +2 +1 +0\.60 +2024-05-01", answer.text)


def test_report_picks_typical_monitorable_parcels_and_does_so_again(world, tmp_path):
    # Wheat p0..p3 of 1.0 to 1.3 ha: median 1.15. Grass p4..p6: median p5, but p6 is too small.
    answer = report(world, tmp_path / "a")
    assert answer.result["parcels"] == ["p1", "p2", "p4", "p5"]
    again = report(world, tmp_path / "a")
    assert not again.changed
    assert again.plan == []
    report(world, tmp_path / "b")
    assert (tmp_path / "a/ndvi.png").read_bytes() == (tmp_path / "b/ndvi.png").read_bytes()
    assert (tmp_path / "a/report.html").read_bytes() == (tmp_path / "b/report.html").read_bytes()


def test_report_charts_what_is_asked_for(world, tmp_path):
    answer = report(world, tmp_path, parcels=["p6", "p0"])
    assert answer.result["parcels"] == ["p6", "p0"]
    with pytest.raises(CbmError) as caught:
        report(world, tmp_path, parcels=["p0", "nope"])
    assert caught.value.code == "parcel_unknown"
    assert caught.value.details["unknown"] == ["nope"]


def test_report_follows_the_data_and_check_writes_nothing(world, tmp_path):
    folder = tmp_path / "out"
    checked = report(world, folder, check=True)
    assert checked.changed
    assert len(checked.plan) == 2
    assert not folder.exists()
    report(world, folder)
    add_item(world, world.scenes["earlier"])
    sql(world.settings, "UPDATE cbm.scene SET state = 'held' WHERE id = %s", world.scenes["failed"])
    changed = report(world, folder)
    assert changed.plan == [f"write {folder / 'report.html'}"]
    assert "2 active, 1 held, 1 superseded" in (folder / "report.html").read_text()


def test_report_needs_red_and_near_infrared(world, tmp_path):
    other = add_product(world.settings, "swir", ["B11", "B12"])
    add_item(
        World(world.settings, world.dataset, other, [], {}),
        world.scenes["clear"],
    )
    with pytest.raises(CbmError) as caught:
        report(world, tmp_path, product="swir")
    assert caught.value.code == "product_without_ndvi"
    assert "B11, B12" in caught.value.message


def test_report_that_cannot_be_written_is_one_message(world, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CbmError) as caught:
        report(world, tmp_path / "file" / "below")
    assert caught.value.code in {"cannot_write", "cannot_read"}


def test_a_parcel_changed_in_season_shows_each_geometry_in_its_time(world):
    """A new geometry from June on: the series goes on, rows of the old one end there."""
    square_ = square(CORNER[0] + 900, CORNER[1], 50)
    moved = add_parcels(world.settings, world.dataset, [square_], layer="new")
    sql(world.settings, "UPDATE cbm.parcel SET known_to = known_from WHERE layer = 'new'")
    sql(world.settings, "UPDATE cbm.parcel SET valid_to = '2024-05-20' WHERE pid = 'p1'")
    sql(
        world.settings,
        """INSERT INTO cbm.parcel (dataset_id, layer, pid, geometry_id, parcel_set_id, valid_from,
             attributes)
           SELECT dataset_id, layer, pid, %s, parcel_set_id, '2024-05-20', %s
           FROM cbm.parcel WHERE pid = 'p1'""",
        moved[0], Json({}),
    )  # fmt: skip
    add_signature(world, moved[0], world.scenes["clouded"], [5.0, 6.0], CLEAR)
    rows = show(world).result["rows"]
    assert [row["mean"] for row in rows] == [1000.0, 4000.0, 5.0, 6.0]
