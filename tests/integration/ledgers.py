"""A dataset with one parcel, and its ledger by hand."""

from collections import Counter
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

from cbm_core import db as database
from cbm_core.errors import CbmError
from cbm_extract.ledger import claims, enqueue
from cbm_extract.ledger.enqueue import Wanted
from cbm_extract.ledger.states import Scope
from tests.factories import add_dataset, add_parcels, add_product, add_scene, sql, square

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
