"""Many clients at once: each asks again and again, until the block ends.

with crowd.asking(served.port, wishes, clients=8) as busy:
    ...
busy.answers    # all that came, in the order in which they came
"""

import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

# Whoever was refused waits a moment, as people do.
PAUSE_SECONDS = 0.05
CUT = 0
"""Status of an answer that did not come, or not to its end."""


@dataclass(frozen=True)
class Wish:
    """Something to ask for: ``path`` makes up an address each time, ``body`` is JSON to be posted.

    ``source`` gives the loopback address from which it is asked; ``weight``: how often it is.
    """

    kind: str
    path: Callable[[random.Random], str]
    headers: dict[str, str] = field(default_factory=dict)
    body: Callable[[random.Random], object] | None = None
    source: Callable[[], str] | None = None
    expected: frozenset[int] = frozenset({200})
    weight: int = 1


@dataclass(frozen=True)
class Answer:
    """What came: ``code`` of a problem, ``text`` the beginning of what was not expected."""

    kind: str
    status: int
    at: float
    seconds: float
    code: str = ""
    retry_after: str = ""
    text: str = ""


@dataclass
class Crowd:
    """Clients at work; ``stop`` ends them."""

    port: int
    answers: list[Answer] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def statuses(self, since: float = 0.0) -> Counter[tuple[str, int, str]]:
        """How often which kind was answered how: (kind, status, code)."""
        found = [one for one in self.answers if one.at >= since]
        return Counter((one.kind, one.status, one.code) for one in found)

    def unexpected(self, wishes: Sequence[Wish], *allowed: int) -> list[Answer]:
        """Answers with a status that was neither expected nor is allowed."""
        expected = {wish.kind: wish.expected for wish in wishes}
        return [
            one
            for one in self.answers
            if one.status not in expected[one.kind] and one.status not in allowed
        ]

    def is_well(self, wishes: Sequence[Wish], since: float, each: int = 3) -> bool:
        """Whether the last answers to each wish, all asked since then, were as expected."""
        for wish in wishes:
            last = [one for one in self.answers if one.kind == wish.kind][-each:]
            if len(last) < each or any(
                one.at - one.seconds < since or one.status not in wish.expected for one in last
            ):
                return False
        return True

    def ask_on(self, wishes: Sequence[Wish], chance: random.Random) -> None:
        """Ask until stopped, what comes at random by weight."""
        connection: http.client.HTTPConnection | None = None
        weights = [wish.weight for wish in wishes]
        while not self.stop.is_set():
            (wish,) = chance.choices(wishes, weights)
            if wish.source:
                with_address = http.client.HTTPConnection(
                    "127.0.0.1", self.port, timeout=120, source_address=(wish.source(), 0)
                )
                answer = self._ask(with_address, wish, chance)
                with_address.close()
            else:
                connection = connection or self._connection()
                answer = self._ask(connection, wish, chance)
                if answer.status == CUT:
                    connection.close()
                    connection = None
            self.answers.append(answer)
            if answer.status not in wish.expected:
                self.stop.wait(PAUSE_SECONDS)
        if connection:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def _ask(
        self, connection: http.client.HTTPConnection, wish: Wish, chance: random.Random
    ) -> Answer:
        start = time.monotonic()
        path, body = wish.path(chance), wish.body and json.dumps(wish.body(chance))
        headers = {**wish.headers, **({"Content-Type": "application/json"} if body else {})}
        try:
            connection.request("POST" if body else "GET", path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            now = time.monotonic()
            return Answer(wish.kind, CUT, now, now - start, type(error).__name__, "", path)
        now = time.monotonic()
        as_expected = answer.status in wish.expected
        return Answer(
            wish.kind, answer.status, now, now - start,
            "" if answer.status < 400 else _code(data), answer.headers.get("Retry-After", ""),
            "" if as_expected else f"{path}: {data[:300]!r}",
        )  # fmt: skip


def _code(data: bytes) -> str:
    try:
        document = json.loads(data)
    except ValueError:
        return "no JSON"
    return str(document.get("code", "")) if isinstance(document, dict) else "no object"


@contextmanager
def asking(port: int, wishes: Sequence[Wish], clients: int, seed: int = 1) -> Iterator[Crowd]:
    """Let so many clients ask while the block runs; wait for their last answers."""
    crowd = Crowd(port)
    threads = [
        threading.Thread(target=crowd.ask_on, args=(wishes, random.Random(seed * 1000 + number)))
        for number in range(clients)
    ]
    for one in threads:
        one.start()
    try:
        yield crowd
    finally:
        crowd.stop.set()
        for one in threads:
            one.join()


def addresses(each: int = 20) -> Callable[[], str]:
    """Return what gives loopback addresses, ``each`` times the same one."""
    numbers = itertools.count()
    lock = threading.Lock()

    def following() -> str:
        with lock:
            number = next(numbers) // each
        return f"127.{1 + number // 62_500 % 250}.{number // 250 % 250}.{1 + number % 250}"

    return following
