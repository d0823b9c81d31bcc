"""The migration runner on a real server."""

import shutil
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from cbm_core import db as database
from cbm_core.errors import CbmError
from cbm_core.migrations import runner
from cbm_core.migrations.files import DIRECTORY, read_all
from tests import postgis
from tests.factories import add_dataset, add_parcels, sql, square

pytestmark = pytest.mark.postgis


def dump(server: postgis.Server, dbname: str) -> str:
    """Schema and migration list as pg_dump writes them, without what differs by time."""
    parameters = server.parameters(dbname, postgis.SUPERUSER)
    text = subprocess.run(
        [str(server.bindir / "pg_dump"), "-h", parameters["host"], "-p", parameters["port"], "-U",
         parameters["user"], "--schema=cbm", "--schema-only", dbname],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return "\n".join(line for line in text.splitlines() if not line.startswith(("--", "\\")))


def count_tables(settings) -> int:
    with closing(psycopg2.connect(**settings.connection("owner"))) as c, c.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'cbm'")
        return cursor.fetchone()[0]


def test_migrate_then_nothing_to_do(empty_db):
    assert [m.name for m in runner.migrate(empty_db).pending] == [m.name for m in read_all()]
    assert runner.migrate(empty_db).pending == ()


def test_plan_changes_nothing(empty_db):
    assert len(runner.plan(empty_db).pending) == len(read_all())
    assert count_tables(empty_db) == 0


def test_step_by_step_equals_fresh(pg_server, empty_db, migrated_template, tmp_path):
    for path in sorted(DIRECTORY.glob("*.sql")):
        shutil.copy(path, tmp_path)
        assert len(runner.migrate(empty_db, tmp_path).pending) == 1
    assert dump(pg_server, empty_db.database["dbname"]) == dump(pg_server, migrated_template)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Three small migrations of an imagined product."""
    (tmp_path / "0001_one.sql").write_text("-- cbm: expand\nCREATE TABLE cbm.one (a int);\n")
    (tmp_path / "0002_two.sql").write_text("-- cbm: expand\nCREATE TABLE cbm.two (a int);\n")
    (tmp_path / "0003_three.sql").write_text("-- cbm: contract\nDROP TABLE cbm.one;\n")
    return tmp_path


def refused(settings, files: Path) -> CbmError:
    with pytest.raises(CbmError) as caught:
        runner.migrate(settings, files)
    return caught.value


def test_changed_migration_is_refused_by_name(empty_db, files):
    runner.migrate(empty_db, files)
    (files / "0002_two.sql").write_text("-- cbm: expand\nSELECT 1;\n")
    error = refused(empty_db, files)
    assert (error.code, "0002_two" in error.message) == ("migration_changed", True)


def test_renamed_migration_is_refused_by_name(empty_db, files):
    runner.migrate(empty_db, files)
    (files / "0002_two.sql").rename(files / "0002_zwei.sql")
    error = refused(empty_db, files)
    assert (error.code, "0002_two" in error.message) == ("migration_missing", True)


def test_gap_in_the_files_is_refused(empty_db, files):
    (files / "0002_two.sql").unlink()
    assert refused(empty_db, files).code == "migration_invalid"


def test_newer_expand_is_accepted_and_newer_contract_refused(empty_db, files):
    (files / "0004_four.sql").write_text("-- cbm: expand\nCREATE TABLE cbm.four (a int);\n")
    runner.migrate(empty_db, files)
    (files / "0004_four.sql").unlink()
    assert [row.name for row in runner.plan(empty_db, files).newer] == ["0004_four"]
    (files / "0003_three.sql").unlink()
    error = refused(empty_db, files)
    assert (error.code, "0003_three" in error.message) == ("schema_too_new", True)


def test_failing_migration_leaves_nothing_behind(empty_db, files):
    (files / "0003_three.sql").write_text("-- cbm: expand\nSELECT 1/0;\n")
    error = refused(empty_db, files)
    assert (error.code, "0003_three" in error.message) == ("migration_failed", True)
    assert count_tables(empty_db) == 0


def test_no_transaction_migration_runs_between_transactions(empty_db, files):
    (files / "0002_two.sql").write_text(
        "-- cbm: expand no-transaction\nCREATE INDEX CONCURRENTLY one_a ON cbm.one (a);\n"
    )
    assert len(runner.migrate(empty_db, files).pending) == 3
    assert runner.migrate(empty_db, files).pending == ()


def test_statements_outside_a_transaction_run_one_by_one(empty_db, files):
    (files / "0002_two.sql").write_text(
        "-- cbm: expand no-transaction\n-- Two; of a table.\n"
        "DROP INDEX CONCURRENTLY IF EXISTS cbm.a;\n"
        "CREATE INDEX CONCURRENTLY a ON cbm.one (a);\nCREATE INDEX CONCURRENTLY b ON cbm.one (a);\n"
        "SELECT 1/0;\n"
    )
    (files / "0003_three.sql").unlink()
    error = refused(empty_db, files)
    assert (error.code, "0002_two" in error.message) == ("migration_failed", True)
    text = (files / "0002_two.sql").read_text().replace("SELECT 1/0;", "")
    # What was left of the first time is in nobody's way, if the file says so.
    (files / "0002_two.sql").write_text(text.replace("b ON", "IF NOT EXISTS b ON"))
    assert [m.name for m in runner.migrate(empty_db, files).pending] == ["0002_two"]
    assert runner.migrate(empty_db, files).pending == ()


def writing(settings, timeout: str = "1s") -> None:
    """Write a row of each kind that is written all day, waiting for no lock for long."""
    with closing(psycopg2.connect(**settings.connection("owner"))) as c, c, c.cursor() as cursor:
        cursor.execute("SET lock_timeout = %s; SET search_path = cbm, public", (timeout,))
        cursor.execute("INSERT INTO cbm.audit (who, action, detail) VALUES ('x', 'y', '{}')")
        cursor.execute(
            "UPDATE cbm.parcel SET pid = pid; UPDATE cbm.parcel_geometry SET hash = hash"
        )


def released(folder: Path) -> Path:
    """The migrations that installations have."""
    for path in sorted(DIRECTORY.glob("000[1-5]_*.sql")):
        shutil.copy(path, folder)
    return folder


def test_a_migration_beside_a_long_writer_keeps_nobody_waiting(empty_db, tmp_path):
    """From the last release, with parcels: a writer stays; others write on; then it is done."""
    runner.migrate(empty_db, released(tmp_path))
    add_parcels(
        empty_db, add_dataset(empty_db), [square(600_000 + 200 * n, 5_300_000) for n in range(50)]
    )
    done = []
    runs = threading.Thread(target=lambda: done.append(runner.migrate(empty_db)))
    with closing(psycopg2.connect(**empty_db.connection("owner"))) as long, long.cursor() as cursor:
        cursor.execute("SET search_path = cbm, public")
        cursor.execute("UPDATE cbm.parcel SET pid = pid WHERE pid = 'p0'")
        runs.start()
        for _ in range(5):
            # A lock that is waited for stands in the way of those who come later, but not for long.
            with (
                closing(psycopg2.connect(**empty_db.connection("owner"))) as c,
                c.cursor() as other,
            ):
                other.execute("SET lock_timeout = '3s'; SET search_path = cbm, public")
                other.execute("UPDATE cbm.parcel SET pid = pid WHERE pid = 'p1'")
                c.commit()
            time.sleep(0.5)
        assert runs.is_alive()
        long.commit()
    runs.join(120)
    assert len(done) == 1
    assert runner.plan(empty_db).pending == ()


def test_indexes_are_made_beside_a_long_writer(empty_db, tmp_path):
    """The last step waits for who writes, and nobody waits for it."""
    for path in sorted(DIRECTORY.glob("*.sql"))[:-1]:
        shutil.copy(path, tmp_path)
    runner.migrate(empty_db, tmp_path)
    add_parcels(empty_db, add_dataset(empty_db), [square(600_000, 5_300_000)])
    runs = threading.Thread(target=runner.migrate, args=(empty_db,))
    with closing(psycopg2.connect(**empty_db.connection("owner"))) as long, long.cursor() as cursor:
        cursor.execute("INSERT INTO cbm.audit (who, action, detail) VALUES ('x', 'y', '{}')")
        runs.start()
        waiting = "SELECT pid FROM pg_locks WHERE NOT granted"
        while not sql(empty_db, waiting):
            assert runs.is_alive()
        for _ in range(3):
            writing(empty_db)
        assert runs.is_alive()
        long.commit()
    runs.join(120)
    valid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
    assert sql(empty_db, valid) == [(0,)]
    assert runner.plan(empty_db).pending == ()


def test_a_table_that_is_always_in_use_is_said(empty_db, files, monkeypatch):
    monkeypatch.setattr(runner, "_ATTEMPTS", 2)
    monkeypatch.setattr(runner, "_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(runner, "_LOCK_TIMEOUT", "100ms")
    (files / "0003_three.sql").unlink()
    runner.migrate(empty_db, files)
    (files / "0003_three.sql").write_text("-- cbm: contract\nDROP TABLE cbm.one;\n")
    with closing(psycopg2.connect(**empty_db.connection("owner"))) as long, long.cursor() as cursor:
        cursor.execute("SELECT FROM cbm.one")
        assert refused(empty_db, files).code == "migration_blocked"
    assert len(runner.migrate(empty_db, files).pending) == 1


def two_at_once(settings, files) -> list[int]:
    """How many migrations each of two runners applied, the fewer first."""
    plans = []
    threads = [
        threading.Thread(target=lambda: plans.append(runner.migrate(settings, files)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(len(plan.pending) for plan in plans)


def test_two_runners_with_indexes_do_not_wait_for_each_other(empty_db, files):
    """A runner that waited in a transaction would be waited for by CREATE INDEX CONCURRENTLY."""
    (files / "0002_two.sql").write_text(
        "-- cbm: expand no-transaction\nSELECT pg_sleep(0.5);\n"
        "CREATE INDEX CONCURRENTLY one_a ON cbm.one (a);\n"
    )
    assert two_at_once(empty_db, files) == [0, 3]


def test_two_runners_at_once_apply_each_migration_once(empty_db, files):
    (files / "0001_one.sql").write_text(
        "-- cbm: expand\nCREATE TABLE cbm.one (a int);\nSELECT pg_sleep(0.5);\n"
    )
    assert two_at_once(empty_db, files) == [0, 3]


def test_database_without_bootstrap_says_what_is_missing(pg_server):
    name = postgis.new_database(pg_server, "template1")
    with pytest.raises(CbmError) as caught:
        runner.plan(pg_server.settings(name))
    postgis.drop_database(pg_server, name)
    assert caught.value.code == "bootstrap_missing"
    assert "extension postgis" in caught.value.message


def test_a_login_without_the_owner_role_is_refused(empty_db):
    from dataclasses import replace

    settings = replace(empty_db, owner={})
    assert refused(settings, DIRECTORY).code == "no_permission"


def test_outdated_schema_is_named(empty_db):
    with (
        database.session(empty_db) as connection,
        database.transaction(connection) as cursor,
        pytest.raises(CbmError, match="0001_"),
    ):
        runner.require_current(cursor)
