"""A TCP proxy on loopback whose faults are switched on and off while it runs.

    with faults.proxy(("127.0.0.1", 8333)) as link:    # or the path of a Unix socket
        connect to link.address ("127.0.0.1", port), or link.url
        link.cut(after=100_000)              # the next connection that answers breaks after so
                                             # many bytes from here on
        link.cut(after=0, times=None)        # every one does, until heal()
        link.stall(after=100_000)            # the same, but it stays open and says nothing more
        link.delay(0.03)                     # every request takes so many seconds longer
        link.throttle(20e6)                  # bytes per second of each connection's answers
        link.refuse()                        # nobody gets through; open connections break
        link.answer(503, "SlowDown", 3)      # the next three HTTP requests get this from the proxy
        link.on_answer(100_000, function)    # call once when so many bytes were answered
        link.heal()                          # no faults from here on

Cut and stall count what flows from the server to the client, on connections made before or after
the fault was switched on, and meet a connection once. ``link.requests`` are the
HTTP request lines seen, ``link.connections`` how many connections were made, ``link.struck`` how
often a fault met somebody (cut, stall, refuse, answer; throttle: blocks held back). Bytes pass
unchanged, so that signatures of S3 requests, TLS and PostgreSQL's protocol work through it.

As a program it stands between benchmarks and a server, in a process of its own:
``python -m tests.faults HOST:PORT --delay 0.03 --throttle 20e6`` prints its address.
"""

import argparse
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Upstream = tuple[str, int] | str | Path

_CHUNK = 64 * 1024
_METHODS = (b"GET ", b"HEAD ", b"PUT ", b"POST ", b"DELETE ")
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends RST


class Proxy:
    """Forwards connections to ``upstream``; see the module for what can be switched."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.connections = 0
        self.requests: list[str] = []
        self.struck: Counter[str] = Counter()
        self.heal()
        self._start(self._accept)

    @property
    def address(self) -> tuple[str, int]:
        return self._listener.getsockname()[:2]

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.address)

    def cut(self, after: int, times: int | None = 1) -> None:
        """Reset a connection once it has answered ``after`` bytes; so many connections, or all."""
        self._breaks = ["cut", after, times]

    def stall(self, after: int, times: int | None = 1) -> None:
        """Fall silent once a connection has answered ``after`` bytes."""
        self._breaks = ["stall", after, times]

    def delay(self, seconds: float) -> None:
        """Hold every request back, and every connection's first one twice, as a long way does."""
        self._delay = seconds

    def throttle(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second

    def refuse(self) -> None:
        """Close new connections at once, and break those that are open."""
        self._refusing = True
        self.struck["refuse"] += self._break_all()

    def answer(self, status: int, code: str, times: int | None = 1) -> None:
        """Answer HTTP requests with an error in S3's form instead of passing them on."""
        self._answers = [status, code, times]

    def on_answer(self, after: int, function: Callable[[], object]) -> None:
        """Call once, before a connection's bytes beyond ``after`` pass to the client."""
        self._trigger = (after, function)

    def heal(self) -> None:
        """Forget all faults; connections already broken stay so."""
        self._breaks: list = ["cut", 0, 0]
        self._answers: list = [0, "", 0]
        self._delay = 0.0
        self._rate = 0.0
        self._refusing = False
        self._trigger: tuple[int, Callable[[], object]] | None = None

    def close(self) -> None:
        self._closed.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._break_all()
        for thread in self._threads:
            thread.join(5)

    def _start(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self._refusing:
                self.struck["refuse"] += 1
                _reset(client)
                continue
            try:
                server = self._connect()
            except OSError:
                _reset(client)
                continue
            with self._lock:
                self._open |= {client, server}
            self._start(self._upwards, client, server)
            self._start(self._downwards, client, server)

    def _connect(self) -> socket.socket:
        if isinstance(self._upstream, tuple):
            return socket.create_connection(self._upstream, timeout=None)
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(self._upstream))
        return server

    def _take(self, fault: list) -> tuple | None:
        """Use a fault once; None when it is used up."""
        with self._lock:
            what, value, times = fault
            if times == 0:
                return None
            fault[2] = times if times is None else times - 1
            return what, value

    def _upwards(self, client: socket.socket, server: socket.socket) -> None:
        """From the client to the server."""
        time.sleep(self._delay)
        with suppress(OSError):
            while data := client.recv(_CHUNK):
                time.sleep(self._delay)
                if data.startswith(_METHODS):
                    self.requests.append(data.partition(b"\r\n")[0].decode("latin-1"))
                    error = self._take(self._answers)
                    if error:
                        self.struck["answer"] += 1
                        client.sendall(_http_error(*error, head=data.startswith(b"HEAD")))
                        break
                server.sendall(data)
        self._end(client, server)

    def _downwards(self, client: socket.socket, server: socket.socket) -> None:
        """From the server to the client."""
        passed = 0
        fault: tuple | None = None
        with suppress(OSError):
            while data := server.recv(_CHUNK):
                if fault is None or fault[0] is not self._breaks:
                    taken = self._take(self._breaks)
                    # Counted from here; forgotten once other faults are switched on.
                    fault = taken and (self._breaks, taken[0], passed + taken[1])
                room = fault[2] - passed if fault else len(data)
                keep = data[:room]
                self._pass(client, keep, passed)
                passed += len(keep)
                if fault and passed >= fault[2]:
                    self._fail(fault[1], client)
                    break
        self._end(client, server)

    def _pass(self, client: socket.socket, data: bytes, passed: int) -> None:
        trigger = self._trigger
        if trigger and passed + len(data) > trigger[0]:
            self._trigger = None
            trigger[1]()
        if self._rate:
            self.struck["throttle"] += 1
            time.sleep(len(data) / self._rate)
        client.sendall(data)

    def _fail(self, kind: str, client: socket.socket) -> None:
        self.struck[kind] += 1
        if kind == "stall":
            while not self._closed.is_set() and not _gone(client):
                time.sleep(0.02)
        _reset(client)

    def _end(self, *ends: socket.socket) -> None:
        """Close both ends in order: what was sent still arrives."""
        with self._lock:
            self._open -= set(ends)
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _break_all(self) -> int:
        """Break what is open, and return how many connections that were."""
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            _reset(end)
        return len(ends) // 2


@contextmanager
def proxy(upstream: Upstream) -> Iterator[Proxy]:
    """Run a proxy for the length of the block."""
    running = Proxy(upstream)
    try:
        yield running
    finally:
        running.close()


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        # Wakes the thread that waits for this end's data, which would keep the socket alive.
        end.shutdown(socket.SHUT_RD)
    end.close()


def _gone(end: socket.socket) -> bool:
    """Whether the other side has hung up."""
    try:
        return end.fileno() < 0 or end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _http_error(status: int, code: str, head: bool) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>"
    lines = [
        f"HTTP/1.1 {status} {code}",
        "Content-Type: application/xml",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", "" if head else body]).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description="A slow way to a server, on loopback.")
    parser.add_argument("upstream", metavar="HOST:PORT")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds per request")
    parser.add_argument("--throttle", type=float, default=0.0, help="bytes/s per connection")
    options = parser.parse_args()
    host, _, port = options.upstream.rpartition(":")
    with proxy((host, int(port))) as running:
        running.delay(options.delay)
        running.throttle(options.throttle)
        print("{}:{}".format(*running.address), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
