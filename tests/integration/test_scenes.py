"""`cbm scenes add|list` against a real PostGIS: what is written, and nothing the second time."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from cbm_core import db as database
from cbm_core.errors import CbmError
from cbm_core.settings import Settings
from cbm_core.verbs import Answer, Context
from cbm_extract.catalogue.register import plan
from cbm_extract.catalogue.verbs import ADD, LIST
from cbm_extract.store import scenes as store
from tests.unit.catalogue.scenes import STRIPS, area, scene
from tests.unit.read.rasters import texture, write

pytestmark = pytest.mark.postgis

DESCRIPTION = Path(__file__).parents[1] / "data" / "swiss_wheat_scenes.yml"
NAMES = {
    "card": "s2",
    "files": "*.tif",
    "pattern": r"(?P<reference>(?P<platform>S2\w)_(?P<datatake>\d{8}T\d{6})_(?P<baseline>N\d{4})"
    r"_(?P<tile>T\w{5})_(?P<generated>\d{8}T\d{6}))\.tif",
    "single_datastrip": True,
    "bands": {"B04": {"index": 1, "scale": 10000}, "SCL": {"index": 2}},
}
OLD = "S2A_20220620T102041_N0400_T32TMT_20220620T162319"
NEW = "S2A_20220620T102041_N0510_T32TMT_20231220T162319"
TEST = "S2A_20220620T102041_N9999_T32TMT_20241220T162319"


def rows(settings: Settings, statement: str, *values) -> list[tuple]:
    with closing(database.connect(settings)) as connection, connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall()


def everything(settings: Settings) -> list[tuple]:
    return rows(settings, "SELECT s::text FROM cbm.scene s ORDER BY id")


def states(settings: Settings) -> dict[str, tuple[str, str | None]]:
    return {
        reference: (state, by)
        for reference, state, by in rows(
            settings,
            """SELECT s.reference, s.state, o.reference FROM cbm.scene s
               LEFT JOIN cbm.scene o ON o.id = s.superseded_by""",
        )
    }


def run(verb, settings: Settings, **arguments) -> Answer:
    return verb.run(verb.arguments.model_validate(arguments), Context(settings=settings))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scenes.yml").write_text(json.dumps(NAMES))
    put(tmp_path, OLD)
    return tmp_path


def put(folder: Path, name: str, size: int = 20) -> None:
    write(folder / f"{name}.tif", np.stack([texture(size, 30, "float32")] * 2), nodata=0)


@pytest.fixture(scope="module")
def swiss(data_dir: Path) -> Path:
    stacks = data_dir / "s2" / "swiss_wheat" / "stacks"
    if not stacks.is_dir():
        pytest.skip(f"no {stacks}")
    return stacks


def test_swiss_wheat(db, swiss):
    given = {"source": str(swiss), "description": str(DESCRIPTION)}
    checked = run(ADD, db, **given, check=True)
    assert checked.changed
    assert everything(db) == []
    answer = run(ADD, db, **given)
    assert answer.plan == checked.plan
    assert (answer.before, answer.after) == (checked.before, checked.after)
    assert (answer.result["added"], answer.result["superseded"]) == (149, 9)
    assert answer.result["skipped"] == answer.result["warnings"] == []
    assert rows(db, "SELECT state, count(*) FROM cbm.scene GROUP BY 1 ORDER BY 1") == [
        ("active", 140),
        ("superseded", 9),
    ]
    assert rows(
        db,
        """SELECT count(DISTINCT (platform, datatake_start, tile, part)), count(DISTINCT part),
             min(obstime)::text, max(obstime)::text FROM cbm.scene WHERE state = 'active'""",
    ) == [(140, 5, "2019-04-20 10:30:31+00", "2022-07-30 10:16:11+00")]
    assert rows(
        db,
        """SELECT count(*) FROM cbm.scene s JOIN cbm.scene o ON o.id = s.superseded_by
           WHERE s.state = 'superseded' AND o.state = 'active'
             AND (s.platform, s.datatake_start, s.tile, s.part)
               = (o.platform, o.datatake_start, o.tile, o.part)""",
    ) == [(9,)]
    before = everything(db)
    again = run(ADD, db, **given)
    assert not again.changed
    assert again.plan == []
    assert again.result["unchanged"] == 149
    assert again.before == again.after == ""
    assert everything(db) == before


def test_the_database_finds_footprints_where_the_fields_are(db, swiss):
    run(ADD, db, source=str(swiss), description=str(DESCRIPTION))
    # Witzwil lies near 47.0 N 7.1 E; asked of PostGIS, not of the code that wrote it.
    assert rows(
        db,
        """SELECT DISTINCT part FROM cbm.scene
           WHERE ST_Intersects(footprint, ST_MakeEnvelope(7.0, 46.9, 7.2, 47.1, 4326))""",
    ) == [("Witzwil",)]
    assert rows(db, "SELECT bool_and(ST_IsValid(footprint)) FROM cbm.scene") == [(True,)]


def test_every_field_survives_the_database(db):
    full = scene(
        "A",
        part="west",
        datastrip=STRIPS[0],
        orbit_direction="ascending",
        relative_orbit=108,
        cloud_percent=51.580326,
        footprint=area(179, 181),
    )
    bare = scene("B", baseline=None, generation_time=None, tile="", platform="S2B")
    with closing(database.connect(db)) as connection, database.transaction(connection) as cursor:
        store.lock(cursor)
        store.apply(cursor, plan([], [full, bare]))
        found = {known.scene.reference: known for known in store.concerned(cursor, [full, bare])}
    assert found["A"].scene == full
    assert found["B"].scene == bare
    assert not plan(found.values(), [full, bare]).changes
    assert rows(db, "SELECT ST_NumGeometries(footprint) FROM cbm.scene ORDER BY id") == [(2,), (1,)]


def test_reprocessing_supersedes_and_ids_stay(db, folder):
    run(ADD, db, source=str(folder))
    first = rows(db, "SELECT id FROM cbm.scene")
    put(folder, NEW)
    put(folder, TEST)
    checked = run(ADD, db, source=str(folder), check=True)
    assert f"supersede s2 {OLD} by {NEW}" in checked.plan
    assert f"{OLD}: active" in checked.before
    assert f"{OLD}: superseded by {NEW}" in checked.after
    assert len(everything(db)) == 1
    answer = run(ADD, db, source=str(folder))
    assert answer.plan == checked.plan
    assert states(db) == {
        OLD: ("superseded", NEW),
        TEST: ("superseded", NEW),
        NEW: ("active", None),
    }
    assert rows(db, "SELECT id FROM cbm.scene WHERE reference = %s", OLD) == first
    assert rows(db, "SELECT state_reason FROM cbm.scene WHERE reference = %s", OLD) == [
        (f"superseded by {NEW}",)
    ]
    assert not run(ADD, db, source=str(folder)).changed


def test_a_held_scene_gives_its_place_back(db, folder):
    put(folder, NEW)
    run(ADD, db, source=str(folder))
    with closing(database.connect(db)) as connection, database.transaction(connection) as cursor:
        cursor.execute("UPDATE cbm.scene SET state = 'held' WHERE reference = %s", (NEW,))
    answer = run(ADD, db, source=str(folder))
    assert answer.plan == [f"use s2 {OLD} again"]
    assert states(db) == {OLD: ("active", None), NEW: ("held", None)}
    assert rows(db, "SELECT state_reason FROM cbm.scene WHERE reference = %s", OLD) == [(None,)]


def test_moved_files_update_the_assets(db, folder, tmp_path_factory):
    run(ADD, db, source=str(folder))
    identifier = rows(db, "SELECT id FROM cbm.scene")
    moved = tmp_path_factory.mktemp("moved") / "scenes"
    shutil.move(folder, moved)
    answer = run(ADD, db, source=str(moved))
    assert answer.plan == [f"change s2 {OLD}: assets"]
    assert (answer.result["added"], answer.result["changed"]) == (0, 1)
    assert rows(db, "SELECT id FROM cbm.scene") == identifier
    assert rows(db, "SELECT assets->'B04'->>'href', source FROM cbm.scene") == [
        (f"{moved}/{OLD}.tif", str(moved))
    ]
    assert not run(ADD, db, source=str(moved)).changed


def test_assets_are_stored_as_the_extractor_reads_them(db, folder):
    run(ADD, db, source=str(folder))
    assert rows(db, "SELECT assets->'B04', extent_crs, extent_bounds FROM cbm.scene") == [
        (
            {
                "href": f"{folder}/{OLD}.tif",
                "index": 1,
                "scale": 10000.0,
                "offset": 0.0,
                "nodata": [],
                "offset_source": "declared",
            },
            "EPSG:32632",
            [500000.0, 5199800.0, 500300.0, 5200000.0],
        )
    ]


def test_a_damaged_scene_is_left_out_and_said(db, folder):
    (folder / f"{NEW}.tif").write_bytes(b"nothing")
    answer = run(ADD, db, source=str(folder))
    assert answer.result["added"] == 1
    assert [item["code"] for item in answer.result["skipped"]] == ["not_a_raster"]
    assert f"skipped {NEW}" in answer.text


def test_nothing_is_written_when_the_end_fails(db, folder, monkeypatch):
    put(folder, NEW)

    def fail(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_set_states", fail)
    with pytest.raises(KeyboardInterrupt):
        run(ADD, db, source=str(folder))
    assert everything(db) == []
    monkeypatch.undo()
    assert run(ADD, db, source=str(folder)).result["superseded"] == 1


def test_safe_and_stac(db, data_dir, tmp_path):
    files = data_dir / "catalogue/stactools_sentinel2/tests/data-files"
    name = "S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126.SAFE"
    if not (files / name).is_dir():
        pytest.skip(f"no {files}")
    product = tmp_path / "eodata" / name
    shutil.copytree(files / name, product)
    images = product / "GRANULE/L2A_T33XWJ_A026649_20220413T150756/IMG_DATA"
    write(images / "R10m/T33XWJ_20220413T150759_B04_10m.jp2", texture(8, 8), driver="JP2OpenJPEG")
    answer = run(ADD, db, source=str(tmp_path / "eodata"), card="s2")
    assert (answer.result["format"], answer.result["added"]) == ("safe", 1)
    assert rows(db, "SELECT reference, assets->'B04'->>'offset_source' FROM cbm.scene") == [
        (name, "product_xml")
    ]
    # The same product from its STAC item is the same scene, with other assets.
    rewrite = [f"{product}/=https://example.org/"]
    answer = run(ADD, db, source=str(product / "expected_output.json"), rewrite=rewrite)
    assert (answer.result["format"], answer.result["added"]) == ("stac", 0)
    assert answer.result["changed"] == 1
    assert "assets" in answer.plan[0]
    assert len(everything(db)) == 1


def test_another_card_is_refused(db, folder):
    with pytest.raises(CbmError) as caught:
        run(ADD, db, source=str(folder), card="bs")
    assert caught.value.code == "card_mismatch"
    assert everything(db) == []


def test_the_database_is_asked_before_an_hour_of_reading(db, monkeypatch, folder):
    from cbm_extract.catalogue import sources

    monkeypatch.setattr(sources, "read", lambda *_: pytest.fail("read"))
    nowhere = Settings(database={**db.database, "port": "1"})
    with pytest.raises(CbmError) as caught:
        run(ADD, nowhere, source=str(folder))
    assert caught.value.code == "database_unreachable"


def test_listing(db, folder):
    put(folder, NEW)
    put(folder, OLD.replace("20220620", "20220625"))
    run(ADD, db, source=str(folder))

    def names(**filters) -> list[str]:
        return [row["reference"] for row in run(LIST, db, **filters).result["scenes"]]

    assert len(names()) == 3
    assert names(state="superseded") == [OLD]
    assert names(date_from="2022-06-21") == [OLD.replace("20220620", "20220625")]
    assert names(date_to="2022-06-20") == [OLD, NEW]
    assert names(date_from="2022-06-20", date_to="2022-06-20", state="active") == [NEW]
    assert names(tile="31TAA") == names(card="bs") == []
    short = run(LIST, db, limit=1)
    assert short.result["total"] == 3
    assert short.result["scenes"][0]["bands"] == ["B04", "SCL"]
    assert "3 scenes, the first above." in short.text
    json.dumps(short.result)


def test_readers_may_list_but_not_add(db, folder):
    analyst = Settings(database={**db.database, "user": "cbm_analyst"})
    assert run(LIST, analyst).result["total"] == 0
    with pytest.raises(CbmError) as caught:
        run(ADD, analyst, source=str(folder))
    assert caught.value.code == "no_permission"


def test_two_at_once_add_each_scene_once(db, folder):
    put(folder, NEW)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: run(ADD, db, source=str(folder)), range(2)))
    assert sorted(answer.result["added"] for answer in answers) == [0, 2]
    assert states(db) == {OLD: ("superseded", NEW), NEW: ("active", None)}
