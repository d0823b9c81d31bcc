"""Extraction again and of gaps: what is replaced, what is filled, what stays."""

from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import psycopg2.errors
import pytest

from cbm_core import db as database
from cbm_core.verbs import Context
from cbm_extract.ledger import claims
from cbm_extract.ledger import verbs as ledger_verbs
from cbm_extract.ledger.states import Scope
from tests.extraction import COLS, LEFT, TOP, World, inside, statistics, texture
from tests.factories import sql, square

pytestmark = pytest.mark.postgis

B04 = {"name": "p", "card": "s2", "bands": ["B04"]}
FIELD = square(LEFT + 105, TOP - 395, 211)
OTHER = square(LEFT + 400, TOP - 400)


@pytest.fixture
def world(db, tmp_path):
    return World.make(db, tmp_path)


def call(verb, world, **arguments):
    return verb.run(verb.arguments.model_validate(arguments), Context(world.settings))


def redo(world, **arguments):
    return call(ledger_verbs.REDO, world, dataset="tt:2024", **arguments)


def runs(world):
    return sql(world.settings, "SELECT scope, rows, replaced FROM cbm.run ORDER BY id")


def items(world):
    return sql(
        world.settings,
        "SELECT s.reference, w.state, w.scope FROM cbm.work_item w JOIN cbm.scene s"
        " ON s.id = w.scene_id ORDER BY s.id, w.id",
    )


def archived(world):
    return sql(
        world.settings,
        "SELECT run_id, geometry_id, stats FROM cbm.signature_archived ORDER BY 1, 2",
    )


class TestRedo:
    @pytest.fixture
    def path(self, world):
        world.ids = world.parcels([FIELD, OTHER])
        path = world.raster("scene_B04", texture())
        world.scene({"B04": path})
        world.extract(B04)
        return path

    def test_what_comes_out_the_same_stays(self, world, path):
        where = "SELECT ctid, geometry_id, stats FROM cbm.signature ORDER BY geometry_id"
        before = sql(world.settings, where)
        checked = redo(world, check=True)
        assert checked.plan == ["extract p of scene again"]
        assert items(world) == [("scene", "done", "delta")]
        assert redo(world, reason="new software").changed
        assert items(world) == [("scene", "pending", "full")]
        assert not redo(world).changed
        done = world.extract(B04)
        assert (done.result["done"], done.result["rows"]) == (1, 0)
        assert sql(world.settings, where) == before
        assert runs(world) == [("full", 2, None), ("full", 2, 0)]
        assert archived(world) == []
        assert items(world) == [("scene", "done", "delta")]

    def test_what_differs_is_archived_and_replaced(self, world, path):
        before = world.rows()
        world.raster("scene_B04", texture(seed=99))
        redo(world)
        done = world.extract(B04)
        assert done.result["rows"] == 2
        assert "1 items came out otherwise" in done.text
        pixels = texture(seed=99)[inside(FIELD, path)]
        np.testing.assert_array_equal(world.rows()[world.ids[0]].stats["B04"], statistics(pixels))
        assert runs(world) == [("full", 2, None), ("full", 2, 2)]
        old = archived(world)
        assert [row[:2] for row in old] == [(2, number) for number in sorted(world.ids)]
        for _, number, stats in old:
            np.testing.assert_array_equal(np.array(stats, np.float32), before[number].stats["B04"])
        with closing(database.connect(world.settings, "owner")) as owner, owner.cursor() as cursor:
            cursor.execute("SELECT action, detail->>'archived' FROM cbm.audit ORDER BY id")
            assert cursor.fetchall() == [("ledger redo", None), ("signatures replaced", "2")]

    def test_where_nothing_was_seen_before_nothing_is_archived(self, world):
        world.parcels([FIELD])
        world.scene({"B04": world.raster("scene_B04", 0 * texture(), nodata=0)})
        world.extract(B04)
        world.raster("scene_B04", texture())
        redo(world)
        assert world.extract(B04).result["rows"] == 1
        assert runs(world) == [("full", 0, None), ("full", 1, None)]
        assert archived(world) == []

    def test_rows_of_retired_parcels_are_kept_up(self, world, path):
        """A redo replaces every row there is: nothing vanishes, nothing stays behind."""
        sql(world.settings, "UPDATE cbm.parcel_geometry SET retired_at = now()")
        (new,) = world.parcels([square(LEFT + 600, TOP - 500)], layer="b")
        world.raster("scene_B04", texture(seed=99))
        redo(world)
        world.extract(B04)
        assert set(world.rows()) == {*world.ids, new}
        pixels = texture(seed=99)[inside(FIELD, path)]
        np.testing.assert_array_equal(world.rows()[world.ids[0]].stats["B04"], statistics(pixels))

    def test_filters(self, world, path):
        world.scene({"B04": path}, reference="b", obstime=datetime(2024, 5, 2, tzinfo=UTC))
        world.extract(B04, {**B04, "name": "q"})
        world.extract({**B04, "buffer_m": 10})
        assert redo(world, products=["p@2"], scene="b").plan == ["extract p@2 of b again"]
        assert len(redo(world, products=["p"], check=True).plan) == 3
        assert len(redo(world, check=True).plan) == 5

    def test_asked_for_while_running_it_is_done_afterwards(self, world, path):
        sql(world.settings, "UPDATE cbm.work_item SET state = 'pending'")
        with closing(database.connect(world.settings)) as connection:
            with database.transaction(connection) as cursor:
                claim = claims.claim(cursor, Scope(), "w", 60)
            assert redo(world).after == "p of scene: running, then pending in full\n"
            assert not redo(world).changed
            with database.transaction(connection) as cursor:
                assert claims.finish(cursor, claim, claim.items[0], 1) == "pending"
        assert items(world) == [("scene", "pending", "full")]

    def test_rows_are_taken_away_by_the_holder_of_a_full_item_only(self, world, path):
        archive = "SELECT cbm.archive_signature_slice(%s, %s, 1)"
        running = (
            "UPDATE cbm.work_item SET state = 'running', token = 7, lease_until = now() WHERE %s"
        )
        for at_work in (False, True):
            sql(world.settings, running, at_work)
            for held in (7, 8):
                with pytest.raises(psycopg2.errors.NoDataFound):
                    sql(world.settings, archive, 1, held)
        sql(world.settings, "UPDATE cbm.work_item SET scope = 'full'")
        with pytest.raises(psycopg2.errors.NoDataFound, match="run 1 is not"):
            sql(world.settings, archive, 1, 7)
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            sql(world.settings, "DELETE FROM cbm.signature")
        assert len(world.rows()) == 2

    def test_a_purge_takes_the_archive_along(self, world, path):
        world.raster("scene_B04", texture(seed=99))
        redo(world)
        world.extract(B04)
        sql(world.settings, "SELECT cbm.purge_dataset(%s::smallint)", world.dataset)
        assert archived(world) == []


class TestFill:
    @pytest.fixture
    def overlapping(self, world):
        """Two tiles of one datatake that overlap by 200 m; three parcels: west, both, east."""
        world.west = world.scene({"B04": texture(seed=11)}, reference="w", tile="32UPU")
        world.path = world.raster("e", texture(seed=12), left=LEFT + 10 * COLS - 200)
        world.east = world.scene({"B04": world.path}, reference="e", tile="32UQU")
        middle = LEFT + 10 * COLS
        world.shapes = [FIELD, square(middle - 150, TOP - 300, 60), square(middle + 300, TOP - 300)]
        world.ids = world.parcels(world.shapes)
        world.extract(B04)
        return world

    def shown(self, world):
        return dict(sql(world.settings, "SELECT geometry_id, reference FROM cbm.signature_long"))

    def test_a_neighbour_fills_the_gap_of_a_tile_that_goes(self, overlapping):
        world = overlapping
        west, both, east = world.ids
        assert self.shown(world) == {west: "w", both: "w", east: "e"}
        before = world.rows(scene=world.east)
        sql(world.settings, "UPDATE cbm.scene SET state = 'retracted' WHERE id = %s", world.west)
        assert items(world) == [("w", "done", "delta"), ("e", "pending", "fill")]
        done = world.extract(B04)
        assert (done.plan, done.result["rows"]) == (["go on with 1 scenes that are open"], 1)
        assert self.shown(world) == {both: "e", east: "e"}
        rows = world.rows(scene=world.east)
        pixels = texture(seed=12)[inside(world.shapes[1], world.path)]
        np.testing.assert_array_equal(rows[both].stats["B04"], statistics(pixels))
        np.testing.assert_array_equal(rows[east].stats["B04"], before[east].stats["B04"])
        assert sql(world.settings, "SELECT scope, rows, geometry_ids FROM cbm.run ORDER BY id")[
            2:
        ] == [("fill", 1, [both])]
        assert not world.extract(B04).changed
        # Back again, the better tile is shown; the other's row stays.
        sql(world.settings, "UPDATE cbm.scene SET state = 'active' WHERE id = %s", world.west)
        assert not world.extract(B04).changed
        assert self.shown(world) == {west: "w", both: "w", east: "e"}

    def test_new_parcels_come_along(self, overlapping):
        world = overlapping
        sql(world.settings, "UPDATE cbm.scene SET state = 'held' WHERE id = %s", world.west)
        (new,) = world.parcels([square(LEFT + 10 * COLS + 400, TOP - 500)], layer="b")
        world.extract(B04)
        assert set(world.rows(scene=world.east)) == {world.ids[1], world.ids[2], new}
        assert runs(world)[2:] == [("fill", 2, None)]
        assert not world.extract(B04).changed

    def test_nothing_is_reopened_where_nothing_is_missing(self, overlapping):
        sql(overlapping.settings, "UPDATE cbm.scene SET state = 'held' WHERE reference = 'e'")
        assert {row[1:] for row in items(overlapping)} == {("done", "delta")}

    def test_nor_where_another_product_of_the_tile_takes_the_place(self, overlapping):
        world = overlapping
        world.scene({"B04": texture(seed=13)}, reference="w2", tile="32UPU")
        sql(world.settings, "UPDATE cbm.scene SET state = 'superseded' WHERE reference = 'w'")
        assert {row[1:] for row in items(world)} == {("done", "delta")}

    def test_states_are_looked_at_when_the_change_is_complete(self, overlapping):
        world = overlapping
        with closing(database.connect(world.settings)) as connection, connection.cursor() as cursor:
            cursor.execute("UPDATE cbm.scene SET state = 'held' WHERE reference = 'w'")
            cursor.execute("UPDATE cbm.scene SET state = 'active' WHERE reference = 'w'")
            connection.commit()
        assert {row[1:] for row in items(world)} == {("done", "delta")}

    def test_products_of_all_tiles_need_none(self, world):
        world.west = world.scene({"B04": texture(seed=11)}, reference="w", tile="32UPU")
        right = world.raster("e", texture(seed=12), left=LEFT + 10 * COLS - 200)
        world.scene({"B04": right}, reference="e", tile="32UQU")
        world.parcels([square(LEFT + 10 * COLS - 150, TOP - 300, 60)])
        world.extract({**B04, "tiles": "all"})
        sql(world.settings, "UPDATE cbm.scene SET state = 'held' WHERE reference = 'w'")
        assert {row[1:] for row in items(world)} == {("done", "delta")}

    def test_a_neighbour_at_work_fills_it_afterwards(self, overlapping):
        """Its worker may have asked for better tiles before this one went."""
        world = overlapping
        sql(world.settings, "UPDATE cbm.work_item SET state = 'pending' WHERE scene_id = %s",
            world.east)  # fmt: skip
        with closing(database.connect(world.settings)) as connection:
            with database.transaction(connection) as cursor:
                claim = claims.claim(cursor, Scope(), "w", 60)
            sql(world.settings, "UPDATE cbm.scene SET state = 'held' WHERE reference = 'w'")
            with database.transaction(connection) as cursor:
                assert claims.finish(cursor, claim, claim.items[0], 1) == "pending"
        assert items(world)[1] == ("e", "pending", "fill")

    def test_coverage_says_not_yet_until_it_is_filled(self, overlapping):
        world = overlapping
        sql(world.settings, "UPDATE cbm.scene SET state = 'held' WHERE reference = 'w'")
        ask = "SELECT reference, code FROM cbm.parcel_coverage('tt', 2024, '', 'p1') ORDER BY 1"
        assert sql(world.settings, ask) == [("e", "not_yet"), ("w", "held")]
        world.extract(B04)
        assert sql(world.settings, ask) == [("e", "ok"), ("w", "held")]

    def test_a_redo_of_a_filled_slice_keeps_what_was_filled(self, overlapping):
        world = overlapping
        sql(world.settings, "UPDATE cbm.scene SET state = 'held' WHERE reference = 'w'")
        world.extract(B04)
        sql(world.settings, "UPDATE cbm.scene SET state = 'active' WHERE reference = 'w'")
        redo(world, scene="e")
        world.extract(B04)
        assert set(world.rows(scene=world.east)) == set(world.ids[1:])
        assert runs(world)[3:] == [("full", 2, 0)]


class TestRevisions:
    LATEST = "SELECT product, revision, reference FROM cbm.signature_latest ORDER BY 1, 3"

    def test_the_newest_is_shown_for_the_whole_dataset_at_once(self, world):
        """Series of two definitions are never mixed, however far the newer one has got."""
        world.parcels([FIELD])
        bands = {"B04": world.raster("b04", texture()), "B08": world.raster("b08", texture(seed=2))}
        world.scene(bands, reference="a")
        world.scene(bands, reference="b", obstime=datetime(2024, 5, 2, tzinfo=UTC))
        world.extract(B04, {**B04, "name": "q"})
        newer = {**B04, "bands": ["B08"]}
        world.extract(newer, start="2024-05-02", end="2024-05-02")
        assert sql(world.settings, self.LATEST) == [("p", 2, "b"), ("q", 1, "a"), ("q", 1, "b")]
        world.extract(newer)
        assert sql(world.settings, self.LATEST)[0] == ("p", 2, "a")
        count = "SELECT count(*) FROM cbm.signature_long WHERE product = 'p'"
        assert sql(world.settings, count) == [(4,)]

    def test_another_dataset_stays_with_its_own(self, world):
        from tests.factories import add_dataset, add_parcels

        world.parcels([FIELD])
        other = add_dataset(world.settings, "uu")
        add_parcels(world.settings, other, [FIELD])
        path = world.raster("b04", texture())
        world.scene({"B04": path, "B08": path})
        world.extract(B04)
        world.extract(B04, dataset="uu:2024")
        world.extract({**B04, "bands": ["B08"]}, dataset="uu:2024")
        found = "SELECT aoi, revision FROM cbm.signature_latest ORDER BY 1"
        assert sql(world.settings, found) == [("tt", 1), ("uu", 2)]
