"""`cbm signatures verify` finds what was tampered with, and nothing else."""

import os
from contextlib import closing
from datetime import UTC, datetime

import pytest

from cbm_core import db as database
from cbm_core.errors import CbmError
from cbm_core.verbs import Context
from cbm_extract.ledger import verbs as ledger_verbs
from cbm_extract.verify.verbs import VERIFY
from tests.extraction import COLS, LEFT, ROWS, TOP, World, texture
from tests.factories import sql, square

pytestmark = pytest.mark.postgis

B04 = {"name": "p", "card": "s2", "bands": ["B04", "B08"], "indices": ["NDVI"]}
FIELD = square(LEFT + 105, TOP - 395, 211)
OTHER = square(LEFT + 400, TOP - 400)
CLOUDED = square(LEFT + 600, TOP - 500)


def verify(world, **arguments):
    given = {"dataset": "tt:2024", **arguments}
    return VERIFY.run(VERIFY.arguments.model_validate(given), Context(world.settings))


def kinds(world, **arguments) -> list[str]:
    """Kinds of findings that fail the verification."""
    with pytest.raises(CbmError) as caught:
        verify(world, **arguments)
    assert caught.value.code == "signatures_differ"
    return sorted(one["kind"] for one in caught.value.details["result"]["findings"])


def tamper(world, statement, *values):
    """What only the owner can do."""
    with closing(database.connect(world.settings, "owner")) as owner, owner, owner.cursor() as cur:
        cur.execute("SET ROLE cbm_owner")
        cur.execute(statement, values)
        assert cur.rowcount


@pytest.fixture
def world(db, tmp_path):
    """Two scenes, two products, classes and a masked product; then a second parcel set."""
    world = World.make(db, tmp_path)
    world.ids = world.parcels([FIELD, OTHER, CLOUDED])
    classes = texture(ROWS // 2, COLS // 2, 0, 12, "uint8", seed=9)
    classes[20:, 25:] = 9
    for number in (1, 2):
        bands = {"B04": texture(seed=number), "B08": texture(seed=number + 10)}
        bands["SCL"] = world.raster(f"scl{number}", classes, res=20)
        when = datetime(2024, 4 + number, 30, 10, tzinfo=UTC)
        world.scene(bands, reference=f"s{number}", obstime=when)
    masked = {**B04, "name": "q", "mask_classes": [8, 9]}
    world.extract(B04, masked)
    world.ids += world.parcels([square(LEFT + 500, TOP - 200)], layer="b")
    world.extract(B04, masked)
    return world


class TestAgreement:
    def test_of_all(self, world):
        for again in (False, True):
            answer = verify(world, recompute=again)
            assert answer.result == {
                "dataset": "tt:2024", "slices": 4, "scenes": 2, "recomputed": again, "findings": [],
            }  # fmt: skip
        assert "anew" in answer.text

    def test_of_a_selection(self, world):
        assert verify(world, scene="s1").result["slices"] == 2
        assert verify(world, products=["q"]).result["slices"] == 2
        assert verify(world, start="2024-06-01").result["scenes"] == 1
        assert verify(world, sample=1, recompute=True).result["scenes"] == 1
        assert "Nothing" in verify(world, start="2025-01-01").text
        with pytest.raises(CbmError, match="s3"):
            verify(world, scene="s3")

    def test_after_retired_parcels_and_full_runs(self, world):
        sql(world.settings, "UPDATE cbm.parcel_geometry SET retired_at = now() WHERE id = %s",
            world.ids[0])  # fmt: skip
        assert verify(world, recompute=True).result["findings"] == []
        world.raster("s1_B04", texture(seed=77))
        redo = ledger_verbs.REDO
        redo.run(redo.arguments(dataset="tt:2024"), Context(world.settings))
        product = {"products": ["p", "q"]}
        world.extract(**product)
        assert sql(world.settings, "SELECT count(*) FROM cbm.run WHERE replaced > 0") == [(2,)]
        assert verify(world, recompute=True).result["findings"] == []

    def test_with_filled_gaps(self, db, tmp_path):
        world = World.make(db, tmp_path)
        bands = {"name": "p", "card": "s2", "bands": ["B04"]}
        world.scene({"B04": texture(seed=11)}, reference="w", tile="32UPU")
        right = world.raster("e", texture(seed=12), left=LEFT + 10 * COLS - 200)
        world.scene({"B04": right}, reference="e", tile="32UQU")
        middle = LEFT + 10 * COLS
        ids = world.parcels([square(middle - 150, TOP - 300, 60), square(middle + 300, TOP - 300)])
        world.extract(bands)
        sql(db, "UPDATE cbm.scene SET state = 'retracted' WHERE reference = 'w'")
        # Not yet filled, it is open and no difference.
        assert verify(world, scene="e", recompute=True).result["findings"] == []
        world.extract(bands)
        world.parcels([square(middle + 300, TOP - 500)], layer="b")
        world.extract(bands)
        assert verify(world, recompute=True).result["findings"] == []
        tamper(world, "UPDATE cbm.signature SET px_imaged = px_imaged + 1 WHERE geometry_id = %s"
                      " AND scene_id = 2", ids[0])  # fmt: skip
        with pytest.raises(CbmError) as caught:
            verify(world)
        (found,) = caught.value.details["result"]["findings"]
        scope = "SELECT scope FROM cbm.run WHERE id = %s"
        assert sql(db, scope, found["details"]["run"]) == [("fill",)]


class TestDifferences:
    def test_a_changed_number_is_named(self, world):
        tamper(world, "UPDATE cbm.signature SET stats[2] = 5 WHERE geometry_id = %s"
                      " AND scene_id = 1 AND product_id = 1", world.ids[0])  # fmt: skip
        assert kinds(world) == ["digest_differs"]
        with pytest.raises(CbmError) as caught:
            verify(world, recompute=True)
        found = {one["kind"]: one for one in caught.value.details["result"]["findings"]}
        assert set(found) == {"digest_differs", "numbers_differ"}
        assert "1 of 4 rows" in found["numbers_differ"]["text"]
        assert "B04.mean 5 -> " in found["numbers_differ"]["text"]
        assert found["numbers_differ"]["details"]["geometry_ids"] == [world.ids[0]]
        assert verify(world, scene="s2", recompute=True).result["findings"] == []

    def test_rows_that_are_lost(self, world):
        tamper(world, "DELETE FROM cbm.signature WHERE geometry_id = %s AND scene_id = 2",
               world.ids[1])  # fmt: skip
        assert kinds(world) == ["rows_differ", "rows_differ"]
        assert kinds(world, recompute=True, products=["p"]) == ["rows_differ", "rows_missing"]

    def test_rows_of_nobody(self, world):
        tamper(
            world, "DELETE FROM cbm.run WHERE scene_id = 2 AND product_id = 1 AND scope = 'delta'"
        )
        assert kinds(world) == ["rows_without_run"]
        tamper(world, "DELETE FROM cbm.run WHERE scene_id = 2 AND product_id = 1")
        assert kinds(world) == ["rows_without_run", "run_missing"]
        tamper(world, "DELETE FROM cbm.work_item WHERE scene_id = 2")
        tamper(world, "INSERT INTO cbm.signature SELECT obstime, geometry_id, 2000, px_imaged,"
                      " px_clear, dataset_id, product_id, tile_rank, stats, class_counts"
                      " FROM cbm.signature WHERE scene_id = 1 LIMIT 1")  # fmt: skip
        assert kinds(world) == ["rows_without_run", "rows_without_run"]

    def test_a_changed_plan(self, world):
        tamper(world, "UPDATE cbm.plan SET content_hash = 'x' WHERE parcel_set_id = 2"
                      " AND lattice LIKE '%%|10|%%'")  # fmt: skip
        assert set(kinds(world)) == {"plan_changed"}

    def test_a_changed_file_is_a_warning_and_says_so_when_read_again(self, world):
        path = world.raster("s1_B04", texture(seed=50))
        os.utime(path, ns=(1, 1))
        answer = verify(world)
        assert {one["kind"] for one in answer.result["findings"]} == {"asset_changed"}
        assert len(answer.result["findings"]) == 2
        assert "mtime_ns" in answer.text
        found = kinds(world, recompute=True)
        assert found == ["asset_changed"] * 2 + ["numbers_differ"] * 2

    def test_files_gone_or_declared_otherwise_are_warnings(self, world):
        (world.folder / "s1_B04.tif").unlink()
        sql(world.settings, "UPDATE cbm.scene SET assets = jsonb_set(assets, '{B08,offset}', '5')"
                            " WHERE reference = 's2'")  # fmt: skip
        answer = verify(world, products=["p"], recompute=True, scene="s1")
        assert [one["kind"] for one in answer.result["findings"]] == [
            "asset_missing", "recompute_impossible",
        ]  # fmt: skip
        (found,) = verify(world, products=["p"], scene="s2").result["findings"]
        assert found["kind"] == "asset_redefined"
        assert "offset 0.0 -> 5" in found["text"]


def test_nothing_is_written(world):
    tables = "SELECT (SELECT count(*) FROM cbm.run), (SELECT max(xmin::text) FROM cbm.work_item)"
    before = sql(world.settings, tables)
    verify(world, recompute=True)
    assert sql(world.settings, tables) == before
