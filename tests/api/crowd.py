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
# A server may close a connection that nobody uses just when it is used again.
_CLOSED = {"RemoteDisconnected", "ConnectionResetError", "BrokenPipeError"}


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
        kept = _Line(self.port)
        weights = [wish.weight for wish in wishes]
        while not self.stop.is_set():
            (wish,) = chance.choices(wishes, weights)
            if wish.source:
                line = _Line(self.port, wish.source())
                answer = line.ask(wish, chance)
                line.close()
            else:
                answer = kept.ask(wish, chance)
            self.answers.append(answer)
            if answer.status not in wish.expected:
                self.stop.wait(PAUSE_SECONDS)
        kept.close()


class _Line:
    """A client's connection, opened anew where it was closed."""

    def __init__(self, port: int, source: str | None = None) -> None:
        address = (source, 0) if source else None
        self._http = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=120, source_address=address
        )
        self._was_used = False

    def close(self) -> None:
        self._http.close()
        self._was_used = False

    def ask(self, wish: Wish, chance: random.Random) -> Answer:
        """Ask once more on a new connection where the old one turns out to be closed."""
        used = self._was_used
        answer = self._ask(wish, chance)
        if used and answer.status == CUT and answer.code in _CLOSED:
            answer = self._ask(wish, chance)
        return answer

    def _ask(self, wish: Wish, chance: random.Random) -> Answer:
        start = time.monotonic()
        path, body = wish.path(chance), wish.body and json.dumps(wish.body(chance))
        headers = {**wish.headers, **({"Content-Type": "application/json"} if body else {})}
        try:
            self._http.request("POST" if body else "GET", path, body, headers)
            answer = self._http.getresponse()
            data = answer.read()
            self._was_used = True
        except (OSError, http.client.HTTPException) as error:
            self.close()
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
