"""Asking HTTP servers on loopback: one after the other for latencies, at once for the rate."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Target:
    """A server, and what is sent with every request.

    ``boxes`` is the address of the parcels in a ``{box}``: west,south,east,north in degrees.
    """

    name: str
    port: int
    headers: dict[str, str] = field(default_factory=dict)
    boxes: str = ""


def latencies(target: Target, paths: Sequence[str]) -> tuple[list[float], float]:
    """Return the seconds of each request on one connection, and the mean bytes of an answer."""
    client = http.client.HTTPConnection("127.0.0.1", target.port, timeout=120)
    taken, size = [], 0
    for path in paths:
        start = time.perf_counter()
        client.request("GET", path, headers=target.headers)
        answer = client.getresponse()
        body = answer.read()
        taken.append(time.perf_counter() - start)
        if answer.status != 200:
            raise SystemExit(f"{target.name}: {path}: {answer.status} {body[:300]!r}")
        size += len(body)
    client.close()
    return taken, size / len(paths)


def body_of(target: Target, path: str) -> bytes:
    """Return one answer."""
    client = http.client.HTTPConnection("127.0.0.1", target.port, timeout=120)
    client.request("GET", path, headers=target.headers)
    answer = client.getresponse()
    found = answer.read()
    client.close()
    if answer.status != 200:
        raise SystemExit(f"{target.name}: {path}: {answer.status} {found[:300]!r}")
    return found


def rate(target: Target, paths: Sequence[str], clients: int) -> float:
    """Return the requests per second that so many clients get together."""
    shares = [paths[number::clients] for number in range(clients)]
    failures: list[BaseException] = []

    def ask(share: Sequence[str]) -> None:
        try:
            latencies(target, share)
        except BaseException as error:  # told by the thread that waits
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(share,)) for share in shares if share]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    if failures:
        raise failures[0]
    return len(paths) / seconds
