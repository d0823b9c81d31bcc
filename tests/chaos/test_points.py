"""Programs of the cluster killed at points that are decided from outside, by locks."""

import os
import signal
from contextlib import closing, contextmanager

import pytest

from tests import postgis
from tests.e2e.test_kill_extract import POINTS, PRODUCTS, SCENES, barrier, build, contents
from tests.factories import sql

pytestmark = pytest.mark.postgis

LEASE = ("--lease-seconds", "2")
RUNS = "SELECT scene_id, product_id, id, token FROM cbm.run"

# Between the rows and the commit; and in a scene's second item, its first one committed but not
# reported.
WORKER_POINTS = ("rows written, evidence not", "at the last statement")
assert set(WORKER_POINTS) < set(POINTS)


@pytest.fixture(scope="module")
def calm(server, migrated, tmp_path_factory):
    """What an extraction leaves that nobody disturbs."""
    name = postgis.new_database(server, migrated)
    world = build(server.settings(name), tmp_path_factory.mktemp("calm"))
    world.extract(*PRODUCTS)
    found = contents(world.settings)
    postgis.drop_database(server, name)
    assert len(found["runs"]) == SCENES * len(PRODUCTS)
    return found


@pytest.fixture
def world(cluster, database, tmp_path):
    cluster.use(database)
    made = build(database, tmp_path)
    made.extract(*PRODUCTS, engine="cluster", wait=False)
    return made


@contextmanager
def lock(server, world, statement):
    """Hold a lock; give a function that says how many sessions wait for any."""
    name = world.settings.database["dbname"]
    with closing(server.superuser(name)) as owner, closing(server.superuser(name)) as eye:
        owner.autocommit = False

        def waiting() -> int:
            with eye.cursor() as cursor:
                cursor.execute(
                    """SELECT count(*) FROM pg_stat_activity
                       WHERE datname = %s AND wait_event_type = 'Lock'""",
                    (name,),
                )
                return cursor.fetchone()[0]

        with owner.cursor() as cursor:
            cursor.execute(statement)
        yield waiting


def kill_workers(cluster) -> None:
    for name in ("worker-1", "worker-2"):
        for pid in cluster.worker_pids(name):
            os.kill(pid, signal.SIGKILL)


def all_done(world) -> bool:
    return {state for (state,) in sql(world.settings, "SELECT state FROM cbm.work_item")} == {
        "done"
    }


@pytest.mark.parametrize("point", WORKER_POINTS)
def test_workers_killed(cluster, world, server, calm, point):
    with barrier(server, world, point) as reached:
        cluster.start_dispatcher("dispatcher", *LEASE)
        reached()
        kill_workers(cluster)
        assert not all_done(world)
        committed = sql(world.settings, RUNS)
    assert (3, 1) in {run[:2] for run in committed} or point != "at the last statement"
    cluster.wait_until(lambda: all_done(world), "others do what they had begun")
    assert contents(world.settings) == calm
    assert set(committed) <= set(sql(world.settings, RUNS))


def test_a_dispatcher_killed_before_it_dispatches(cluster, world, server, calm):
    with lock(server, world, "LOCK TABLE cbm.work_item IN ACCESS EXCLUSIVE MODE") as waiting:
        dispatcher = cluster.start_dispatcher("dispatcher")
        cluster.wait_until(lambda: waiting() == 1, "it looks at the ledger")
        dispatcher.kill()
    cluster.wait_until(lambda: all_done(world), "the next one dispatches")
    assert dispatcher.starts == 2
    assert contents(world.settings) == calm


def test_a_dispatcher_killed_while_its_tasks_are_done(cluster, world, server, calm):
    with lock(server, world, "LOCK TABLE cbm.run IN SHARE MODE") as waiting:
        dispatcher = cluster.start_dispatcher("dispatcher")
        cluster.wait_until(lambda: waiting() == 2, "both workers are about to commit")
        dispatcher.kill()
        cluster.wait_until(lambda: dispatcher.starts == 2, "another one is there")
    cluster.wait_until(lambda: all_done(world), "all are done")
    assert contents(world.settings) == calm
    assert sql(world.settings, "SELECT DISTINCT attempts FROM cbm.work_item") == [(1,)]
