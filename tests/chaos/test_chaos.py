"""Whatever fails while a season is extracted, each item is done once and no row differs.

``CBM_CHAOS_SEEDS=20`` runs the seeds 1 to 20 instead of 1. The same seed brings the same
faults in the same order; whom they meet depends on the machine.
"""

import os
import shutil
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace

import pytest

from cbm_extract.ledger.states import TRANSIENT_CODES
from cbm_extract.read import staging
from tests import faults, postgis
from tests.chaos import season
from tests.chaos.events import LEASE_SECONDS, PROGRAMME, Chaos
from tests.chaos.watch import Sessions, Watch
from tests.cluster import Cluster

pytestmark = pytest.mark.postgis

WORKERS, DISPATCHERS = 3, 2
PATIENCE = 240.0
STRUCK = Counter()


def seeds() -> list[int]:
    return list(range(1, 1 + int(os.environ.get("CBM_CHAOS_SEEDS", "1"))))


@pytest.fixture(scope="module")
def link(seaweed):
    with faults.proxy(seaweed.address) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("chaos")
    (made / "staging").mkdir()
    return made


@pytest.fixture
def settings(server, catalogued, seaweed, link, folder):
    """A copy of the season, read through the link."""
    name = postgis.new_database(server, catalogued)
    storage = seaweed.settings(folder, endpoint=link.url, staging_folder=str(folder / "staging"))
    yield replace(server.settings(name), storage=storage)
    postgis.drop_database(server, name)


@pytest.fixture
def say(capsys):
    def loud(text: str) -> None:
        # In a process of several nobody would see it but in the report of a failure.
        with nullcontext() if "PYTEST_XDIST_WORKER" in os.environ else capsys.disabled():
            print(text, flush=True)

    return loud


@pytest.mark.parametrize("seed", seeds())
def test_nothing_is_lost_and_nothing_done_twice(
    seed, server, settings, link, folder, undisturbed, say
):
    watch = Watch(server, settings)
    say(f"\nseed {seed}")
    logs = folder / f"seed-{seed}"
    logs.mkdir()
    with Cluster.started(logs, settings, workers=WORKERS) as cluster:
        begun = time.monotonic()
        products = season.product_file(folder)
        for dataset in season.DATASETS:
            words = ("extract", dataset, "--product-file", products, "--engine", "cluster")
            season.cbm(cluster.config, *words, "--no-wait")
        assert watch.states() == {"pending": season.ITEMS}
        chaos = Chaos(seed, season.ITEMS, cluster, watch, link, say)
        with Sessions(watch) as sessions:
            for number in range(DISPATCHERS):
                cluster.start_dispatcher(
                    f"dispatcher-{number + 1}", "--lease-seconds", str(LEASE_SECONDS)
                )
            chaos.run()
            cluster.wait_until(watch.idle, "nothing is open", PATIENCE, every=0.2)
            retried = retry_unlucky(cluster, watch, say)
        done = time.monotonic()
        say(
            f"  done in {done - begun:.0f} s; at most {sessions.most} sessions,"
            f" {watch.worst()} attempts; {retried} items retried by hand; {dict(chaos.hits)}"
        )
        check_cluster(cluster, watch, sessions, chaos)
        check_rows(chaos, settings, undisturbed)
        for dataset in season.DATASETS:
            season.cbm(cluster.config, "signatures", "verify", dataset)
        season.cbm(cluster.config, "db", "check")
    cluster.wait_until(lambda: swept(folder), "no copies are left")
    shutil.rmtree(logs)
    say(f"  looked over in {time.monotonic() - done:.0f} s")
    STRUCK.update(chaos.hits)


def retry_unlucky(cluster, watch, say) -> int:
    """Put back what chaos itself took five workers or five attempts from, as an operator would.

    Anything else that failed is a defect.
    """
    failed = watch.ask("SELECT error_code, error FROM cbm.work_item WHERE state = 'failed'")
    assert {code for code, _ in failed} <= {"worker_lost", *TRANSIENT_CODES}, failed
    if failed:
        say(f"  retried: {failed}")
        for dataset in season.DATASETS:
            season.cbm(cluster.config, "ledger", "retry", dataset)
        cluster.wait_until(watch.idle, "nothing is open", PATIENCE, every=0.2)
    return len(failed)


def check_cluster(cluster, watch, sessions, chaos) -> None:
    """Few sessions while it ran, none afterwards; dispatchers that work end by a kill alone."""
    assert sessions.looks > 50
    # A worker has one, a second while it beats, and a third when told to stop in between.
    assert DISPATCHERS < sessions.most <= 3 * WORKERS + DISPATCHERS
    cluster.wait_until(lambda: watch.sessions() <= DISPATCHERS, "idle workers hold no session")
    dispatchers = [cluster[f"dispatcher-{number + 1}"] for number in range(DISPATCHERS)]
    for dispatcher in dispatchers:
        assert dispatcher.stop() == 0, dispatcher.text()
    # One that finds no database or scheduler when it starts says so; who keeps it starts it again.
    early = sum(
        one.text().count(f"cbm: error: {missing}")
        for one in dispatchers
        for missing in ("No connection to the", "The scheduler at")
    )
    starts = sum(one.starts for one in dispatchers)
    assert starts == DISPATCHERS + chaos.hits["kill_dispatcher"] + early
    cluster.wait_until(lambda: watch.sessions() == 0, "all sessions are closed")


def check_rows(chaos, settings, undisturbed) -> None:
    """Each item has one run; rows, evidence and states are those of the undisturbed run."""
    found = season.contents(settings)
    runs = Counter(row[:3] for row in found["runs"])
    assert len(runs) == runs.total() == season.ITEMS
    for name, rows in undisturbed.items():
        assert found[name] == rows, name
    for nap in chaos.refused:
        # What was taken over from a sleeper was never committed by it.
        late = chaos.watch.ask(
            """SELECT count(*) FROM cbm.run r JOIN cbm.work_item w
                 USING (scene_id, dataset_id, product_id)
               WHERE w.id = ANY(%s) AND r.token = %s""",
            nap.items, nap.held.token,
        )  # fmt: skip
        assert late == [(0,)]


def swept(folder) -> bool:
    """Whether the next process has nothing before it, once it has cleaned up after killed ones."""
    kept = staging.Staging(folder / "staging", 1)
    kept.check()
    return [path.name for path in kept.folder.iterdir()] == ["lock"]


def test_every_fault_met_a_worker():
    """Over all seeds: a storm that meets nobody proves nothing."""
    if not STRUCK:
        pytest.skip("no seed was run")
    kinds = {kind for kind in PROGRAMME if "storage" not in kind}
    kinds |= {f"storage {kind}" for kind in ("cut", "refuse", "throttle", "answer")}
    assert {kind for kind in kinds if STRUCK[kind] == 0} == set()
