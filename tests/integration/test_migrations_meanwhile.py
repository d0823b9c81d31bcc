"""Migrations of a database that others write to meanwhile: nobody ends in a deadlock."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cbm_core import db as database
from cbm_core.migrations import runner
from cbm_core.migrations.files import DIRECTORY, statements
from tests.factories import add_dataset, add_parcels, sql, square

pytestmark = pytest.mark.postgis

OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
WAITING = "SELECT pid FROM pg_locks WHERE NOT granted"
TILES = "SELECT z, x, y, mvt::text FROM cbm.grid_tile WHERE dataset_id = %s ORDER BY 1, 2, 3"


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def up_to(settings, last: int, folder: Path) -> None:
    """Apply the migrations of an earlier time."""
    for path in sorted(DIRECTORY.glob("*.sql"))[:last]:
        shutil.copy(path, folder)
    runner.migrate(settings, folder)


@pytest.fixture
def in_use(empty_db, tmp_path, monkeypatch):
    """A database of the last release."""
    monkeypatch.setattr(runner, "_PAUSE_SECONDS", 0.1)
    up_to(empty_db, 5, tmp_path)
    return empty_db


def items_then_scenes(settings, writer) -> None:
    """Migrate while a writer who holds what the migration waits for wants what it has."""
    with ThreadPoolExecutor(1) as other, writer.cursor() as cursor:
        cursor.execute("SELECT FROM cbm.work_item FOR UPDATE")
        migrated = other.submit(runner.migrate, settings)
        until(lambda: sql(settings, WAITING))
        cursor.execute("SELECT FROM cbm.scene")
        writer.commit()
        migrated.result(120)
    assert runner.plan(settings).pending == ()


def test_a_migration_gives_way_before_there_is_a_deadlock(in_use):
    with closing(database.connect(in_use)) as writer:
        items_then_scenes(in_use, writer)
    until(lambda: not sql(in_use, f"SELECT {OTHERS}"))
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert sql(in_use, deadlocks) == [(0,)]


def test_a_migration_that_ends_in_a_deadlock_is_tried_again(pg_server, in_use, monkeypatch):
    monkeypatch.setattr(runner, "_LOCK_TIMEOUT", "20s")
    with closing(pg_server.superuser(in_use.database["dbname"])) as writer:
        writer.autocommit = False
        with writer.cursor() as cursor:
            # The migration's session is the one that looks for deadlocks.
            cursor.execute("SET deadlock_timeout = '1min'")
        items_then_scenes(in_use, writer)


def test_indexes_that_end_in_a_deadlock_are_begun_anew(pg_server, empty_db, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_PAUSE_SECONDS", 0.1)
    (tmp_path / "0001_one.sql").write_text("-- cbm: expand\nCREATE TABLE cbm.one (a int);\n")
    runner.migrate(empty_db, tmp_path)
    (tmp_path / "0002_two.sql").write_text(
        "-- cbm: expand no-transaction\nDROP INDEX CONCURRENTLY IF EXISTS cbm.a;\n"
        "CREATE INDEX CONCURRENTLY a ON cbm.one (a);\n"
    )
    with (
        ThreadPoolExecutor(1) as other,
        closing(pg_server.superuser(empty_db.database["dbname"])) as writer,
        writer.cursor() as cursor,
    ):
        writer.autocommit = False
        cursor.execute("SET deadlock_timeout = '1min'; INSERT INTO cbm.one VALUES (1)")
        migrated = other.submit(runner.migrate, empty_db, tmp_path)
        until(lambda: sql(empty_db, WAITING))
        cursor.execute("LOCK cbm.one IN SHARE ROW EXCLUSIVE MODE")
        writer.commit()
        migrated.result(120)
    assert sql(
        empty_db, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'cbm.a'::regclass"
    ) == [(True,)]


@pytest.mark.parametrize("table", ["dataset", "scene", "work_item", "run"])
def test_the_ledger_is_had_whole_before_anything_is_made(in_use, table):
    """Who waits for a table while an index is made would count as in a deadlock after 1 s."""
    made = "SELECT * FROM pg_locks WHERE relation > (SELECT max(oid::bigint) FROM pg_class)"
    with ThreadPoolExecutor(1) as other, closing(database.connect(in_use)) as writer:
        with writer.cursor() as cursor:
            cursor.execute(f"LOCK cbm.{table} IN ROW EXCLUSIVE MODE")
            migrated = other.submit(runner.migrate, in_use)
            until(lambda: sql(in_use, WAITING))
            assert sql(in_use, made) == []
            writer.commit()
        migrated.result(120)


@pytest.fixture
def imported(empty_db, tmp_path):
    """Two datasets, imported, whose maps are still to be made by the last migration."""
    up_to(empty_db, 11, tmp_path)
    both = add_dataset(empty_db), add_dataset(empty_db, "uu")
    for dataset in both:
        add_parcels(empty_db, dataset, [square(600_000, 5_300_000)])
    sql(owner_of(empty_db), "DELETE FROM cbm.grid_tile")
    return both


def owner_of(settings):
    return replace(settings, database=settings.connection("owner"))


def make_maps(settings) -> None:
    """Run the last statement of the last migration, as the runner does."""
    (last,) = DIRECTORY.glob("0012_*.sql")
    with closing(database.connect(settings, "owner")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statements(last.read_text())[-1])


def change(cursor, dataset: int) -> None:
    """Change a dataset's crops, as an import does."""
    cursor.execute("UPDATE cbm.parcel SET crop_code = '7' WHERE dataset_id = %s", (dataset,))
    cursor.execute(
        """INSERT INTO cbm.parcel_set (dataset_id, layer, source, checksum, options, crs_id,
             report, parcels, added, changed, removed, software_version)
           SELECT dataset_id, layer, source, 'd', options, crs_id, report, parcels, 0, 1, 0, '0'
           FROM cbm.parcel_set WHERE dataset_id = %s""",
        (dataset,),
    )


def require_maps(settings, datasets) -> None:
    """See that there are the maps that are made when nobody else is there."""
    for dataset in datasets:
        found = sql(settings, TILES, dataset)
        assert len(found) == 12
        sql(owner_of(settings), "SELECT cbm.fill_grid_tiles(%s::smallint, '')", dataset)
        assert found == sql(settings, TILES, dataset)


def test_maps_are_made_while_an_import_commits(empty_db, imported):
    """The import has made its map; until it commits, the maps of other datasets are nobody's."""
    first, second = imported
    with ThreadPoolExecutor(1) as other, closing(database.connect(empty_db)) as importer:
        with importer.cursor() as cursor:
            change(cursor, second)
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            made = other.submit(make_maps, empty_db)
            until(lambda: sql(empty_db, WAITING))
            assert len(sql(empty_db, TILES, first)) == 12
            with closing(database.connect(empty_db)) as more, more, more.cursor() as another:
                another.execute("SET lock_timeout = '10s'")
                change(another, first)
            importer.commit()
        made.result(120)
    require_maps(empty_db, imported)


def test_an_import_commits_while_maps_are_made(empty_db, imported):
    _, second = imported
    with (
        ThreadPoolExecutor(1) as other,
        closing(database.connect(empty_db, "owner")) as maker,
        closing(database.connect(empty_db)) as importer,
    ):
        with maker.cursor() as cursor, importer.cursor() as another:
            cursor.execute("SELECT cbm.fill_grid_tiles(%s::smallint, '')", (second,))
            change(another, second)
            committed = other.submit(importer.commit)
            until(lambda: sql(empty_db, WAITING))
            maker.commit()
        committed.result(120)
        make_maps(empty_db)
    require_maps(empty_db, imported)


def test_maps_are_not_made_of_what_is_being_purged(empty_db, imported):
    """Who makes maps waits for a purge before it has anything that the purge wants."""
    make_maps(empty_db)
    with ThreadPoolExecutor(1) as other, closing(database.connect(empty_db)) as purger:
        with purger.cursor() as cursor:
            cursor.execute("SELECT FROM cbm.dataset WHERE id = %s FOR UPDATE", imported[:1])
            made = other.submit(make_maps, empty_db)
            until(lambda: sql(empty_db, WAITING))
            cursor.execute("SELECT cbm.purge_dataset(%s::smallint)", imported[:1])
            purger.commit()
        made.result(120)
    assert sql(empty_db, TILES, imported[0]) == []
    require_maps(empty_db, imported[1:])
