"""Months put in parcel order, by a login without special rights, and when that is due."""

import threading
import time
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta

import psycopg2
import pytest

from cbm_core import db as database
from cbm_core.database import partitions
from cbm_core.migrations import runner
from cbm_core.migrations.files import DIRECTORY
from cbm_core.verbs import Context
from tests.factories import add_dataset, add_product, add_scene, sql
from tests.integration import months
from tests.integration.months import (
    COUNT,
    MAY,
    compact,
    content,
    disorder,
    heap_order,
    one_scene,
    reading,
    write,
)

pytestmark = pytest.mark.postgis


@pytest.fixture
def month(db):
    return months.month(db)


def test_two_workers_make_a_month_at_once(db):
    """The second waits for the first, and takes the table it finds then."""
    dataset = add_dataset(db)
    ask = "SELECT cbm.ensure_signature_partition(%s::smallint, %s::date)"
    made = []

    def second(cursor) -> None:
        cursor.execute(ask, (dataset, "2024-05-01"))
        made.extend(cursor.fetchall())

    with (
        closing(database.connect(db)) as one,
        closing(database.connect(db)) as two,
        one.cursor() as first,
        two.cursor() as other,
    ):
        # A session that knows the dataset's table has no cause to look into the catalogue again.
        other.execute(ask, (dataset, "2024-04-01"))
        two.commit()
        other.execute("SELECT to_regclass(%s)", (f"cbm.signature_d{dataset}",))
        two.commit()
        first.execute(ask, (dataset, "2024-05-01"))
        thread = threading.Thread(target=second, args=(other,))
        thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        end = time.monotonic() + 30
        while not sql(db, waiting)[0][0]:
            assert time.monotonic() < end
            time.sleep(0.01)
        one.commit()
        thread.join()
    assert made == [(f"signature_d{dataset}_202405",)]


@contextmanager
def autovacuum_at(db, pg_server, dataset):
    """The server's own vacuum at work on a month, for long."""
    leaf = f"cbm.signature_d{dataset}_202405"
    slow = "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1"
    often = "autovacuum_vacuum_insert_threshold = 1, autovacuum_vacuum_insert_scale_factor = 0"
    with closing(pg_server.superuser(db.database["dbname"])) as server, server.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {leaf} SET ({slow}, {often})")
        cursor.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        cursor.execute("SELECT pg_reload_conf()")
        try:
            end = time.monotonic() + 40
            at_work = "SELECT FROM pg_stat_progress_vacuum WHERE relid = %s::regclass"
            while cursor.execute(at_work, (leaf,)) or not cursor.rowcount:
                assert time.monotonic() < end
                time.sleep(0.05)
            yield
        finally:
            cursor.execute("ALTER SYSTEM RESET autovacuum_naptime")
            cursor.execute("SELECT pg_reload_conf()")


def test_autovacuum_steps_aside(db, month, pg_server):
    before = content(db)
    with autovacuum_at(db, pg_server, month):
        assert compact(db, month)
    assert content(db) == before


def test_a_month_is_put_in_parcel_order_and_stays_the_same(db, month):
    before = content(db)
    assert disorder(db, month) == pytest.approx(2 / 3, abs=0.05)
    assert compact(db, month)
    assert content(db) == before
    order = heap_order(db, month)
    assert order == sorted(order)
    assert disorder(db, month) == 0
    ((rows,),) = sql(db, "SELECT rows FROM cbm.signature_partition_state")
    assert rows == 3 * COUNT
    # Again, and rows still come in.
    write(db, one_scene(month, 4, MAY + timedelta(days=20)))
    assert 0.2 < disorder(db, month) < 0.3
    assert compact(db, month)
    assert disorder(db, month) == 0
    with pytest.raises(psycopg2.errors.UniqueViolation):
        write(db, one_scene(month, 4, MAY + timedelta(days=20)))


def test_the_exchanged_leaf_is_like_one_just_made(db, month):
    describe = """SELECT c.relacl::text, c.relowner::regrole::text, c.relispartition,
        pg_get_expr(c.relpartbound, c.oid),
        (SELECT array_agg((attname, atttypid, attnotnull, attstattarget)::text ORDER BY attnum)
         FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0),
        (SELECT array_agg((conname, pg_get_constraintdef(oid))::text ORDER BY conname)
         FROM pg_constraint WHERE conrelid = c.oid),
        (SELECT array_agg(pg_get_indexdef(indexrelid)) FROM pg_index WHERE indrelid = c.oid)
        FROM pg_class c WHERE relname = %s"""
    leaf = f"signature_d{month}_202405"
    before = sql(db, describe, leaf)
    assert compact(db, month)
    assert sql(db, describe, leaf) == before


def test_a_filled_leaf_is_attached_without_being_read(db, month):
    with closing(database.connect(db)) as connection, connection.cursor() as cursor:
        cursor.execute("SET client_min_messages = debug1")
        cursor.execute(
            "SELECT cbm.compact_signature_partition(%s::smallint, '2024-05-01')", (month,)
        )
        told = "".join(connection.notices)
    assert f'"signature_d{month}_202405" is implied by existing constraints' in told


def test_only_extraction_may_compact(db, month, pg_server):
    from dataclasses import replace

    analyst = replace(db, database={**db.database, "user": "cbm_analyst"})
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        compact_raw = "SELECT cbm.compact_signature_partition(%s::smallint, '2024-05-01')"
        sql(analyst, compact_raw, month)


def evidence(settings, dataset, scene, finished):
    sql(
        settings,
        """INSERT INTO cbm.run (scene_id, dataset_id, product_id, scope, parcel_set_from,
             parcel_set_to, token, worker, software_version, product_hash, plans, assets, rows,
             digest, started_at, finished_at)
           VALUES (%s, %s, 1, 'full', 0, 1, 1, 'w', '0', '', '[]', '{}', %s, '', %s, %s)""",
        scene, dataset, COUNT, finished, finished,
    )  # fmt: skip


def due(settings, now):
    with database.session(settings) as connection, database.transaction(connection) as cursor:
        return [(one.month.month, one.reason) for one in partitions.plan(cursor, None, now)]


@pytest.mark.parametrize("day", ["2024-05-01 BC", "12024-05-01", "infinity"])
def test_a_month_that_no_image_is_of_gets_no_partition(db, month, day):
    with pytest.raises(psycopg2.DataError):
        sql(db, "SELECT cbm.ensure_signature_partition(%s::smallint, %s::date)", month, day)


def test_functions_with_the_owners_rights_are_not_everybodys(db):
    """Their search path is fixed, and nobody may call them who was not told to."""
    assert not sql(
        db,
        """SELECT p.proname FROM pg_proc p
           WHERE p.pronamespace = 'cbm'::regnamespace AND p.prosecdef
             AND (has_function_privilege('public', p.oid, 'EXECUTE') OR NOT EXISTS (
                SELECT FROM unnest(p.proconfig) c
                WHERE c LIKE 'search_path=pg_catalog, cbm, %%'))""",
    )


def test_due_after_quiet_days_or_by_disorder_and_not_again(db):
    dataset, now = add_dataset(db), datetime(2024, 8, 1, tzinfo=UTC)
    add_product(db)
    scenes = [
        add_scene(db, {}, reference=f"s{number}", obstime=MAY + timedelta(days=number))
        for number in range(8)
    ]
    for scene in scenes[:7]:
        write(db, one_scene(dataset, scene, MAY))
        evidence(db, dataset, scene, now - timedelta(days=20))
    ((found, reason),) = due(db, now)
    assert (found, reason[2:]) == (date(2024, 5, 1), "% out of order")
    assert int(reason[:2]) == pytest.approx(100 * 6 / 7, abs=6)
    assert compact(db, dataset)
    assert due(db, now) == []
    # A late scene is a seventh of the month: only once it is quiet.
    write(db, one_scene(dataset, scenes[7], MAY))
    late = datetime.now(UTC) + timedelta(seconds=1)
    evidence(db, dataset, scenes[7], late)
    assert due(db, late + timedelta(days=29)) == []
    assert due(db, late + timedelta(days=30)) == [(date(2024, 5, 1), "quiet for 30 days")]


def test_the_verb_says_what_it_did(db, month):
    from cbm_core.database.verbs import COMPACT

    def run(**arguments):
        return COMPACT.run(COMPACT.arguments.model_validate(arguments), Context(db))

    planned = run(check=True)
    (line,) = planned.plan
    assert line.startswith("put tt:2024 2024-05 in parcel order: 6")
    assert disorder(db, month) > 0.5
    with reading(db, MAY):
        busy = run(dataset="tt:2024")
    assert (busy.changed, busy.result["busy"]) == (False, ["tt:2024 2024-05"])
    assert "busy: later" in busy.text
    done = run(dataset="tt:2024")
    assert (done.changed, done.plan) == (True, planned.plan)
    again = run()
    assert (again.changed, again.text) == (False, "Nothing is due.")


def test_months_of_the_release_before_are_taken_over(empty_db, tmp_path):
    import shutil

    for path in sorted(DIRECTORY.glob("*.sql"))[:6]:
        shutil.copy(path, tmp_path)
    runner.migrate(empty_db, tmp_path)
    dataset = add_dataset(empty_db)
    for number in range(3):
        write(empty_db, one_scene(dataset, number + 1))
    before = content(empty_db)
    runner.migrate(empty_db)
    assert content(empty_db) == before
    assert compact(empty_db, dataset)
    write(empty_db, one_scene(dataset, 4))
    assert content(empty_db)[:3] == before


class TestTidying:
    """What the dispatcher does while nothing is open."""

    @pytest.fixture
    def tidying(self, db, month):
        from cbm_extract.engine.cluster.tidying import Tidying

        made = Tidying(db, None)
        yield made
        made.end()

    def ended(self, tidying):
        deadline = time.monotonic() + 20
        while tidying.running:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def test_once_a_day_what_is_due(self, db, month, tidying, capfd):
        tidying.idle()
        self.ended(tidying)
        assert disorder(db, month) == 0
        assert "tt:2024 2024-05 put in parcel order" in capfd.readouterr().err
        write(db, one_scene(month, 4))
        tidying.idle()
        assert not tidying.running

    def test_new_work_is_not_in_the_way_of_the_month_in_hand(self, db, month, tidying):
        write(db, one_scene(month, 10, datetime(2024, 6, 2, tzinfo=UTC)))
        with reading(db, MAY) as reader:
            tidying.idle()
            time.sleep(0.3)
            tidying.work()
            reader.connection.rollback()
        self.ended(tidying)
        assert (disorder(db, month) == 0, disorder(db, month, "2024-06-01") > 0) == (True, True)

    def test_told_to_end_it_leaves_nothing_behind(self, db, month, tidying, capfd):
        before = content(db)
        with reading(db, MAY):
            tidying.idle()
            time.sleep(0.3)
            tidying.end()
            assert not tidying.running
        assert content(db) == before
        assert sql(db, "SELECT count(*) FROM pg_tables WHERE tablename LIKE '%\\_new'") == [(0,)]
        assert "Traceback" not in capfd.readouterr().err
