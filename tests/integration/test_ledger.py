"""The ledger: who gets what, and who may write it."""

import threading
from collections import Counter
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import pytest
import shapely

from cbm_core import db as database
from cbm_core.errors import CbmError
from cbm_core.verbs import Context
from cbm_extract.ledger import claims, enqueue, overview, verbs
from cbm_extract.ledger.enqueue import Wanted
from cbm_extract.ledger.heartbeat import Heartbeat
from cbm_extract.ledger.states import MAX_ATTEMPTS, Scope
from tests.factories import add_dataset, add_parcels, add_product, add_scene, sql, square

pytestmark = pytest.mark.postgis

WEST, SOUTH = 500_000.0, 5_200_000.0
YEAR = (date(2024, 1, 1), date(2024, 12, 31))
DAMAGED = CbmError("raster_damaged", "The file is damaged.")
OFFLINE = CbmError("raster_unreachable", "No network.")


def tile(settings, number, **given):
    """A scene over the 1 km square number 0, 1, ..., observed number days after 1 May."""
    left = WEST + 1000 * given.pop("square", 0)
    day = datetime(2024, 5, 1, 10, tzinfo=UTC) + timedelta(days=number)
    return add_scene(
        settings, {}, reference=f"scene{number}", obstime=given.pop("obstime", day),
        bounds=(left, SOUTH, left + 1000, SOUTH + 1000), **given,
    )  # fmt: skip


@pytest.fixture
def world(db):
    """A dataset with one parcel, product s2, no scenes."""
    dataset = add_dataset(db)
    add_parcels(db, dataset, [square(WEST + 100, SOUTH + 100)])
    return db, dataset, add_product(db)


def enqueued(world, *names):
    settings, dataset, _ = world
    ids = dict(sql(settings, "SELECT name, id FROM cbm.product"))
    wanted = [Wanted(name, "s2", ids[name]) for name in names or ("s2",)]
    with (
        database.session(settings) as connection,
        database.transaction(connection) as cursor,
    ):
        todo = enqueue.plan(cursor, dataset, wanted, *YEAR)
        return todo, enqueue.apply(cursor, todo, ids)


def do(settings, function, *arguments):
    """Run a ledger function in a transaction of its own."""
    with (
        closing(database.connect(settings)) as connection,
        database.transaction(connection) as cursor,
    ):
        return function(cursor, *arguments)


def claim(settings, lease=60.0, scope=None, worker="test"):
    return do(settings, claims.claim, scope or Scope(), worker, lease)


def expire(settings):
    sql(settings, "UPDATE cbm.work_item SET lease_until = now() - interval '1 s'"
                  " WHERE state = 'running'")  # fmt: skip


def states(settings):
    return Counter(row[0] for row in sql(settings, "SELECT state FROM cbm.work_item"))


class TestEnqueue:
    def test_only_active_scenes_of_the_card_and_period_over_parcels(self, world):
        settings, _, _ = world
        wanted = tile(settings, 0)
        tile(settings, 1, square=5)
        tile(settings, 2, card="bs")
        tile(settings, 3, obstime=datetime(2023, 12, 31, 23, 59, 59, tzinfo=UTC))
        tile(settings, 4, obstime=datetime(2025, 1, 1, tzinfo=UTC))
        last = tile(settings, 5, obstime=datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC))
        held = tile(settings, 6)
        sql(settings, "UPDATE cbm.scene SET state = 'held' WHERE id = %s", held)
        _, changed = enqueued(world)
        assert changed == 2
        assert {row[0] for row in sql(settings, "SELECT scene_id FROM cbm.work_item")} == {
            wanted, last,
        }  # fmt: skip

    def test_a_second_time_finds_nothing(self, world):
        tile(world[0], 0)
        enqueued(world)
        todo, changed = enqueued(world)
        assert (todo.lines, changed) == ([], 0)

    def test_new_geometries_reopen_only_done_scenes_over_them(self, world):
        settings, dataset, _ = world
        add_parcels(settings, dataset, [square(WEST + 3100, SOUTH + 100)], layer="b")
        near, far = tile(settings, 0), tile(settings, 1, square=3)
        todo, _ = enqueued(world)
        sql(settings, "UPDATE cbm.work_item SET state = 'done', parcel_set_id = %s",
            todo.parcel_set_id)  # fmt: skip
        add_parcels(settings, dataset, [square(WEST + 3300, SOUTH + 100)], layer="c")
        _, changed = enqueued(world)
        assert changed == 1
        assert sql(settings, "SELECT scene_id, state FROM cbm.work_item ORDER BY 1") == [
            (near, "done"), (far, "pending"),
        ]  # fmt: skip

    def test_retired_geometries_ask_for_nothing(self, world):
        settings, dataset, _ = world
        tile(settings, 0, square=3)
        add_parcels(settings, dataset, [square(WEST + 3100, SOUTH + 100)], layer="b")
        sql(settings, "UPDATE cbm.parcel_geometry SET retired_at = now()"
                      " WHERE parcel_set_id = (SELECT max(id) FROM cbm.parcel_set)")  # fmt: skip
        assert enqueued(world)[1] == 0

    def test_footprint_counts_not_its_bounding_box(self, world):
        settings, _, _ = world
        from tests.factories import transformed

        corner = shapely.Polygon(
            [(WEST + 1000, SOUTH), (WEST + 1000, SOUTH + 1000), (WEST, SOUTH + 1000)]
        )
        add_scene(settings, {}, footprint=transformed(corner, "EPSG:32632"))
        assert enqueued(world)[1] == 0

    def test_without_parcels(self, db):
        dataset = add_dataset(db)
        with pytest.raises(CbmError) as caught:
            do(db, enqueue.plan, dataset, [Wanted("s2", "s2", None)], *YEAR)
        assert caught.value.code == "no_parcels"
        assert "tt:2024" in caught.value.message


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


class TestFailure:
    @pytest.fixture
    def settings(self, world):
        tile(world[0], 0)
        enqueued(world)
        return world[0]

    def test_lasting_causes_fail_at_once_with_the_error_kept(self, settings):
        taken = claim(settings)
        assert do(settings, claims.fail, taken, taken.items[0], DAMAGED) == "failed"
        assert sql(settings, "SELECT state, attempts, error_code, error FROM cbm.work_item") == [
            ("failed", 1, "raster_damaged", "The file is damaged.")
        ]
        assert claim(settings) is None

    def test_passing_causes_are_retried_a_bounded_number_of_times(self, settings):
        seen = []
        while (taken := claim(settings)) is not None:
            seen.append(do(settings, claims.fail, taken, taken.items[0], OFFLINE))
        assert seen == ["pending"] * (MAX_ATTEMPTS - 1) + ["failed"]

    def test_a_scene_that_kills_its_workers_is_given_up(self, settings):
        tries = 0
        while claim(settings) is not None:
            tries += 1
            expire(settings)
        assert tries == MAX_ATTEMPTS
        (failure,) = do(settings, overview.failures, Scope())
        assert failure.code == "worker_lost"

    def test_interrupted_work_is_no_attempt(self, settings):
        for _ in range(MAX_ATTEMPTS + 1):
            assert do(settings, claims.release, claim(settings)) == 1
        assert claim(settings).items[0].attempts == 1

    def test_held_scene_waits_without_failing(self, settings):
        taken = claim(settings)
        do(settings, claims.hold, taken, CbmError("suspect_offset", "Negative."))
        assert sql(settings, "SELECT state, state_reason FROM cbm.scene") == [
            ("held", "suspect_offset")
        ]
        assert claim(settings) is None
        sql(settings, "UPDATE cbm.scene SET state = 'active'")
        assert claim(settings).items[0].attempts == 1


class TestVerbs:
    @pytest.fixture
    def failed(self, world):
        settings = world[0]
        for number in range(3):
            tile(settings, number)
        enqueued(world)
        for error in (DAMAGED, OFFLINE):
            taken = claim(settings)
            do(settings, claims.fail, taken, taken.items[0], error)
        sql(settings, "UPDATE cbm.work_item SET state = 'failed' WHERE attempts = 1")
        return settings

    def call(self, verb, settings, **arguments):
        return verb.run(verb.arguments.model_validate(arguments), Context(settings))

    def test_status_counts_and_names_causes(self, failed):
        answer = self.call(verbs.STATUS, failed)
        (row,) = answer.result["items"]
        assert row == {
            "dataset": "tt:2024", "product": "s2",
            "pending": 1, "running": 0, "done": 0, "failed": 2,
        }  # fmt: skip
        assert [f["code"] for f in answer.result["failed"]] == [
            "raster_damaged", "raster_unreachable",
        ]  # fmt: skip
        assert "scene0" in answer.text
        assert "The file is damaged." in answer.text

    def test_status_shows_open_items_of_held_scenes_apart(self, failed):
        sql(failed, "UPDATE cbm.scene SET state = 'held' WHERE reference = 'scene2'")
        (row,) = self.call(verbs.STATUS, failed, dataset="tt:2024").result["items"]
        assert (row["pending"], row["held"], row["failed"]) == (0, 1, 2)

    def test_retry_checks_filters_and_starts_attempts_again(self, failed):
        checked = self.call(verbs.RETRY, failed, dataset="tt:2024", check=True)
        assert checked.changed
        assert len(checked.plan) == 2
        assert states(failed) == {"failed": 2, "pending": 1}
        answer = self.call(verbs.RETRY, failed, dataset="tt:2024", code="raster_damaged")
        assert answer.result == {"retried": 1}
        assert answer.plan == ["retry s2 of scene0"]
        assert states(failed) == {"failed": 1, "pending": 2}
        assert claim(failed).items[0].attempts == 1
        assert self.call(verbs.RETRY, failed, dataset="tt:2024", scene="scene1").changed
        assert not self.call(verbs.RETRY, failed, dataset="tt:2024").changed

    @pytest.mark.parametrize("verb", [verbs.RETRY, verbs.REDO])
    def test_an_unknown_scene_is_told(self, failed, verb):
        with pytest.raises(CbmError, match="No scene nowhere"):
            self.call(verb, failed, dataset="tt:2024", scene="nowhere")

    def test_retry_of_an_unknown_product(self, failed):
        with pytest.raises(CbmError) as caught:
            self.call(verbs.RETRY, failed, dataset="tt:2024", products=["nix"])
        assert caught.value.code == "product_unknown"
        assert "s2" in caught.value.message
