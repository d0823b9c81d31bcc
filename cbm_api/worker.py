"""gunicorn's worker with threads, for clients that are slow on purpose too.

A client that sends its request byte by byte, or never takes its answer, would keep a thread for as
long as it likes; a few dozen of them would keep all.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

# Of a request: until its head is there; of its body, until the last byte is.
REQUEST_SECONDS = 15
# Of an answer: until a client takes some of it.
ANSWER_SECONDS = 30


class Worker(ThreadWorker):  # type: ignore[misc]
    """Closes connections whose clients let it wait."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """As gunicorn does."""
        super().__init__(*arguments, **options)
        self._waiting: dict[Any, float] = {}

    def notify(self) -> None:
        """Tell gunicorn that the worker lives, once a second, and close what is late."""
        super().notify()
        now = time.monotonic()
        for connection, deadline in list(self._waiting.items()):
            if deadline < now:
                # Wakes the thread that reads from it.
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

    def handle(self, conn: Any) -> Any:
        """Read a request and answer it, in a thread."""
        taken = struct.pack("@ll", ANSWER_SECONDS, 0)
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, taken)
        with self._until(conn, time.monotonic() + REQUEST_SECONDS):
            return super().handle(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request whose head is there."""
        self._waiting.pop(conn, None)
        deadline = time.monotonic() + REQUEST_SECONDS
        reader = req.body.reader
        req.body.reader = _Hurried(reader, lambda: self._until(conn, deadline))
        try:
            return super().handle_request(req, conn)
        except BlockingIOError:
            self.log.info("A client took nothing for %s s: closed.", ANSWER_SECONDS)
            return False

    @contextmanager
    def _until(self, connection: Any, deadline: float) -> Iterator[None]:
        self._waiting[connection] = deadline
        try:
            yield
        finally:
            self._waiting.pop(connection, None)


class _Hurried:
    """Reads a request's body while somebody looks at the clock."""

    def __init__(self, reader: Any, watched: Callable[[], Any]) -> None:
        self._reader = reader
        self._watched = watched

    def read(self, size: int) -> bytes:
        with self._watched():
            data: bytes = self._reader.read(size)
            return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)
