"""What is seen of a cluster in the ledger alone: handing over, waiting, how far it is."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from cbm_core.errors import CbmError
from cbm_core.verbs import Context
from cbm_extract.engine import waiting
from cbm_extract.ledger import verbs as ledger_verbs
from tests.extraction import LEFT, TOP, World, run_extract, texture
from tests.factories import sql, square

pytestmark = pytest.mark.postgis

B04 = {"name": "p", "card": "s2", "bands": ["B04"]}


@pytest.fixture
def world(db, tmp_path):
    world = World.make(db, tmp_path)
    world.parcels([square(LEFT + 105, TOP - 395, 211)])
    day = datetime(2024, 3, 1, 10, tzinfo=UTC)
    for one in range(4):
        world.scene(
            {"B04": texture(seed=one)}, reference=f"s{one}", obstime=day + timedelta(days=one)
        )
    return world


def status(world) -> dict:
    verb = ledger_verbs.STATUS
    given = verb.arguments.model_validate({"dataset": "tt:2024"})
    return verb.run(given, Context(world.settings)).result


def finish(world, number, seconds_ago, started_ago, state="done"):
    sql(
        world.settings,
        """UPDATE cbm.work_item SET state = %s, finished_at = now() - make_interval(secs => %s),
             started_at = now() - make_interval(secs => %s)
           WHERE id IN (SELECT id FROM cbm.work_item WHERE state = 'pending'
                        ORDER BY id LIMIT %s)""",
        state, seconds_ago, started_ago, number,
    )  # fmt: skip


class TestHandingOver:
    def test_returns_at_once_and_a_second_time_changes_nothing(self, world):
        checked = world.extract(B04, engine="cluster", wait=False, check=True)
        first = world.extract(B04, engine="cluster", wait=False)
        assert first.plan == checked.plan == ["register product p", "enqueue 4 scenes for p"]
        assert (first.result["enqueued"], first.result["open"]) == (4, 4)
        for check in (True, False):
            again = world.extract(B04, engine="cluster", wait=False, check=check)
            assert (again.changed, again.plan) == (False, [])

    @pytest.mark.parametrize(
        "given",
        [{"engine": "serial", "wait": False}, {"engine": "cluster", "lease_seconds": 60}],
    )
    def test_what_means_nothing_together_is_refused(self, world, given):
        with pytest.raises(ValidationError):
            run_extract(world.settings, **given)


class TestWaiting:
    def test_says_when_nobody_works_and_ends_when_somebody_has(self, world, monkeypatch, capsys):
        monkeypatch.setattr(waiting, "_POLL_SECONDS", 0.05)
        monkeypatch.setattr(waiting, "STALLED_SECONDS", 0.2)
        world.extract(B04, engine="cluster", wait=False)
        answers = []

        def wait():
            answers.append(run_extract(world.settings, products=["p"], engine="cluster"))

        waiter = threading.Thread(target=wait)
        waiter.start()
        said = ""
        while "4 scenes wait and nobody works on them" not in said:
            said += capsys.readouterr().err
        assert "systemctl status cbm-dispatcher" in said
        done = run_extract(world.settings, products=["p"])
        waiter.join(30)
        assert done.result["scenes"] == 4
        assert answers[0].changed
        assert (answers[0].result["scenes"], answers[0].result["rows"]) == (4, 4)

    def test_an_interrupt_leaves_the_work_to_the_workers(self, world, monkeypatch, capsys):
        def interrupted(_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(waiting.time, "sleep", interrupted)
            with pytest.raises(KeyboardInterrupt):
                world.extract(B04, engine="cluster")
        assert "cbm ledger status" in capsys.readouterr().err
        assert sql(world.settings, "SELECT DISTINCT state FROM cbm.work_item") == [("pending",)]

    def test_a_database_that_is_away_for_a_while(self, world, monkeypatch):
        monkeypatch.setattr(waiting, "_POLL_SECONDS", 0.01)
        inner, failures = waiting.db.session, []

        def shaky(*arguments):
            if len(failures) < 3:
                failures.append(CbmError("database_unreachable", "It restarts."))
                raise failures[-1]
            return inner(*arguments)

        world.extract(B04)
        monkeypatch.setattr(waiting.db, "session", shaky)
        waiting._look(world.settings, waiting.Scope())
        assert len(failures) == 3


class TestHowFar:
    def test_rate_and_time_left_of_the_recent_past(self, world):
        world.extract(B04, engine="cluster", wait=False)
        assert status(world)["rate_per_hour"] is None
        assert status(world)["seconds_left"] is None
        finish(world, 2, seconds_ago=60, started_ago=120)
        found = status(world)
        # Two in the two minutes since the first of them began, and two are left.
        assert found["rate_per_hour"] == pytest.approx(60, abs=1)
        assert found["seconds_left"] == pytest.approx(120, abs=2)
        assert found["items"][0] | {"done": 2, "pending": 2} == found["items"][0]

    def test_what_is_long_past_does_not_count(self, world):
        world.extract(B04, engine="cluster", wait=False)
        finish(world, 1, seconds_ago=1000, started_ago=1100)
        assert status(world)["rate_per_hour"] is None
        # One that took an hour counts for the quarter of an hour that is looked at.
        finish(world, 1, seconds_ago=10, started_ago=3600, state="failed")
        assert status(world)["rate_per_hour"] == pytest.approx(4, abs=0.1)

    def test_those_at_work_and_nothing_left(self, world):
        world.extract(B04, engine="cluster", wait=False)
        sql(world.settings, """UPDATE cbm.work_item SET state = 'running', token = 1,
              lease_until = now() + CASE id WHEN 1 THEN interval '1 m' ELSE interval '-1 m' END,
              worker = 'host:' || id, started_at = now()""")  # fmt: skip
        assert status(world)["workers"] == ["host:1"]
        sql(world.settings, "UPDATE cbm.work_item SET state = 'pending', token = NULL,"
                            " lease_until = NULL")  # fmt: skip
        run_extract(world.settings, products=["p"])
        found = status(world)
        assert (found["seconds_left"], found["workers"]) == (0, [])
        assert found["rate_per_hour"] > 0
