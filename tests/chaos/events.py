"""Faults, drawn from a seed, that strike while workers work; counted when they did.

Each strikes at a share of the items done that the seed says, or some seconds after the one before,
whichever comes first: in the middle of the work however fast the machine is. A scene that was tried
before comes after the others, so that who falls asleep is taken over from at the end of the backlog
alone: workers fall asleep late, and sleep long.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.chaos.watch import Held, Watch
from tests.cluster import Cluster
from tests.faults import Proxy

# How often each strikes in a run.
PROGRAMME = {
    "kill_worker": 4,
    "kill_host": 1,
    "kill_scheduler": 1,
    "kill_dispatcher": 2,
    "sleep": 2,
    "restart_database": 2,
    "cut_storage": 2,
    "refuse_storage": 1,
    "slow_storage": 1,
    "busy_storage": 1,
}
# Where in the work it strikes: the share of items done.
_SHARE = (0.02, 0.85)
_SHARES = {"sleep": (0.6, 0.85)}

LEASE_SECONDS = 4
DELAY = 0.04  # seconds that every request to storage takes longer, all the time

_LONGEST_WAIT = 2.0  # for progress
_BUSY_WAIT = 60.0  # for a worker at work
_MEETING_WAIT = 15.0  # for a request to storage
_LONGEST_NAP = 120.0


@dataclass
class Nap:
    """A worker that sleeps: what it held when it fell asleep, and when it is woken at last."""

    held: Held
    items: list[int]
    until: float


@dataclass
class Chaos:
    """Runs the programme against a cluster; ``hits`` counts the faults that met a busy worker."""

    seed: int
    items: int
    cluster: Cluster
    watch: Watch
    link: Proxy
    say: Callable[[str], None]
    hits: Counter[str] = field(default_factory=Counter)
    refused: list[Nap] = field(default_factory=list)
    """Naps from which a worker woke when others had taken its items over."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._begun = self._last = time.monotonic()
        self._naps: list[Nap] = []
        self._heal_at: tuple[float, str, int] | None = None

    def run(self) -> None:
        """Let all faults strike, until all have or nothing is left to be done."""
        kinds = [kind for kind, number in PROGRAMME.items() for _ in range(number)]
        events = sorted((self._random.uniform(*_SHARES.get(kind, _SHARE)), kind) for kind in kinds)
        self.link.delay(DELAY)
        self.cluster.wait_until(lambda: self.watch.done() > 0, "the work has begun")
        self._last = time.monotonic()
        try:
            for point, kind in events:
                self._wait_for(point)
                if not self._strike(kind):
                    self._note(f"{kind}: nobody was at work")
                    if self.watch.idle():
                        break
                self._last = time.monotonic()
            while self._naps or self._heal_at:
                self._tend()
                time.sleep(0.1)
        finally:
            for nap in self._naps:
                _send(nap.held.pid, signal.SIGCONT)
            self.link.heal()

    def _wait_for(self, share: float) -> None:
        while time.monotonic() - self._last < _LONGEST_WAIT:
            if self.watch.done() >= share * self.items:
                return
            self._tend()
            time.sleep(0.1)

    def _strike(self, kind: str) -> bool:
        """Let a fault strike when a worker is at work; False when none is."""
        end = time.monotonic() + _BUSY_WAIT
        while time.monotonic() < end and not self.watch.idle():
            self._tend()
            busy = self._at_work()
            if busy:
                getattr(self, f"_{kind}")(busy)
                return True
            time.sleep(0.05)
        return False

    def _at_work(self) -> dict[str, Held]:
        """Busy workers that are awake, by the name of their host's service."""
        pids = {
            pid: name
            for name in self.cluster.processes
            if name.startswith("worker")
            for pid in self.cluster.worker_pids(name)
        }
        asleep = {nap.held.pid for nap in self._naps}
        return {
            pids[one.pid]: one
            for one in self.watch.busy()
            if one.pid in pids and one.pid not in asleep
        }

    def _one_of(self, busy: dict[str, Held]) -> tuple[str, Held]:
        name = self._random.choice(sorted(busy))
        return name, busy[name]

    # Processes

    def _kill_worker(self, busy: dict[str, Held]) -> None:
        name, held = self._one_of(busy)
        _send(held.pid, signal.SIGKILL)
        self._killed("kill_worker", name, held)

    def _kill_host(self, busy: dict[str, Held]) -> None:
        name, held = self._one_of(busy)
        self.cluster[name].kill()
        self._killed("kill_host", name, held)

    def _killed(self, kind: str, name: str, held: Held) -> None:
        time.sleep(0.2)  # a commit that was on its way still arrives
        left = self.watch.items_of(held.token)
        self._count(kind, len(left) > 0, f"{name}, which had {len(left)} items in hand")

    def _kill_scheduler(self, busy: dict[str, Held]) -> None:
        self.cluster["scheduler"].kill()
        self._count("kill_scheduler", True, f"{len(busy)} workers were busy")

    def _kill_dispatcher(self, busy: dict[str, Held]) -> None:
        name = self._random.choice(
            sorted(name for name in self.cluster.processes if name.startswith("dispatcher"))
        )
        running = self.cluster[name].running
        self.cluster[name].kill()
        self._count("kill_dispatcher", running, f"{name}, {len(busy)} workers were busy")

    def _sleep(self, busy: dict[str, Held]) -> None:
        name, held = self._one_of(busy)
        _send(held.pid, signal.SIGSTOP)
        time.sleep(0.2)
        items = self.watch.items_of(held.token)
        self._note(f"sleep: {name} sleeps, {len(items)} items in hand")
        self._naps.append(Nap(held, items, time.monotonic() + (_LONGEST_NAP if items else 0.0)))

    # The database

    def _restart_database(self, busy: dict[str, Held]) -> None:
        self.watch.server.restart()
        self._count("restart_database", True, f"{len(busy)} workers were busy")

    # Storage

    def _cut_storage(self, _busy: dict[str, Held]) -> None:
        self._heal()
        after, times = self._random.randrange(30_000), self._random.randrange(2, 12)
        self.link.cut(after, times)
        self._break_storage("cut", f"{times} connections after {after} bytes")

    def _refuse_storage(self, _busy: dict[str, Held]) -> None:
        self._heal()
        before = self.link.struck["refuse"]
        self.link.refuse()
        self._break_storage("refuse", "all connections", before)

    def _slow_storage(self, _busy: dict[str, Held]) -> None:
        self._heal()
        self.link.throttle(30e3)
        self._break_storage("throttle", "to 30 kB/s")

    def _busy_storage(self, _busy: dict[str, Held]) -> None:
        self._heal()
        times = self._random.randrange(4, 20)
        self.link.answer(503, "SlowDown", times)
        self._break_storage("answer", f"{times} times 503")

    def _break_storage(self, kind: str, text: str, before: int | None = None) -> None:
        seconds = self._random.uniform(2.0, 5.0)
        before = self.link.struck[kind] if before is None else before
        self._heal_at = (time.monotonic() + seconds, kind, before)
        self._note(f"storage: {kind} for {seconds:.1f} s: {text}")

    def _heal(self) -> None:
        """End what is wrong with storage, and count it if it met somebody."""
        if self._heal_at:
            _, kind, before = self._heal_at
            times = self.link.struck[kind] - before
            self._count(f"storage {kind}", times > 0, f"met workers {times} times")
        self._heal_at = None
        self.link.heal()
        self.link.delay(DELAY)

    # What lasts

    def _tend(self) -> None:
        """Wake sleepers that others have taken over from, and heal storage when its time is up."""
        now = time.monotonic()
        if self._heal_at:
            until, kind, before = self._heal_at
            # It lasts until it has met somebody, though not for ever.
            met = self.link.struck[kind] > before
            if now > until + (0.0 if met else _MEETING_WAIT):
                self._heal()
        for nap in list(self._naps):
            taken = bool(nap.items) and not set(nap.items) & set(
                self.watch.items_of(nap.held.token)
            )
            if taken or now > nap.until:
                self._naps.remove(nap)
                _send(nap.held.pid, signal.SIGCONT)
                self._count("sleep", taken, "woken" + (", taken over from" if taken else ""))
                if taken:
                    self.refused.append(nap)

    def _count(self, kind: str, hit: bool, text: str) -> None:
        self.hits[kind] += hit
        self._note(f"{kind}: {text}{'' if hit else ' (a miss)'}")

    def _note(self, text: str) -> None:
        self.say(f"  {time.monotonic() - self._begun:6.1f} s  {self.watch.done():3} done  {text}")


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
