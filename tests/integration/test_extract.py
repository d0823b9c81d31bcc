"""The course of extractions: what is done, what is not done again, what fails and how."""

import threading

import numpy as np
import pytest
import rasterio
import shapely

from cbm_extract.engine import scene_task
from tests.extraction import (
    COLS,
    LEFT,
    TOP,
    inside,
    run_extract,
    statistics,
    texture,
)
from tests.factories import asset, sql, square, transformed
from tests.integration import extractions
from tests.integration.extractions import B04, FIELD, MAY, count, refused

pytestmark = pytest.mark.postgis


@pytest.fixture
def world(db, tmp_path):
    return extractions.world(db, tmp_path)


class TestCourse:
    def test_check_says_what_a_run_does_and_changes_nothing(self, world):
        world.parcels([FIELD])
        world.scene({"B04": texture()})
        checked = world.extract(B04, check=True)
        assert checked.changed
        assert checked.plan == ["register product p", "enqueue 1 scenes for p"]
        for table in ("product", "work_item", "plan", "run", "signature"):
            assert count(world, table) == 0
        done = world.extract(B04)
        assert done.plan == checked.plan
        assert done.result == {
            "dataset": "tt:2024", "products": ["p"], "enqueued": 1, "scenes": 1, "rows": 1,
            "done": 1, "failed": 0, "open": 0, "held": 0,
        }  # fmt: skip

    def test_a_second_run_does_nothing(self, world):
        world.parcels([FIELD])
        world.scene({"B04": texture()})
        world.extract(B04)
        before = sql(world.settings, "SELECT id, digest FROM cbm.run")
        for check in (True, False):
            again = world.extract(B04, check=check)
            assert (again.changed, again.plan) == (False, [])
        assert sql(world.settings, "SELECT id, digest FROM cbm.run") == before
        assert "Nothing to do" in again.text

    def test_scenes_outside_the_period_wait_until_asked_for(self, world):
        world.parcels([FIELD])
        for number, when in enumerate(MAY[:3]):
            world.scene({"B04": texture()}, reference=f"s{number}", obstime=when)
        done = world.extract(B04, start="2024-05-02", end="2024-05-02")
        assert done.result["done"] == 1
        assert world.extract(B04).result["scenes"] == 2

    def test_an_open_item_is_gone_on_with(self, world):
        world.parcels([FIELD])
        world.scene({"B04": texture()})
        world.extract(B04)
        sql(world.settings, "UPDATE cbm.work_item SET state = 'pending', parcel_set_id = 1")
        checked = world.extract(B04, check=True)
        assert checked.plan == ["go on with 1 scenes that are open"]
        assert world.extract(B04).changed

    def test_a_changed_definition_is_a_new_revision_beside_the_old(self, world):
        world.parcels([FIELD])
        world.scene({"B04": texture(), "B08": texture(seed=2)})
        world.extract(B04)
        world.extract({**B04, "bands": ["B04", "B08"]})
        assert sql(world.settings, "SELECT revision, variables FROM cbm.product ORDER BY 1") == [
            (1, ["B04"]), (2, ["B04", "B08"]),
        ]  # fmt: skip
        assert count(world, "signature") == 2
        # Named without its file, the product is the one last registered.
        assert not run_extract(world.settings, products=["p"]).changed

    def test_the_preset_is_the_default(self, world):
        world.parcels([FIELD])
        assert run_extract(world.settings).result["products"] == ["s2"]

    def test_no_scene_shows_a_parcel(self, world):
        world.parcels([square(LEFT + 90_000, TOP)])
        world.scene({"B04": texture()})
        done = world.extract(B04)
        assert done.plan == ["register product p"]
        assert done.changed
        assert not world.extract(B04).changed
        assert "No active scene" in done.text

    def test_unknown_product(self, world):
        error = refused(world, B04, products=["q"])
        assert error.code == "product_unknown"
        assert "s2_clear" in error.message

    def test_evidence(self, world):
        (number,) = world.parcels([FIELD])
        path = world.raster("evidence", texture())
        world.scene({"B04": asset(path, offset=10.0, source="product_xml")})
        world.extract(B04)
        (row,) = sql(
            world.settings,
            """SELECT scope, parcel_set_from, parcel_set_to, plans, assets, rows,
                      p.hash = product_hash, encode(pl.content_hash, 'hex'),
                      started_at < finished_at
               FROM cbm.run r JOIN cbm.product p ON p.id = product_id, cbm.plan pl""",
        )
        scope, start, end, plans, assets, rows, same, content, ordered = row
        assert (scope, start, end, rows, same, ordered) == ("full", 0, 1, 1, True, True)
        assert [plan["content_hash"] for plan in plans] == [content]
        assert assets["B04"]["size"] == path.stat().st_size
        assert assets["B04"]["mtime_ns"] == path.stat().st_mtime_ns
        assert (assets["B04"]["offset"], assets["B04"]["offset_source"]) == (10.0, "product_xml")
        assert number


class TestDelta:
    def test_only_new_geometries_are_extracted(self, world):
        (old,) = world.parcels([FIELD], layer="a")
        world.scene({"B04": texture()})
        world.extract(B04)
        (new,) = world.parcels([square(LEFT + 400, TOP - 400)], layer="b")
        done = world.extract(B04)
        assert (done.plan, done.result["rows"]) == (["reopen 1 scenes for p: new geometries"], 1)
        assert set(world.rows()) == {old, new}
        assert sql(
            world.settings,
            "SELECT scope, parcel_set_from, parcel_set_to, rows FROM cbm.run ORDER BY id",
        ) == [("full", 0, 1, 1), ("delta", 1, 2, 1)]
        assert not world.extract(B04).changed

    def test_retired_geometries_get_no_rows(self, world):
        gone, kept = world.parcels([FIELD, square(LEFT + 400, TOP - 400)])
        sql(world.settings, "UPDATE cbm.parcel_geometry SET retired_at = now() WHERE id = %s", gone)
        world.scene({"B04": texture()})
        world.extract(B04)
        assert set(world.rows()) == {kept}

    def test_several_products_and_layers_read_a_scene_once(self, world, monkeypatch):
        from cbm_extract.engine import scene_reading

        opened = []
        inner = scene_reading.open_band
        monkeypatch.setattr(
            scene_reading, "open_band", lambda one: opened.append(one.href) or inner(one)
        )
        world.parcels([FIELD], layer="a")
        world.parcels([square(LEFT + 400, TOP - 400)], layer="b")
        world.scene({"B04": texture(), "B08": texture(seed=2), "SCL": texture(high=201) // 201})
        world.extract(B04, {**B04, "name": "q", "bands": ["B08", "B04"], "mask_classes": [3]})
        assert len(opened) == len(set(opened)) == 3
        assert count(world, "signature") == 4


class TestTiles:
    @pytest.fixture
    def overlapping(self, world):
        """Two tiles of one datatake that overlap by 200 m; three parcels: west, both, east."""
        west = texture(seed=11)
        east = texture(seed=12)
        world.west = world.scene({"B04": west}, reference="w", tile="32UPU")
        right = world.raster("e", east, left=LEFT + 10 * COLS - 200)
        world.east = world.scene({"B04": right}, reference="e", tile="32UQU")
        middle = LEFT + 10 * COLS
        world.ids = world.parcels(
            [FIELD, square(middle - 150, TOP - 300, 60), square(middle + 300, TOP - 300)]
        )
        return world

    def test_home_tile_only(self, overlapping):
        overlapping.extract(B04)
        west, both, east = overlapping.ids
        assert set(overlapping.rows(scene=overlapping.west)) == {west, both}
        assert set(overlapping.rows(scene=overlapping.east)) == {east}

    def test_all_tiles_and_the_view_shows_one(self, overlapping):
        overlapping.extract({**B04, "tiles": "all"})
        _, both, _ = overlapping.ids
        assert both in overlapping.rows(scene=overlapping.west)
        assert both in overlapping.rows(scene=overlapping.east)
        shown = sql(overlapping.settings,
                    "SELECT tile FROM cbm.signature_long WHERE geometry_id = %s", both)  # fmt: skip
        assert shown == [("32UPU",)]

    def test_without_the_home_tile_another_serves(self, overlapping):
        sql(overlapping.settings,
            "UPDATE cbm.scene SET state = 'retracted' WHERE id = %s", overlapping.west)  # fmt: skip
        overlapping.extract(B04)
        _, both, east = overlapping.ids
        assert set(overlapping.rows()) == {both, east}
        shown = sql(overlapping.settings,
                    "SELECT tile FROM cbm.signature_long WHERE geometry_id = %s", both)  # fmt: skip
        assert shown == [("32UQU",)]

    def test_two_zones(self, world):
        """The same ground in zones 32 and 33: each parcel in its own, with that zone's pixels."""
        border = transformed(shapely.Point(12.0, 47.8), "EPSG:4326", "EPSG:32632")
        middle = transformed(shapely.Point(12.0, 47.8), "EPSG:4326", "EPSG:32633")
        shapes = [
            shapely.box(11.9965, 47.7985, 11.9985, 47.7995),
            shapely.box(12.0015, 47.7985, 12.0035, 47.7995),
        ]
        ids = world.parcels(shapes, crs="EPSG:4326")
        scenes, paths = {}, {}
        for zone, centre in ((32, border), (33, middle)):
            left, top = (round(v / 10) * 10 for v in (centre.x - 400, centre.y + 300))
            paths[zone] = world.raster(
                f"z{zone}", texture(seed=zone), left=left, top=top, crs=f"EPSG:326{zone}"
            )
            scenes[zone] = world.scene(
                {"B04": paths[zone]}, reference=f"z{zone}", tile=f"{zone}UQU"
            )
        world.extract(B04, {**B04, "name": "every", "tiles": "all"})
        for zone, number, shape in ((32, ids[0], shapes[0]), (33, ids[1], shapes[1])):
            rows = world.rows(scene=scenes[zone])
            assert set(rows) == {number}
            with rasterio.open(paths[zone]) as source:
                pixels = source.read(1)[inside(shape, paths[zone], "EPSG:4326")]
            np.testing.assert_array_equal(rows[number].stats["B04"], statistics(pixels))
            assert rows[number].rank == 0
            every = world.rows("every", scenes[zone])
            assert set(every) == set(ids)
            assert sorted(row.rank for row in every.values()) == [0, 1]


class TestTogether:
    def test_two_extractions_at_once_do_each_item_once(self, world):
        ids = world.parcels([FIELD, square(LEFT + 400, TOP - 400)])
        for number, when in enumerate(MAY[:12]):
            world.scene({"B04": texture(seed=number)}, reference=f"s{number}", obstime=when)
        product = world.products(B04)
        answers, start = [], threading.Barrier(3)

        def work():
            start.wait()
            answers.append(run_extract(world.settings, product_file=product))

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 3
        assert all(answer.result["done"] == 12 for answer in answers)
        assert sum(answer.result["rows"] for answer in answers) == 12 * len(ids)
        assert count(world, "run") == 12
        assert count(world, "signature") == 24

    def test_an_interrupt_gives_the_scene_back(self, world, monkeypatch):
        world.parcels([FIELD])
        world.scene({"B04": texture()})

        def interrupted(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(scene_task, "run", interrupted)
            with pytest.raises(KeyboardInterrupt):
                world.extract(B04)
        assert sql(world.settings, "SELECT state, attempts FROM cbm.work_item") == [("pending", 0)]
        assert world.extract(B04).result["done"] == 1

    def test_a_worker_that_overslept_writes_nothing(self, world, monkeypatch):
        """Its lease runs out while it reads; another does the scene; then it wakes."""

        world.parcels([FIELD])
        world.scene({"B04": texture()})
        product = world.products(B04)
        inner = scene_task.signatures.ensure_partition
        calls = []

        def asleep(*arguments):
            calls.append(arguments)
            if len(calls) == 1:
                sql(world.settings, "UPDATE cbm.work_item SET lease_until = now()")
                calls.append(run_extract(world.settings, product_file=product))
            return inner(*arguments)

        monkeypatch.setattr(scene_task.signatures, "ensure_partition", asleep)
        run_extract(world.settings, product_file=product, lease_seconds=60)
        assert count(world, "signature") == count(world, "run") == 1
        (token,) = sql(world.settings, "SELECT token FROM cbm.run")[0]
        assert token == 2
