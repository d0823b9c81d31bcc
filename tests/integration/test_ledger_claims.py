"""The ledger: who claims what, and whose lease holds."""

import threading
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from cbm_core import db as database
from cbm_core.errors import CbmError
from cbm_extract.ledger import claims
from cbm_extract.ledger.heartbeat import Heartbeat
from cbm_extract.ledger.states import MAX_ATTEMPTS, Scope
from tests.factories import add_parcels, add_product, sql, square
from tests.integration import ledgers
from tests.integration.ledgers import (
    DAMAGED,
    OFFLINE,
    SOUTH,
    WEST,
    claim,
    do,
    enqueued,
    expire,
    states,
    tile,
)

pytestmark = pytest.mark.postgis


@pytest.fixture
def world(db):
    return ledgers.world(db)


class TestClaim:
    def test_a_scene_with_all_its_open_items(self, world):
        settings, _, _ = world
        add_product(settings, "clear")
        first, second = tile(settings, 0), tile(settings, 1)
        enqueued(world, "s2", "clear")
        one, two = claim(settings), claim(settings)
        assert [one.scene_id, two.scene_id] == [first, second]
        assert [len(one.items), len(two.items)] == [2, 2]
        assert two.token > one.token
        assert claim(settings) is None

    def test_only_what_is_in_scope(self, world):
        settings, dataset, product = world
        other = add_product(settings, "clear")
        tile(settings, 0)
        enqueued(world, "s2", "clear")
        assert claim(settings, scope=Scope(dataset + 1)) is None
        taken = claim(settings, scope=Scope(dataset, (other,)))
        assert [item.product_id for item in taken.items] == [other]
        rest = claim(settings, scope=Scope(dataset))
        assert [item.product_id for item in rest.items] == [product]

    @pytest.mark.parametrize("state", ["superseded", "held", "retracted"])
    def test_not_scenes_that_ceased_to_be_active(self, world, state):
        settings, _, _ = world
        scene = tile(settings, 0)
        enqueued(world)
        sql(settings, "UPDATE cbm.scene SET state = %s WHERE id = %s", state, scene)
        assert claim(settings) is None
        assert do(settings, claims.backlog, Scope()).claimable == 0
        sql(settings, "UPDATE cbm.scene SET state = 'active' WHERE id = %s", scene)
        assert claim(settings).scene_id == scene

    def test_claimers_at_once_never_share_an_item(self, world):
        settings, _, _ = world
        add_product(settings, "clear")
        for number in range(30):
            tile(settings, number)
        enqueued(world, "s2", "clear")
        got, start = [], threading.Barrier(6)

        def work():
            start.wait()
            while (taken := claim(settings)) is not None:
                got.append((taken.scene_id, [item.id for item in taken.items]))

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        items = Counter(number for _, numbers in got for number in numbers)
        assert len(items) == 60
        assert set(items.values()) == {1}
        assert all(len(numbers) == 2 for _, numbers in got)

    def test_failing_scenes_wait_behind_others(self, world):
        settings, _, _ = world
        first, second = tile(settings, 0), tile(settings, 1)
        enqueued(world)
        taken = claim(settings)
        assert do(settings, claims.fail, taken, taken.items[0], OFFLINE) == "pending"
        assert [claim(settings).scene_id, claim(settings).scene_id] == [second, first]

    def test_an_item_locked_by_its_late_worker_is_not_waited_for(self, world):
        settings, _, _ = world
        tile(settings, 0)
        enqueued(world)
        taken = claim(settings)
        expire(settings)
        with closing(database.connect(settings)) as late, database.transaction(late) as cursor:
            claims.finish(cursor, taken, taken.items[0], 1)
            assert claim(settings) is None
        assert states(settings) == {"done": 1}

    @pytest.mark.parametrize("analyzed", [False, True])
    def test_a_claim_looks_at_a_few_items_whatever_the_backlog(self, world, analyzed):
        settings, dataset, product = world
        other = add_product(settings, "clear")
        tile(settings, 0)
        with (
            closing(database.connect(settings, "owner")) as connection,
            database.transaction(connection) as cursor,
        ):
            cursor.execute("SET ROLE cbm_owner")
            cursor.execute(
                """INSERT INTO cbm.scene (reference, card, platform, obstime, datatake_start, tile,
                     footprint, extent_crs, extent_bounds, assets, source)
                   SELECT 's' || i, card, platform, obstime, datatake_start, tile, footprint,
                     extent_crs, extent_bounds, assets, source
                   FROM cbm.scene, generate_series(1, 4000) i"""
            )
            cursor.execute(
                """INSERT INTO cbm.work_item (scene_id, dataset_id, product_id)
                   SELECT id, %s, unnest(%s) FROM cbm.scene""",
                (dataset, [product, other]),
            )
            if analyzed:
                cursor.execute("ANALYZE cbm.scene, cbm.work_item")
        for scope in (Scope(), Scope(dataset), Scope(dataset, (other,))):
            for query in (claims._FIRST_PENDING, claims._FIRST_EXPIRED):
                rows = do(settings, self.rows_looked_at, query, scope)
                assert max(rows) <= 3, rows

    @staticmethod
    def rows_looked_at(cursor, query, scope):
        cursor.execute(claims._READ_IN_ORDER)
        values = {"tried": [], "most": MAX_ATTEMPTS, **scope.parameters()}
        asked = cursor.mogrify(query, values).decode()
        cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {asked}")
        todo, rows = [cursor.fetchone()[0][0]["Plan"]], []
        while todo:
            node = todo.pop()
            todo += node.get("Plans", [])
            left_out = node.get("Rows Removed by Filter", 0)
            rows.append(node["Actual Loops"] * (node["Actual Rows"] + left_out))
        return rows


class TestLease:
    @pytest.fixture
    def taken(self, world):
        tile(world[0], 0)
        enqueued(world)
        return claim(world[0])

    def test_expired_is_taken_over_and_the_late_worker_refused(self, world, taken):
        settings = world[0]
        expire(settings)
        successor = claim(settings, worker="other")
        assert successor.scene_id == taken.scene_id
        assert successor.items[0].attempts == 2
        for late in (
            lambda: do(settings, claims.finish, taken, taken.items[0], 1),
            lambda: do(settings, claims.fail, taken, taken.items[0], DAMAGED),
            lambda: do(settings, claims.hold, taken, DAMAGED),
        ):
            with pytest.raises(CbmError) as caught:
                late()
            assert caught.value.code == "lease_lost"
        assert do(settings, claims.release, taken) == 0
        assert do(settings, claims.extend, taken) == 0
        assert sql(settings, "SELECT state, token, worker FROM cbm.work_item") == [
            ("running", successor.token, "other")
        ]
        do(settings, claims.finish, successor, successor.items[0], 1)
        assert states(settings) == {"done": 1}

    def test_a_refused_finish_takes_the_rows_with_it(self, world, taken):
        settings = world[0]
        expire(settings)
        claim(settings)

        def write_and_finish(cursor):
            cursor.execute("INSERT INTO cbm.audit (action) VALUES ('rows')")
            claims.finish(cursor, taken, taken.items[0], 1)

        with pytest.raises(CbmError):
            do(settings, write_and_finish)
        with closing(database.connect(settings, "owner")) as owner, owner.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM cbm.audit WHERE action = 'rows'")
            assert cursor.fetchone() == (0,)

    def test_late_but_not_taken_over_still_counts(self, world, taken):
        settings = world[0]
        expire(settings)
        do(settings, claims.finish, taken, taken.items[0], 7)
        assert sql(settings, "SELECT state, parcel_set_id FROM cbm.work_item") == [("done", 7)]

    def test_parcels_that_came_meanwhile_are_done_next(self, world, taken):
        settings, dataset, _ = world
        add_parcels(settings, dataset, [square(WEST + 300, SOUTH + 100)], layer="b")
        add_parcels(settings, dataset, [square(WEST + 5000, SOUTH + 100)], layer="far")
        item = taken.items[0]
        assert do(settings, claims.finish, taken, item, 1) == "pending"
        again = claim(settings)
        assert (again.items[0].parcel_set_id, again.items[0].attempts) == (1, 1)
        assert do(settings, claims.finish, again, again.items[0], 2) == "done"

    def test_an_item_just_being_finished_is_not_passed_over(self, world, taken):
        settings, dataset, _ = world
        with closing(database.connect(settings)) as worker:
            with worker.cursor() as cursor:
                assert claims.finish(cursor, taken, taken.items[0], 1) == "done"
            add_parcels(settings, dataset, [square(WEST + 300, SOUTH + 100)], layer="b")
            waiting = threading.Thread(
                target=do, args=(settings, claims.await_finishing, dataset), daemon=True
            )
            waiting.start()
            waiting.join(0.3)
            assert waiting.is_alive()
            worker.commit()
        waiting.join(20)
        assert enqueued(world)[1] == 1

    def test_heartbeat_keeps_it(self, world):
        settings, _, _ = world
        tile(settings, 0)
        enqueued(world)
        taken = claim(settings, lease=0.6)
        with Heartbeat(settings, taken) as heartbeat:
            until = "SELECT lease_until FROM cbm.work_item"
            before = sql(settings, until)
            deadline = datetime.now(UTC) + timedelta(seconds=20)
            while sql(settings, until) == before:
                assert datetime.now(UTC) < deadline
            heartbeat.require()
            sql(settings, "UPDATE cbm.work_item SET token = token + 1000")
            with pytest.raises(CbmError) as caught:
                while datetime.now(UTC) < deadline:
                    heartbeat.require()
            assert caught.value.code == "lease_lost"
