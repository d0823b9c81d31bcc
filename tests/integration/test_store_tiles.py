"""Overlapping tiles and zones: which tile serves a geometry."""

from contextlib import closing
from datetime import UTC, datetime

import pytest
import shapely

from cbm_core import db as database
from cbm_extract.store import tiles
from tests.factories import add_dataset, add_parcels, add_scene, sql, square, transformed

pytestmark = pytest.mark.postgis

# Two neighbours in zone 32 that overlap by 1 km, and one in zone 33 that overlaps both.
WEST = (690_000.0, 5_300_000.0, 700_000.0, 5_310_000.0)
EAST = (699_000.0, 5_300_000.0, 709_000.0, 5_310_000.0)


def ask(settings, function, scene, dataset):
    with closing(database.connect(settings)) as connection, database.transaction(connection) as cur:
        return function(cur, tiles.find(cur, scene), dataset).tolist()


@pytest.fixture
def pair(db):
    west = add_scene(db, {}, reference="w", tile="32TQT", bounds=WEST)
    east = add_scene(db, {}, reference="e", tile="32TRT", bounds=EAST)
    return db, add_dataset(db), west, east


def test_the_tile_that_contains_wins_then_the_lower_name(pair):
    settings, dataset, west, east = pair
    in_west, in_both, across, in_east = add_parcels(settings, dataset, [
        square(695_000, 5_305_000),
        square(699_500, 5_305_000),
        square(699_950, 5_305_000),  # over west's edge: east contains it
        square(705_000, 5_305_000),
    ])  # fmt: skip
    assert ask(settings, tiles.served_elsewhere, west, dataset) == [across]
    assert ask(settings, tiles.served_elsewhere, east, dataset) == [in_both]
    assert in_west
    assert in_east


def test_no_tile_steps_back_for_one_that_is_not_active_or_of_another_datatake(pair):
    settings, dataset, west, east = pair
    add_parcels(settings, dataset, [square(699_500, 5_305_000)])
    assert ask(settings, tiles.served_elsewhere, east, dataset) != []
    sql(settings, "UPDATE cbm.scene SET state = 'held' WHERE id = %s", west)
    assert ask(settings, tiles.served_elsewhere, east, dataset) == []
    sql(settings, "UPDATE cbm.scene SET state = 'active', datatake_start = '2024-05-02Z'"
                  " WHERE id = %s", west)  # fmt: skip
    assert ask(settings, tiles.served_elsewhere, east, dataset) == []


def test_no_tile_steps_back_for_a_footprint_that_leaves_part_of_it_black(db):
    half = transformed(shapely.box(690_000, 5_300_000, 699_550, 5_310_000), "EPSG:32632")
    add_scene(db, {}, reference="w", tile="32TQT", bounds=WEST, footprint=half)
    east = add_scene(db, {}, reference="e", tile="32TRT", bounds=EAST)
    dataset = add_dataset(db)
    add_parcels(db, dataset, [square(699_500, 5_305_000)])
    assert ask(db, tiles.served_elsewhere, east, dataset) == []


def test_the_centroids_zone_decides_between_zones(db):
    """Two tiles of neighbouring zones over the same ground, around 12 degrees east."""
    ground = shapely.box(11.9, 47.9, 12.1, 48.0)
    scenes = {}
    for zone, name in ((32, "32UQU"), (33, "33UTP")):
        crs = f"EPSG:326{zone}"
        bounds = shapely.buffer(transformed(ground, "EPSG:4326", crs), 2000).bounds
        scenes[zone] = add_scene(
            db, {}, reference=name, tile=name, bounds=bounds, crs=crs, footprint=ground
        )
    dataset = add_dataset(db)
    west, east, middle = add_parcels(db, dataset, [
        shapely.box(11.95, 47.95, 11.951, 47.951),
        shapely.box(12.05, 47.95, 12.051, 47.951),
        shapely.box(11.999, 47.95, 12.0005, 47.951),  # centroid west of 12
    ], crs="EPSG:4326")  # fmt: skip
    assert ask(db, tiles.out_of_zone, scenes[32], dataset) == [east]
    assert ask(db, tiles.out_of_zone, scenes[33], dataset) == [west, middle]
    assert ask(db, tiles.served_elsewhere, scenes[32], dataset) == [east]
    assert ask(db, tiles.served_elsewhere, scenes[33], dataset) == [west, middle]


def test_parts_of_one_tile_never_step_back_for_each_other(db):
    scenes = [
        add_scene(db, {}, reference="r", part=part, tile="32TQT", bounds=WEST) for part in "ab"
    ]
    dataset = add_dataset(db)
    add_parcels(db, dataset, [square(695_000, 5_305_000)])
    assert [ask(db, tiles.served_elsewhere, scene, dataset) for scene in scenes] == [[], []]


def test_zones_across_the_antimeridian(db):
    fiji = shapely.box(179.5, -17.1, 179.6, -17.0)
    crs = "EPSG:32760"
    bounds = transformed(fiji, "EPSG:4326", crs).bounds
    scene = add_scene(
        db, {}, tile="60KXF", bounds=bounds, crs=crs,
        obstime=datetime(2024, 5, 1, tzinfo=UTC),
        footprint=shapely.MultiPolygon([
            shapely.box(179.4, -17.2, 180, -16.9), shapely.box(-180, -17.2, -179.9, -16.9)
        ]),
    )  # fmt: skip
    dataset = add_dataset(db)
    _, beyond = add_parcels(
        db, dataset, [fiji, shapely.box(-179.95, -17.1, -179.94, -17.0)], crs="EPSG:4326"
    )
    assert ask(db, tiles.out_of_zone, scene, dataset) == [beyond]


@pytest.mark.parametrize(
    ("crs", "latitude", "expected"),
    [
        ("EPSG:32632", 47.0, (6.0, 12.0)),
        ("EPSG:32760", -17.0, (174.0, 180.0)),
        ("EPSG:32601", 0.0, (-180.0, -174.0)),
        ("EPSG:32632", 60.0, (3.0, 12.0)),
        ("EPSG:32631", 60.0, (0.0, 3.0)),
        ("EPSG:3857", 47.0, None),
    ],
)
def test_longitudes_of_a_zone(crs, latitude, expected):
    assert tiles.zone_longitudes(crs, latitude) == expected
