"""Plans in the database: made once, the same whoever makes them."""

import threading
from contextlib import closing

import numpy as np
import pytest
import shapely

from cbm_core import db as database
from cbm_extract.engine.plans import ensure
from cbm_extract.plan.lattice import Grid, place
from cbm_extract.plan.window import clip
from cbm_extract.store import plans
from tests.factories import (
    add_dataset,
    add_parcels,
    pixels_of,
    sql,
    square,
    transformed,
)

pytestmark = pytest.mark.postgis

LEFT, TOP = 499_980.0, 5_300_040.0
GRID = Grid("EPSG:32632", (10.0, 0.0, LEFT, 0.0, -10.0, TOP), 100, 80)
PLACE = place(GRID)


@pytest.fixture
def parcels(db):
    """Two hundred squares of 35 m, a dataset's only parcel set; returns settings and dataset."""
    dataset = add_dataset(db)
    random = np.random.default_rng(3)
    shapes = [
        square(LEFT + x, TOP - y, 35)
        for x, y in zip(random.uniform(-50, 1050, 200), random.uniform(-50, 850, 200), strict=True)
    ]
    ids = add_parcels(db, dataset, shapes)
    return db, dataset, dict(zip(ids, shapes, strict=True))


def made(settings, dataset, buffer_m=0.0, lattice=PLACE.lattice):
    with closing(database.connect(settings)) as connection:
        with database.transaction(connection) as cursor:
            (parcel_set,) = plans.parcel_sets(cursor, dataset, 0)
        return ensure(connection, dataset, parcel_set, lattice, buffer_m)


def runs(settings, plan):
    with closing(database.connect(settings)) as connection, database.transaction(connection) as cur:
        rows = (PLACE.row0, PLACE.row0 + PLACE.height)
        cols = (PLACE.col0, PLACE.col0 + PLACE.width)
        return clip(plans.chunks_in(cur, plan.id, rows, cols), PLACE)


def test_planned_saved_and_read_back_pixel_by_pixel(parcels):
    settings, dataset, shapes = parcels
    found = runs(settings, made(settings, dataset))
    pixels = dict(zip(found.geometry_ids.tolist(), found.pixels.tolist(), strict=True))
    for number, shape in shapes.items():
        expected = pixels_of(shape, left=LEFT, top=TOP, res=10, shape=(80, 100)).sum()
        assert pixels.get(number, 0) == expected


def test_made_once(parcels):
    settings, dataset, shapes = parcels
    first = made(settings, dataset)
    assert made(settings, dataset) == first
    assert sql(settings, "SELECT count(*) FROM cbm.plan") == [(1,)]
    assert sql(settings, "SELECT count(*) FROM cbm.monitorability") == [(len(shapes),)]


def test_a_lattice_and_a_buffer_each_have_their_own(parcels):
    settings, dataset, _ = parcels
    coarse = place(Grid("EPSG:32632", (20.0, 0.0, LEFT, 0.0, -20.0, TOP), 50, 40)).lattice
    hashes = {
        made(settings, dataset).content_hash,
        made(settings, dataset, buffer_m=7.1).content_hash,
        made(settings, dataset, buffer_m=7.1).content_hash,
        made(settings, dataset, lattice=coarse).content_hash,
    }
    assert len(hashes) == 3
    assert sql(settings, "SELECT count(*) FROM cbm.plan") == [(3,)]


def test_makers_at_once_store_one(parcels):
    settings, dataset, _ = parcels
    found, start = [], threading.Barrier(4)

    def work():
        start.wait()
        found.append(made(settings, dataset))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert sql(settings, "SELECT count(*) FROM cbm.plan_chunk") == [(1,)]


def test_content_does_not_depend_on_what_is_retired(parcels):
    settings, dataset, shapes = parcels
    before = made(settings, dataset)
    settings_plan = sql(settings, "SELECT content_hash FROM cbm.plan")
    gone = sorted(shapes)[:3]
    sql(settings, "UPDATE cbm.parcel_geometry SET retired_at = now() WHERE id = ANY(%s)", gone)
    other = made(settings, dataset, buffer_m=1.0)
    assert settings_plan[0][0].tobytes() == before.content_hash
    assert (
        sql(settings, "SELECT geometries FROM cbm.plan WHERE id = ANY(%s)", [before.id, other.id])
        == [(len(shapes),)] * 2
    )
    with closing(database.connect(settings)) as connection, database.transaction(connection) as cur:
        (parcel_set,) = plans.parcel_sets(cur, dataset, 0)
        assert plans.retired(cur, parcel_set.id).tolist() == gone


def test_read_in_pieces_gives_the_same_plan(parcels, monkeypatch):
    settings, dataset, _ = parcels
    with closing(database.connect(settings)) as connection, database.transaction(connection) as cur:
        (parcel_set,) = plans.parcel_sets(cur, dataset, 0)
        ids, shapes = plans.geometries(cur, parcel_set.id, 0, 10_000)
        first, _ = plans.geometries(cur, parcel_set.id, 0, 90)
        rest, more = plans.geometries(cur, parcel_set.id, int(first[-1]), 10_000)
    assert first.tolist() + rest.tolist() == ids.tolist() == sorted(ids.tolist())
    assert more == shapes[90:]
    assert shapely.from_wkb(shapes[0]).geom_type == "MultiPolygon"


def test_only_chunks_that_reach_the_window_are_read(parcels, monkeypatch):
    settings, dataset, _ = parcels
    monkeypatch.setattr("cbm_extract.engine.plans.CHUNK_SIZE", 20)
    plan = made(settings, dataset)
    assert sql(settings, "SELECT count(*) FROM cbm.plan_chunk") == [(10,)]
    with closing(database.connect(settings)) as connection, database.transaction(connection) as cur:
        rows, cols = (PLACE.row0, PLACE.row0 + 1), (PLACE.col0, PLACE.col0 + 1)
        near = list(plans.chunks_in(cur, plan.id, rows, cols))
        far = list(plans.chunks_in(cur, plan.id, (0, 10), cols))
    assert 0 < len(near) <= 10
    assert far == []


def test_sets_without_active_geometries_are_passed_over(parcels):
    settings, dataset, _ = parcels
    add_parcels(settings, dataset, [square(LEFT, TOP)], layer="b")
    sql(settings, "UPDATE cbm.parcel_geometry SET retired_at = now() WHERE parcel_set_id = 1")
    with closing(database.connect(settings)) as connection, database.transaction(connection) as cur:
        assert [s.id for s in plans.parcel_sets(cur, dataset, 0)] == [2]
        assert plans.parcel_sets(cur, dataset, 2) == []


def test_area_across_the_antimeridian(db):
    dataset = add_dataset(db)
    shapes = [shapely.box(179.0, -17.0, 179.1, -16.9), shapely.box(-179.5, -18.0, -179.4, -17.9)]
    add_parcels(db, dataset, shapes, crs="EPSG:4326")
    with closing(database.connect(db)) as connection, database.transaction(connection) as cursor:
        assert plans.area(cursor, 1) == (179.0, -18.0, -179.4, -16.9)


def test_area_of_parcels_elsewhere(parcels):
    settings, _, shapes = parcels
    with closing(database.connect(settings)) as connection, database.transaction(connection) as cur:
        found = plans.area(cur, 1)
    hull = transformed(shapely.unary_union(list(shapes.values())), "EPSG:32632")
    np.testing.assert_allclose(found, hull.bounds, atol=1e-9)
