"""Extraction by a cluster of processes: the same numbers, once each, whoever comes and goes."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from tests.cluster import Cluster
from tests.extraction import LEFT, TOP, World, texture
from tests.factories import sql, square

pytestmark = pytest.mark.postgis

B04 = {"name": "p", "card": "s2", "bands": ["B04"]}
FIELDS = [square(LEFT + 105, TOP - 395, 211), square(LEFT + 400, TOP - 400)]


@pytest.fixture(scope="module")
def running(pg_server, tmp_path_factory):
    """A cluster for all tests: scheduler and two workers."""
    folder = tmp_path_factory.mktemp("cluster")
    with Cluster.started(folder, pg_server.settings("cbm_empty"), workers=2) as cluster:
        yield cluster


@pytest.fixture
def cluster(running, db):
    running.use(db)
    return running


@pytest.fixture
def world(db, tmp_path):
    return World.make(db, tmp_path)


def scenes(world, number, start=0):
    day = datetime(2024, 3, 1, 10, tzinfo=UTC)
    return [
        world.scene(
            {"B04": texture(seed=one)}, reference=f"s{one}", obstime=day + timedelta(days=one)
        )
        for one in range(start, start + number)
    ]


def enqueue(world, *definitions):
    return world.extract(*definitions or (B04,), engine="cluster", wait=False)


def runs(world) -> Counter:
    """How often each item was completed."""
    return Counter(sql(world.settings, "SELECT scene_id, product_id FROM cbm.run"))


def states(world) -> Counter:
    return Counter(state for (state,) in sql(world.settings, "SELECT state FROM cbm.work_item"))


def rows_of(world, product):
    return sql(
        world.settings,
        """SELECT geometry_id, scene_id, obstime, px_imaged, px_clear, tile_rank, stats
           FROM cbm.signature s JOIN cbm.product p ON p.id = product_id
           WHERE p.name = %s ORDER BY 1, 2""",
        product,
    )


class TestNumbers:
    def test_equal_those_of_the_serial_engine_row_for_row(self, cluster, world):
        world.parcels(FIELDS)
        scenes(world, 12)
        world.extract(B04)
        enqueue(world, {**B04, "name": "q"})
        said = cluster.dispatch_once()
        assert "12 scenes done, 24 rows written" in said
        assert len(rows_of(world, "p")) == 24
        assert rows_of(world, "q") == rows_of(world, "p")
        assert set(runs(world).values()) == {1}
