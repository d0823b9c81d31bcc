"""Extraction by a cluster of processes: the same numbers, once each, whoever comes and goes."""

import dataclasses
import os
import signal
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from distributed import Client, Security

from cbm_core import db as database
from cbm_core.errors import CbmError
from cbm_core.verbs import Context
from cbm_extract.engine.cluster.client import connect
from cbm_extract.engine.cluster.tasks import TASK_SECONDS
from cbm_extract.engine.cluster.verbs import DISPATCH
from tests.cluster import Cluster, certificates
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
    yield running
    # What a test has started or stopped is as before.
    for name in set(running.processes) - {"scheduler", "worker-1", "worker-2"}:
        running.processes.pop(name).stop()
    running.wait_for_slots(2)


@pytest.fixture
def world(cluster, tmp_path):
    return World.make(cluster.settings, tmp_path)


def backlog(world, number, *definitions):
    """Parcels and scenes, enqueued for the cluster."""
    world.parcels(FIELDS)
    day = datetime(2024, 3, 1, 10, tzinfo=UTC)
    for one in range(number):
        world.scene(
            {"B04": texture(seed=one)}, reference=f"s{one}", obstime=day + timedelta(days=one)
        )
    world.extract(*definitions or (B04,), engine="cluster", wait=False)


def runs(world) -> Counter:
    """How often each item was completed."""
    return Counter(sql(world.settings, "SELECT scene_id, product_id FROM cbm.run"))


def each_once(world, number) -> bool:
    found = runs(world)
    rows = sql(world.settings, "SELECT count(*) FROM cbm.signature")[0][0]
    return len(found) == found.total() == number and rows == 2 * number


def states(world) -> Counter:
    return Counter(sql(world.settings, "SELECT state, attempts FROM cbm.work_item"))


def stored(world, product):
    return sql(
        world.settings,
        """SELECT geometry_id, scene_id, obstime, px_imaged, px_clear, tile_rank, stats
           FROM cbm.signature s JOIN cbm.product p ON p.id = product_id
           WHERE p.name = %s ORDER BY 1, 2""",
        product,
    )


def sessions(world) -> int:
    """Open ones in the database, but for that which asks."""
    return sql(world.settings, "SELECT count(*) FROM pg_stat_activity"
               " WHERE datname = current_database() AND pid <> pg_backend_pid()")[0][0]  # fmt: skip


@contextmanager
def no_plans(world):
    """Every worker is stuck in the middle of its scene: plans are locked away."""
    with closing(database.connect(world.settings, "owner")) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SET ROLE cbm_owner; LOCK cbm.plan IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


def stuck(world, number):
    """Say whether so many scenes are being done; with `no_plans` they stay so."""
    return lambda: sum(n for (state, _), n in states(world).items() if state == "running") == number


class TestRun:
    def test_the_numbers_of_the_serial_engine_row_for_row(self, cluster, world):
        backlog(world, 12, {**B04, "name": "q"})
        assert "12 scenes done, 24 rows written" in cluster.dispatch_once()
        world.extract(B04)
        assert len(stored(world, "q")) == 24
        assert stored(world, "q") == stored(world, "p")
        workers = sql(world.settings, "SELECT count(DISTINCT worker) FROM cbm.run")
        assert workers == [(3,)]  # two of the cluster, and this process

    def test_waited_for_it_answers_as_the_serial_engine(self, cluster, world):
        backlog(world, 3)
        cluster.start_dispatcher("dispatcher")
        done = world.extract(B04, engine="cluster")
        assert done.changed
        expected = {
            "dataset": "tt:2024", "products": ["p"], "enqueued": 0, "scenes": 3, "rows": 6,
            "done": 3, "failed": 0, "open": 0, "held": 0,
        }  # fmt: skip
        assert done.result == expected
        for check in (True, False):
            again = world.extract(B04, engine="cluster", check=check)
            assert (again.changed, again.plan) == (False, [])
        # Those who ask for more while it runs are served without a restart.
        world.parcels([square(LEFT + 600, TOP - 400)], layer="b")
        more = world.extract(B04, engine="cluster")
        assert more.plan == ["reopen 3 scenes for p: new geometries"]
        assert (more.result["scenes"], more.result["rows"]) == (3, 3)
        assert cluster["dispatcher"].stop() == 0

    def test_what_failed_is_reported(self, cluster, world):
        world.parcels(FIELDS)
        world.scene({"red": texture()})
        world.extract(B04, engine="cluster", wait=False)
        assert "none of the bands of product p" in cluster.dispatch_once()
        with pytest.raises(CbmError) as caught:
            world.extract(B04, engine="cluster")
        assert caught.value.code == "extraction_incomplete"

    def test_partitions_are_analysed(self, cluster, world):
        backlog(world, 2)
        cluster.dispatch_once()
        # -1: never analysed.
        counted = sql(world.settings, "SELECT reltuples FROM pg_class"
                      " WHERE relname LIKE 'signature_d%%_202403' AND relkind = 'r'")  # fmt: skip
        assert counted == [(4.0,)]


class TestCrowd:
    def test_eight_dispatchers_do_each_item_once_over_few_connections(self, cluster, world):
        backlog(world, 40)
        context = Context(dataclasses.replace(world.settings, engine=cluster.engine))
        arguments = DISPATCH.arguments.model_validate({"once": True, "poll_seconds": 0.1})
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(DISPATCH.run(arguments, context)))
            for _ in range(8)
        ]
        most = 0
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            most = max(most, sessions(world))
            time.sleep(0.05)
        assert len(answers) == 8
        failed = sql(world.settings, "SELECT error FROM cbm.work_item WHERE error IS NOT NULL")
        assert (states(world), failed) == ({("done", 1): 40}, [])
        assert each_once(world, 40)
        assert sum(answer.result["scenes"] for answer in answers) == 40
        # A dispatcher holds one, a worker one and a second while it beats.
        assert 8 < most <= 8 + 2 * 2
        cluster.wait_until(lambda: sessions(world) == 0, "idle workers hold none")

    def test_no_more_scenes_at_once_than_allowed(self, cluster, world):
        backlog(world, 4)
        with no_plans(world):
            cluster.start_dispatcher("dispatcher", "--max-scenes", "1")
            cluster.wait_until(stuck(world, 1), "one scene is being done")
            time.sleep(1)  # five looks of the dispatcher
            assert stuck(world, 1)()
        cluster.wait_until(lambda: each_once(world, 4), "all are done")

    def test_workers_join_and_leave(self, cluster, world):
        """One told to stop gives its scene back: nobody waits for its lease of two minutes."""
        backlog(world, 12)
        with no_plans(world):
            cluster.start_dispatcher("dispatcher")
            cluster.wait_until(stuck(world, 2), "both are at it")
            cluster.start_worker("worker-3")
            cluster.wait_until(stuck(world, 3), "the third is at it")
            cluster["worker-1"].stop()
            cluster.wait_until(stuck(world, 2), "the scene is given back")
            assert states(world) == {("pending", 0): 10, ("running", 1): 2}
        cluster.wait_until(lambda: each_once(world, 12), "all are done")
        assert set(states(world)) == {("done", 1)}
        (count,) = sql(world.settings, "SELECT count(DISTINCT worker) FROM cbm.run")[0]
        assert count == 2
        cluster["worker-3"].stop()
        cluster["worker-1"].start()

    def test_memory_does_not_grow_with_scenes(self, cluster, world):
        backlog(world, 60)
        cluster.start_dispatcher("dispatcher")
        figures = []
        for least in range(15, 61, 5):
            cluster.wait_until(lambda least=least: len(runs(world)) >= least, f"{least} scenes")
            figures.append(max(cluster.memory_mb(f"worker-{number}") for number in (1, 2)))
        assert 0 < max(figures[-3:]) < max(figures[:3]) + 5.0


class TestLoss:
    def test_the_scheduler_is_killed_while_workers_work(self, cluster, world):
        backlog(world, 12)
        with no_plans(world):
            cluster.start_dispatcher("dispatcher")
            cluster.wait_until(stuck(world, 2), "both are at it")
            cluster["scheduler"].kill()
            cluster.wait_until(
                lambda: "The scheduler is away" in cluster["dispatcher"].text(), "it is noticed"
            )
        cluster.wait_until(lambda: each_once(world, 12), "all are done")
        assert cluster["scheduler"].starts > 1
        assert cluster["dispatcher"].starts == 1
        assert "Traceback" not in cluster["dispatcher"].text()

    def test_all_sessions_of_the_database_break(self, cluster, world, pg_server):
        backlog(world, 12)
        with no_plans(world):
            cluster.start_dispatcher("dispatcher", "--lease-seconds", "2")
            cluster.wait_until(stuck(world, 2), "both are at it")
            with closing(pg_server.superuser()) as connection, connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = %s AND usename = 'cbm_extractor'",
                    (world.settings.database["dbname"],),
                )
        cluster.wait_until(lambda: each_once(world, 12), "all are done")
        assert cluster["dispatcher"].starts == 1

    def test_a_killed_worker_process_is_replaced_and_its_scene_done_by_another(
        self, cluster, world
    ):
        backlog(world, 6)
        with no_plans(world):
            cluster.start_dispatcher("dispatcher", "--lease-seconds", "2")
            cluster.wait_until(stuck(world, 2), "both are at it")
            before = cluster.worker_pids("worker-1")
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            cluster.wait_until(
                lambda: not set(before) & set(cluster.worker_pids("worker-1")), "it is gone"
            )
        cluster.wait_until(lambda: each_once(world, 6), "all are done")

    def test_a_dispatcher_told_to_stop_leaves_scenes_to_be_finished(self, cluster, world):
        backlog(world, 6)
        with no_plans(world):
            dispatcher = cluster.start_dispatcher("dispatcher")
            cluster.wait_until(stuck(world, 2), "both are at it")
            assert dispatcher.stop() == 0
            assert "Traceback" not in dispatcher.text()
            time.sleep(TASK_SECONDS)  # for as long a task takes further scenes
        cluster.wait_until(lambda: sum(runs(world).values()) == 2, "what was begun is finished")
        time.sleep(0.5)
        assert states(world) == {("done", 1): 2, ("pending", 0): 4}


class TestTrust:
    @pytest.fixture
    def stranger(self, tmp_path):
        return certificates(tmp_path / "other")

    def refused(self, engine) -> CbmError:
        with pytest.raises(CbmError) as caught:
            connect(engine, 2.0).close()
        assert caught.value.hint
        return caught.value

    def test_certificates_of_another_authority(self, cluster, stranger):
        pair = {
            "tls_cert_file": str(stranger / "host.pem"),
            "tls_key_file": str(stranger / "host.key"),
        }
        theirs = dataclasses.replace(cluster.engine, **pair)
        assert self.refused(theirs).code == "scheduler_untrusted"
        theirs = dataclasses.replace(theirs, tls_ca_file=str(stranger / "ca.pem"))
        assert self.refused(theirs).code == "scheduler_untrusted"

    def test_a_worker_without_a_certificate_of_ours_gets_no_work(self, cluster, stranger):
        theirs = ["--tls-cert", str(stranger / "host.pem"), "--tls-key", str(stranger / "host.key")]
        assert cluster.start_worker("stranger", more=theirs, keep=False).wait() != 0
        assert "CERTIFICATE_VERIFY_FAILED" in cluster["scheduler"].text()
        assert cluster.slots() == 2

    def test_plain_connections(self, cluster):
        plain = f"tcp://127.0.0.1:{cluster.port}"
        assert self.refused(dataclasses.replace(cluster.engine, scheduler=plain)).code == (
            "engine_invalid"
        )
        with pytest.raises(OSError):
            Client(plain, security=Security(), timeout=2, set_as_default=False)

    def test_nobody_there(self, cluster):
        nowhere = dataclasses.replace(cluster.engine, scheduler="tls://127.0.0.1:1")
        error = self.refused(nowhere)
        assert error.code == "scheduler_unreachable"
        assert "refused" in error.message

    def test_settings_and_files_that_are_of_no_use(self, cluster, stranger, tmp_path):
        good = cluster.engine
        unset = dataclasses.replace(good, tls_key_file=None)
        assert (self.refused(unset).code, "tls_key_file" in self.refused(unset).message) == (
            "engine_unset", True,
        )  # fmt: skip
        missing = dataclasses.replace(good, tls_cert_file=str(tmp_path / "none.pem"))
        assert self.refused(missing).code == "certificate_unreadable"
        strange_key = dataclasses.replace(good, tls_key_file=str(stranger / "host.key"))
        assert self.refused(strange_key).code == "certificate_invalid"
        (tmp_path / "empty.pem").write_text("")
        empty = dataclasses.replace(good, tls_ca_file=str(tmp_path / "empty.pem"))
        assert self.refused(empty).code == "certificate_invalid"
