"""Progress of long work on standard error: a bar on a terminal, log lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

LOG_INTERVAL_SECONDS = 5.0


class Step(Protocol):
    """What a piece of long work is given to report with."""

    def advance(self, amount: int = 1) -> None:
        """Say that ``amount`` more units are done."""


class _LogStep:
    def __init__(self, label: str, total: int | None, unit: str, stream: TextIO) -> None:
        self._label, self._total, self._unit, self._stream = label, total, unit, stream
        self._done = 0
        self._said = self._start = time.monotonic()

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._said >= LOG_INTERVAL_SECONDS:
            self._said = now
            self.say()

    def say(self, end: str = "") -> None:
        seconds = time.monotonic() - self._start
        total = f"/{self._total}" if self._total is not None else ""
        print(
            f"{self._label}: {self._done}{total} {self._unit} in {seconds:.0f} s{end}",
            file=self._stream,
            flush=True,
        )


class _BarStep:
    def __init__(self, label: str, total: int | None, unit: str, stream: TextIO) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=total, desc=label, unit=f" {unit}", file=stream, leave=True)

    def advance(self, amount: int = 1) -> None:
        self._bar.update(amount)

    def close(self) -> None:
        self._bar.close()


@contextmanager
def step(label: str, total: int | None = None, unit: str = "items") -> Iterator[Step]:
    """Report a piece of work; ``total`` is unknown when None."""
    stream = sys.stderr
    if stream.isatty():
        bar = _BarStep(label, total, unit, stream)
        try:
            yield bar
        finally:
            bar.close()
    else:
        log = _LogStep(label, total, unit, stream)
        try:
            yield log
        except BaseException:
            log.say(" (stopped)")
            raise
        log.say(" (done)")


def note(text: str) -> None:
    """Say one line on standard error, above a bar that may stand there."""
    stream = sys.stderr
    if stream.isatty():
        from tqdm import tqdm

        tqdm.write(text, file=stream)
    else:
        print(text, file=stream, flush=True)
