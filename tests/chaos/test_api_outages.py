"""The API while database or storage are away: 503 with Retry-After, never 500, and back by itself.

All kinds of requests go on through it: rows, tiles, images, the predecessor's routes, logins.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cbm_core.settings import Settings
from tests import faults
from tests.api import busy, crowd
from tests.api.crowd import CUT, Answer, Crowd, Wish
from tests.api.serving import gunicorn

pytestmark = pytest.mark.postgis

CLIENTS = 6
# A bulk answer that has begun has its status: an outage can only cut it off.
STREAMED = {"bulk"}
READ_FROM_STORAGE = {"chips", "window", "picture"}
# A busy machine takes its time, too.
PATIENT = {"raster_seconds": 60, "statement_timeout_seconds": 60}
SECONDS = 120


@dataclass
class Load:
    """A service under load, and what is between it and what it needs."""

    crew: Crowd
    wishes: list[Wish]
    log: Path

    def wait_until_well(self) -> None:
        """Wait until all that is asked from now on is answered as it should be."""
        since = time.monotonic()
        until(lambda: self.crew.is_well(self.wishes, since), self.crew)

    def wait_for(self, status: int, kinds: set[str], since: float) -> None:
        """Wait until each of the kinds was answered so, twice."""

        def reached() -> bool:
            found = self.crew.statuses(since).elements()
            seen = [kind for kind, one, _ in found if one == status]
            return all(seen.count(kind) >= 2 for kind in kinds)

        until(reached, self.crew)

    def expect_only(self, *codes: str) -> list[Answer]:
        """Check that refusals are 503 with these codes, and say when to come again."""
        failed = self.crew.unexpected(self.wishes)
        for one in failed:
            if one.status == CUT and one.kind in STREAMED:
                continue
            assert (one.status, one.code in codes) == (503, True), one
            assert int(one.retry_after) > 0, one
        return [one for one in failed if one.status == 503]


@contextmanager
def load(settings: Settings, there: busy.Busy, folder: Path, **api: object) -> Iterator[Load]:
    """Serve, and let clients ask for everything; the block begins when all is well."""
    wishes = [replace(wish, weight=1) for wish in busy.wishes(there)]
    with gunicorn(settings, folder, **{**PATIENT, **api}) as served:
        busy.log_in(served.port)
        with crowd.asking(served.port, wishes, CLIENTS) as crew:
            running = Load(crew, wishes, served.log)
            running.wait_until_well()
            yield running
        text = served.log.read_text()
        assert "Traceback" not in text, text[text.index("Traceback") :][:3000]


def until(reached: Callable[[], bool], crew: Crowd) -> None:
    begun = time.monotonic()
    while not reached():
        assert time.monotonic() < begun + SECONDS, f"not reached: {crew.statuses(begun)}"
        time.sleep(0.05)


def test_the_storage_is_away(busy_world, seaweed, tmp_path):
    """It refuses, and then says nothing."""
    settings, there = busy_world
    # Who needs no image is served meanwhile.
    others = {wish.kind for wish in busy.of_database(there)} | {"alive"}
    with faults.proxy(seaweed.address) as link:
        reading = replace(settings, storage=seaweed.settings(tmp_path, endpoint=link.url))
        with load(reading, there, tmp_path, raster_seconds=3) as running:
            for fail in (link.refuse, lambda: link.stall(after=0, times=None)):
                away = time.monotonic()
                fail()
                running.wait_for(503, READ_FROM_STORAGE, away)
                running.wait_for(200, others, away)
                link.heal()
                running.wait_until_well()
        refused = running.expect_only("raster_unreachable", "busy")
    assert {one.kind for one in refused} <= READ_FROM_STORAGE | {"old page"}


def test_the_database_restarts(busy_world, server, seaweed, tmp_path):
    settings, there = busy_world
    reading = replace(settings, storage=seaweed.settings(tmp_path))
    with load(reading, there, tmp_path) as running:
        for _ in range(2):
            server.restart()
            running.wait_until_well()
    running.expect_only("database_lost", "database_unreachable", "busy")


def test_the_database_cannot_be_reached_for_a_while(busy_world, server, seaweed, tmp_path):
    settings, there = busy_world
    with faults.proxy(server.directory / f".s.PGSQL.{server.port}") as link:
        host, port = link.address
        through = {**settings.database, "host": host, "port": str(port)}
        reading = replace(settings, database=through, storage=seaweed.settings(tmp_path))
        with load(reading, there, tmp_path) as running:
            away = time.monotonic()
            link.refuse()
            needing = {wish.kind for wish in busy.wishes(there)} - {"alive", "nobody"}
            running.wait_for(503, needing, away)
            running.wait_for(200, {"alive"}, away)
            link.heal()
            running.wait_until_well()
        refused = running.expect_only("database_lost", "database_unreachable", "busy")
    assert {one.kind for one in refused} >= needing


def test_no_session_becomes_free(busy_world, server, seaweed, tmp_path):
    settings, there = busy_world
    reading = replace(settings, storage=seaweed.settings(tmp_path))
    few = {"workers": 1, "pool_size": 2, "pool_wait_seconds": 1, "statement_timeout_seconds": 5}
    with (
        load(reading, there, tmp_path, **few) as running,
        closing(server.superuser(settings.database["dbname"])) as blocker,
    ):
        blocker.autocommit = False
        away = time.monotonic()
        blocker.cursor().execute("LOCK TABLE cbm.parcel IN ACCESS EXCLUSIVE MODE")
        running.wait_for(503, {"item", "wide tile", "old parcel"}, away)
        running.wait_for(200, {"alive"}, away)
        blocker.rollback()
        running.wait_until_well()
    # The server also ends the session of whoever is slow in using it.
    refused = running.expect_only("busy", "database_timeout", "database_lost")
    assert {one.code for one in refused} >= {"busy"}
