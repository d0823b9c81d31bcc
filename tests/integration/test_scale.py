"""What is looked at for a scene does not grow with the parcels of a country."""

from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta

import pytest

from cbm_core import db as database
from cbm_extract.ledger import enqueue
from cbm_extract.ledger.enqueue import Wanted
from cbm_extract.store import plans, tiles
from tests import postgis
from tests.factories import add_dataset, add_parcels, add_product, add_scene, sql, square

pytestmark = pytest.mark.postgis

SIDE = 20_000.0
WEST, SOUTH = 500_000.0, 5_300_000.0
BOUNDS = (WEST, SOUTH, WEST + SIDE, SOUTH + SIDE)
PARCELS, SCENES = 4_000, 20


@pytest.fixture(scope="module")
def filled(pg_server, migrated_template):
    """Many parcels under the same tile on several dates, all done; template, dataset, product."""
    template = postgis.new_database(pg_server, migrated_template)
    db = pg_server.settings(template)
    dataset, product = add_dataset(db), add_product(db)
    step = SIDE / 64
    add_parcels(
        db,
        dataset,
        [square(WEST + step * (n % 64), SOUTH + step * (n // 64), 100) for n in range(PARCELS)],
    )
    first = datetime(2024, 5, 1, 10, tzinfo=UTC)
    for number in range(SCENES):
        add_scene(
            db, {}, reference=f"s{number}", bounds=BOUNDS, obstime=first + timedelta(days=number)
        )
    with looking(db) as (cursor, _):
        todo = planned(cursor, dataset, product)
        enqueue.apply(cursor, todo, {"s2": product})
    done = "UPDATE cbm.work_item SET state = 'done', parcel_set_id = %s"
    sql(db, done, todo.parcel_set_id)
    analyze(db)
    return template, dataset, product


@pytest.fixture
def country(pg_server, filled):
    """A copy: settings, dataset, product."""
    template, dataset, product = filled
    with postgis.copied(pg_server, template) as settings:
        yield settings, dataset, product


def analyze(settings):
    with closing(database.connect(settings, "owner")) as connection, connection.cursor() as cursor:
        cursor.execute("SET ROLE cbm_owner")
        cursor.execute("ANALYZE cbm.parcel_geometry, cbm.scene, cbm.work_item")
        connection.commit()


@contextmanager
def looking(settings):
    """Give a transaction's cursor, and a function that counts the geometries it has looked at."""
    with (
        closing(database.connect(settings)) as connection,
        database.transaction(connection) as cursor,
    ):

        def looked_at():
            cursor.execute(
                """SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables
                   WHERE schemaname = 'cbm' AND relname = 'parcel_geometry'"""
            )
            return cursor.fetchone()[0]

        yield cursor, looked_at


def planned(cursor, dataset, product):
    wanted = [Wanted("s2", "s2", product)]
    return enqueue.plan(cursor, dataset, wanted, date(2024, 1, 1), date(2024, 12, 31))


def test_nothing_to_do_is_found_by_a_geometry_per_scene(country):
    settings, dataset, product = country
    with looking(settings) as (cursor, looked_at):
        assert planned(cursor, dataset, product).lines == []
        assert looked_at() <= 3 * SCENES


@pytest.mark.parametrize("known", [False, True], ids=["before ANALYZE", "after"])
def test_a_few_new_parcels_are_looked_at_themselves(country, known):
    settings, dataset, product = country
    add_parcels(settings, dataset, [square(WEST - 9_000, SOUTH)], layer="b")
    if known:
        analyze(settings)
    with looking(settings) as (cursor, looked_at):
        assert planned(cursor, dataset, product).lines == []
        assert looked_at() <= 5 * SCENES
    add_parcels(settings, dataset, [square(WEST + 9_000, SOUTH)], layer="c")
    with looking(settings) as (cursor, looked_at):
        assert len(planned(cursor, dataset, product).products[0].reopen) == SCENES
        assert looked_at() <= 5 * SCENES


def test_of_a_parcel_set_the_retired_geometries_alone_are_looked_at(country):
    settings, dataset, _ = country
    retire = """UPDATE cbm.parcel_geometry SET retired_at = now()
                WHERE mod(id, 400) = 0 AND dataset_id = %s RETURNING id"""
    gone = sorted(row[0] for row in sql(settings, retire, dataset))
    with looking(settings) as (cursor, looked_at):
        (parcel_set,) = plans.parcel_sets(cursor, dataset, 0)
        assert plans.retired(cursor, parcel_set.id).tolist() == gone
        assert len(gone) == PARCELS // 400
        assert looked_at() <= len(gone) + 1


def test_a_parcel_set_without_use_is_passed_over_unread(country):
    settings, dataset, _ = country
    sql(settings, "UPDATE cbm.parcel_geometry SET retired_at = now()")
    add_parcels(settings, dataset, [square(WEST, SOUTH)], layer="b")
    with looking(settings) as (cursor, looked_at):
        (found,) = plans.parcel_sets(cursor, dataset, 0)
        assert looked_at() <= 2
        both = plans.parcel_sets(cursor, dataset, 0, retired=True)
    assert [one.id for one in both][-1] == found.id
    assert len(both) == 2


def test_a_tile_inside_its_zone_looks_for_no_stranger(country):
    settings, dataset, _ = country
    with looking(settings) as (cursor, looked_at):
        tile = tiles.find(cursor, 1)
        assert tiles.out_of_zone(cursor, tile, dataset).tolist() == []
        assert looked_at() == 0


def test_of_two_tiles_only_what_both_see_is_compared(country):
    settings, dataset, _ = country
    beside = tuple(a + b for a, b in zip(BOUNDS, (SIDE - 500, 0, SIDE - 500, 0), strict=True))
    other = add_scene(settings, {}, reference="e", tile="32TNT", bounds=beside,
                      obstime=datetime(2024, 5, 1, 10, tzinfo=UTC))  # fmt: skip
    with looking(settings) as (cursor, looked_at):
        found = tiles.served_elsewhere(cursor, tiles.find(cursor, other), dataset)
        assert len(found) > 0
        assert looked_at() <= 2 * PARCELS // 64 + 2
