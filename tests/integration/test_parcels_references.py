"""What parcels and geometries refer to is there: checked by statement, also against deletions."""

import threading
import time
from contextlib import closing

import psycopg2
import pytest
from psycopg2.errors import ForeignKeyViolation

from tests.factories import add_dataset, add_parcels, sql
from tests.unit.parcels import files

pytestmark = pytest.mark.postgis

GEOMETRY = """INSERT INTO cbm.parcel_geometry
  (dataset_id, parcel_set_id, hash, geom_src, geom, area_m2)
  SELECT %s, %s, 'h', geom_src, geom, 1 FROM cbm.parcel_geometry LIMIT 1"""
PARCEL = """INSERT INTO cbm.parcel (dataset_id, layer, pid, geometry_id, parcel_set_id, valid_from)
  VALUES (%s, 'x', 'p', %s, %s, '2024-01-01')"""
NONE = 999


@pytest.fixture
def two(db):
    """Two datasets with a parcel each: dataset, its set, its geometry."""
    found = []
    for number, aoi in enumerate(("aa", "bb"), 1):
        dataset = add_dataset(db, aoi=aoi)
        geometries = add_parcels(db, dataset, files.squares(1, x=5e5 + number * 1000))
        found.append((dataset, number, geometries[0]))
    return found


@pytest.fixture
def owner(db, pg_server):
    with closing(pg_server.superuser(db.database["dbname"])) as connection:
        yield connection


def test_what_is_named_has_to_be_there(db, two):
    (one, one_set, one_geometry), (_, other_set, other_geometry) = two
    for statement, values in (
        (GEOMETRY, (one, NONE)),
        (GEOMETRY, (NONE, one_set)),
        (GEOMETRY, (one, other_set)),
        (PARCEL, (one, one_geometry, NONE)),
        (PARCEL, (one, one_geometry, other_set)),
        (PARCEL, (NONE, one_geometry, one_set)),
        (PARCEL, (one, NONE, one_set)),
        (PARCEL, (one, other_geometry, one_set)),
        ("UPDATE cbm.parcel SET geometry_id = %s", (NONE,)),
        ("UPDATE cbm.parcel_geometry SET parcel_set_id = %s", (NONE,)),
    ):
        with pytest.raises(ForeignKeyViolation):
            sql(db, statement, *values)
    sql(db, GEOMETRY, one, one_set)
    sql(db, PARCEL, one, one_geometry, one_set)


def test_what_is_referred_to_stays(two, owner):
    with owner.cursor() as cursor:
        for table in ("parcel_geometry", "parcel_set", "dataset"):
            with pytest.raises(ForeignKeyViolation):
                cursor.execute(f"DELETE FROM cbm.{table}")
        for table in ("grid_tile", "parcel", "parcel_geometry", "parcel_set", "dataset"):
            cursor.execute(f"DELETE FROM cbm.{table}")


@pytest.mark.parametrize("first", ["insert", "delete"])
def test_inserting_and_deleting_at_once_leave_no_loose_end(db, two, owner, first):
    (dataset, number, geometry), _ = two
    with owner.cursor() as cursor:
        cursor.execute("DELETE FROM cbm.parcel WHERE dataset_id = %s", (dataset,))
    works = {
        "insert": (PARCEL, (dataset, geometry, number)),
        "delete": ("DELETE FROM cbm.parcel_geometry WHERE id = %s", (geometry,)),
    }
    second = "delete" if first == "insert" else "insert"
    refused = []

    def later():
        with closing(psycopg2.connect(owner.dsn)) as connection, connection.cursor() as cursor:
            try:
                cursor.execute(*works[second])
                connection.commit()
            except ForeignKeyViolation as error:
                refused.append(error)

    owner.autocommit = False
    with owner.cursor() as cursor:
        cursor.execute(*works[first])
        thread = threading.Thread(target=later)
        thread.start()
        deadline = time.monotonic() + 30
        waiting = 0
        while not waiting and time.monotonic() < deadline:
            cursor.execute(
                """SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'"""
            )
            waiting = cursor.fetchone()[0]
            cursor.execute("SELECT pg_stat_clear_snapshot()")
    owner.commit()
    thread.join(30)
    assert waiting == 1
    assert len(refused) == 1
