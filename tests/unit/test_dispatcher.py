"""How often the dispatcher looks at the ledger."""

from types import SimpleNamespace

import pytest

from cbm_core.settings import Settings
from cbm_extract.engine.cluster import dispatcher as module
from cbm_extract.engine.cluster.dispatcher import Dispatcher, Rules
from cbm_extract.engine.cluster.pool import Slots
from cbm_extract.ledger.claims import Backlog
from cbm_extract.ledger.states import Scope


class Pool:
    """Nobody works there."""

    in_flight = 0
    looks = 0

    def look(self):
        self.looks += 1
        return Slots()

    def reports(self):
        return []


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def looks(clock, monkeypatch, seconds, left, pool, during=100):
    """Times of looks at the ledger when one takes so many seconds."""
    found = []

    def read(self):
        found.append(clock.now)
        clock.now += seconds
        return left

    monkeypatch.setattr(Dispatcher, "_read_backlog", read)
    one = Dispatcher(Settings(database={}), Scope(), Rules(120, 1.0, 40, once=True))
    end = clock.now + during
    while clock.now < end:
        one._turn(pool)
        clock.now += 1
    return found


SOME = Backlog(1_000_000, 0, None, ())


def test_each_second_where_that_is_cheap(clock, monkeypatch):
    assert len(looks(clock, monkeypatch, 0.001, SOME, Pool())) >= 99


def test_a_slow_look_is_not_repeated_soon_but_workers_are_seen(clock, monkeypatch):
    pool = Pool()
    first, second, *_ = looks(clock, monkeypatch, 2.0, SOME, pool)
    assert 40 <= second - first <= 45
    assert pool.looks > 90


def test_a_lost_task_is_a_reason_to_look(clock, monkeypatch):
    class Losing(Pool):
        def reports(self):
            return [None] if self.looks == 5 else []

    first, second, *_ = looks(clock, monkeypatch, 2.0, SOME, Losing())
    assert second - first < 10


def test_a_database_that_is_away_is_tried_again_at_once(clock, monkeypatch):
    found = looks(clock, monkeypatch, 10.0, None, Pool())
    assert found[1] - found[0] < 12
