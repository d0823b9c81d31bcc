"""Months put in parcel order while others read and write them."""

import threading
import time
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import pytest

from cbm_core import db as database
from cbm_core.errors import CbmError
from tests.factories import sql
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


def test_a_reader_of_another_month_is_not_in_the_way(db, month):
    with reading(db, datetime(2024, 6, 1, tzinfo=UTC)):
        assert compact(db, month)
    assert disorder(db, month) == 0


def test_behind_a_reader_of_the_month_nobody_waits(db, month):
    before = heap_order(db, month)
    with reading(db, MAY):
        result = []
        thread = threading.Thread(target=lambda: result.append(compact(db, month)))
        thread.start()
        waits = []
        while thread.is_alive():
            start = time.monotonic()
            assert content(db)[0][1] == COUNT
            waits.append(time.monotonic() - start)
        thread.join()
        assert result == [False]
    assert max(waits) < 2
    assert heap_order(db, month) == before
    assert sql(db, "SELECT count(*) FROM pg_class WHERE relname ~ 'new'") == [(0,)]
    assert compact(db, month)


def test_two_at_once_do_it_once(db, month):
    with closing(database.connect(db)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT cbm.compact_signature_partition(%s::smallint, '2024-05-01')", (month,)
        )
        assert not compact(db, month)
        assert compact(db, month, date(2024, 6, 1))
        connection.commit()
    assert disorder(db, month) == 0


def test_rows_written_meanwhile_are_kept(db, month):
    """Writers and readers go on all the time; nothing is lost, doubled or refused."""
    stop = threading.Event()
    failures = []
    written = []

    def writer(first):
        try:
            for number in range(first, first + 1000):
                if stop.is_set():
                    return
                rows = one_scene(month, number, MAY + timedelta(minutes=number), count=50)
                write(db, rows)
                written.append(number)
        except Exception as error:
            failures.append(error)

    def reader():
        try:
            while not stop.is_set():
                counts = dict(sql(db, "SELECT scene_id, count(*) FROM cbm.signature GROUP BY 1"))
                assert [counts[scene] for scene in (1, 2, 3, 9)] == [COUNT] * 4
                assert all(n in (50, COUNT) for n in counts.values())
                time.sleep(0.05)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=writer, args=(first,)) for first in (1000, 5000)]
    threads.append(threading.Thread(target=reader))
    for thread in threads:
        thread.start()
    done = [compact(db, month) for _ in range(6)]
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert any(done)
    assert {scene: n for scene, n, _ in content(db)} == {
        **dict.fromkeys([1, 2, 3, 9], COUNT),
        **dict.fromkeys(written, 50),
    }


def pausing(settings, pause="pg_sleep(2)"):
    """Make the compaction pause after it has copied the rows (test only: the owner's function)."""
    with database.session(settings, "owner") as connection, connection.cursor() as cursor:
        cursor.execute(
            """SELECT pg_get_functiondef(oid) FROM pg_proc
               WHERE proname = 'compact_signature_partition'"""
        )
        text = cursor.fetchone()[0]
        mark = "  PERFORM cbm.lock_soon(leaf, 'SHARE ROW EXCLUSIVE', 30);"
        assert mark in text
        cursor.execute("SET ROLE cbm_owner")
        cursor.execute(text.replace(mark, f"  PERFORM {pause};\n{mark}"))
        connection.commit()


def compacting(settings, dataset):
    result = []
    thread = threading.Thread(target=lambda: result.append(compact(settings, dataset)))
    thread.start()
    deadline = time.monotonic() + 10
    while not sql(settings, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return thread, result


def test_a_scene_that_comes_after_the_copy_is_added(db, month):
    pausing(db)
    thread, result = compacting(db, month)
    write(db, one_scene(month, 77, MAY))
    thread.join()
    assert result == [True]
    assert [row[:2] for row in content(db)] == [(number, COUNT) for number in (1, 2, 3, 9, 77)]


@pytest.mark.parametrize("again", [True, False])
def test_a_slice_replaced_after_the_copy_is_not_undone(db, month, again):
    pausing(db)
    thread, result = compacting(db, month)
    with database.session(db, "owner") as connection, database.transaction(connection) as cursor:
        cursor.execute("SET LOCAL ROLE cbm_owner")
        cursor.execute("DELETE FROM cbm.signature WHERE scene_id = 2")
        if again:
            cursor.execute(
                "INSERT INTO cbm.signature SELECT obstime, geometry_id, 2, 5, 0, dataset_id,"
                " product_id, tile_rank, NULL, NULL FROM cbm.signature WHERE scene_id = 1"
            )
    expected = content(db)
    thread.join()
    assert result == [False]
    assert content(db) == expected
    assert compact(db, month)
    assert content(db) == expected


def test_killed_in_the_middle_nothing_is_left_behind(db, month, pg_server):
    pausing(db)
    before = content(db)
    failures = []

    def killed():
        try:
            compact(db, month)
        except CbmError as error:
            failures.append(error.code)

    thread = threading.Thread(target=killed)
    thread.start()
    pid = None
    while not pid:
        pid = sql(db, "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
    with closing(pg_server.superuser(db.database["dbname"])) as connection:
        connection.cursor().execute("SELECT pg_terminate_backend(%s)", pid[0])
    thread.join()
    assert failures == ["database_lost"]
    assert content(db) == before
    assert sql(db, "SELECT count(*) FROM pg_class WHERE relname ~ '_new'") == [(0,)]
    assert compact(db, month)
