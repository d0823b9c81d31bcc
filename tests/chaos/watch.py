"""What an observer sees of the ledger and of the sessions, by a login that is not the product's."""

import threading
from contextlib import suppress
from dataclasses import dataclass

import psycopg2

from cbm_core.settings import Settings
from tests.chaos.season import as_superuser
from tests.postgis import Server


@dataclass(frozen=True)
class Held:
    """A claim of a process that is at work: its pid, and the token."""

    pid: int
    token: int


@dataclass
class Watch:
    server: Server
    settings: Settings

    def ask(self, query: str, *parameters: object) -> list[tuple]:
        with as_superuser(self.server, self.settings) as cursor:
            cursor.execute(query, parameters or None)
            return cursor.fetchall()

    def states(self) -> dict[str, int]:
        return dict(self.ask("SELECT state, count(*) FROM cbm.work_item GROUP BY 1"))

    def done(self) -> int:
        return self.states().get("done", 0)

    def idle(self) -> bool:
        return not {"pending", "running"} & set(self.states())

    def busy(self) -> list[Held]:
        """Who holds a claim whose lease runs."""
        found = self.ask(
            """SELECT DISTINCT worker, token FROM cbm.work_item
               WHERE state = 'running' AND lease_until > clock_timestamp()"""
        )
        return sorted(
            (Held(int(worker.rpartition(":")[2]), token) for worker, token in found),
            key=lambda one: one.token,
        )

    def items_of(self, token: int) -> list[int]:
        """The items that a token still holds."""
        query = "SELECT id FROM cbm.work_item WHERE token = %s AND state = 'running'"
        return [number for (number,) in self.ask(query, token)]

    def sessions(self) -> int:
        """Sessions of the product."""
        query = """SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND usename = 'cbm_extractor'"""
        return self.ask(query)[0][0]

    def worst(self) -> int:
        """The most attempts that an item has behind it."""
        return self.ask("SELECT max(attempts) FROM cbm.work_item")[0][0]


class Sessions(threading.Thread):
    """Counts the product's sessions for the length of a block; ``most`` is the highest number."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(name="sessions")
        self._watch, self._over = watch, threading.Event()
        self.most = self.looks = 0

    def __enter__(self) -> "Sessions":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        while not self._over.wait(0.1):
            with suppress(psycopg2.Error):  # the server is just restarting
                self.most = max(self.most, self._watch.sessions())
                self.looks += 1
