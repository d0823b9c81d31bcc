"""One version of a remote file, read by ranges of bytes.

Every answer is checked for its length, for the file's size and for its ETag (RFC 9110, sections 13
and 14). What may pass by itself (a cut connection, silence, 429, 5xx) is tried again from where it
stopped, with growing pauses.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Event

import urllib3

from cbm_core.remote import web
from cbm_core.remote.addresses import (
    changed,
    forbidden,
    missing,
    redirected,
    shown_location,
    unreachable,
)
from cbm_core.remote.web import Access

_PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_PASSING_CODES = frozenset({"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable"})
_REFUSAL = re.compile("Credential|Token|Signature|Authorization|AccessDenied|AccessKey|TimeTooSkew")

Sink = Callable[[int, bytes], None]  # position in the file, bytes


class _PassingError(Exception):
    """A failure that may pass by itself."""


class RemoteObject:
    """One version of a file at an ``s3://`` or ``http(s)://`` address; safe between threads.

    ``size`` is in bytes; ``version`` is its ETag, or else when it was last modified, or None.
    """

    def __init__(self, href: str, access: Access) -> None:
        """Ask for the first piece, which tells size and version.

        Raises:
            CbmError: as :meth:`read`.

        """
        self.href, self.access = href, access
        self.size = -1
        self.version: str | None = None
        self.parallel = True  # whether ranges can be asked for
        head = bytearray()
        self.copy(0, access.piece, lambda _, data: head.extend(data), Event())
        self._head = bytes(head)

    def beside(self, name: str) -> RemoteObject:
        """Return another file of the same folder.

        Raises:
            CbmError: as :meth:`read`.

        """
        address, mark, query = self.href.partition("?")
        return RemoteObject(f"{address.rpartition('/')[0]}/{name}{mark}{query}", self.access)

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes [start, stop), cut at the end of the file.

        Raises:
            CbmError: ``raster_missing``, ``raster_forbidden``, ``raster_redirected``,
                ``raster_changed`` (replaced since the first piece), ``raster_unreachable``
                (attempts or time used up).

        """
        stop = min(stop, self.size)
        if stop <= start:
            return b""
        if stop <= len(self._head):
            return self._head[start:stop]
        found = bytearray()
        self.copy(start, stop, lambda _, data: found.extend(data), Event())
        return bytes(found)

    def copy(self, start: int, stop: int, sink: Sink, stopped: Event) -> None:
        """Hand bytes [start, stop) on as they come; give up once ``stopped`` is set.

        Raises:
            CbmError: as :meth:`read`.

        """
        patience, at, attempt, last = self.access.patience, start, 0, start
        while True:
            try:
                for data in self._pieces(at, stop):
                    sink(at, data)
                    at += len(data)
                    if stopped.is_set():
                        return
            except _PassingError as error:
                # Whoever gets on may go on: storage that cuts every connection still serves.
                attempt = attempt + 1 if at - last < self.access.piece else 1
                last = at
                pause = min(patience.pause * 2 ** (attempt - 1), patience.longest_pause)
                pause *= random.uniform(0.5, 1.5)  # noqa: S311
                over = time.monotonic() + pause >= self.access.until
                if over or attempt >= patience.attempts:
                    raise unreachable(self.href, str(error)) from None
            else:
                return
            if stopped.wait(pause):
                return

    def _pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """Ask once for [start, stop) and iterate over what comes."""
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        if self.version and self.version.startswith('"'):
            headers["If-Match"] = self.version
        answer = None
        try:
            answer = self.access.get(self.href, headers)
            self._check(answer, start)
            left = min(stop, self.size) - start
            skip = start if answer.status == 200 else 0
            for data in answer.stream(self.access.piece, decode_content=False):
                useful = data[skip : skip + left]
                skip = max(skip - len(data), 0)
                left -= len(useful)
                if useful:
                    yield useful
                if left <= 0:
                    return
            if left > 0:
                raise _PassingError(f"the answer ended {left} bytes early")
        except web.FAILURES as error:
            if web.hopeless(error):
                raise unreachable(self.href, web.reason(error)) from None
            raise _PassingError(web.reason(error)) from None
        finally:
            if answer is not None:
                # Read to its end, the connection serves others; else it is closed.
                answer.close()

    def _check(self, answer: urllib3.BaseHTTPResponse, start: int) -> None:
        """Learn size and version from the first answer; hold all others against them."""
        if answer.status == 416 and self.size < 0:
            self.size = 0
            return
        if answer.status not in {200, 206}:
            raise self._refused(answer)
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        size = _length(answer, start)
        if size is None:
            raise unreachable(self.href, "the server does not say how long the file is")
        if self.size < 0:
            self.size, self.version, self.parallel = size, version, answer.status == 206
        elif (size, version) != (self.size, self.version):
            raise changed(self.href)

    def _refused(self, answer: urllib3.BaseHTTPResponse) -> Exception:
        status = answer.status
        if 300 <= status < 400:
            where = shown_location(answer.headers.get("Location", "")) or "without an address"
            return redirected(self.href, f"HTTP {status}: {where}")
        code = _s3_code(answer)
        what = f"HTTP {status} {code}".rstrip()
        if status in _PASSING_STATUSES or code in _PASSING_CODES:
            return _PassingError(what)
        if status in {404, 410}:
            return missing(self.href)
        if status in {401, 403} or _REFUSAL.search(code):
            return forbidden(self.href, what)
        if status in {412, 416}:
            return changed(self.href)
        return unreachable(self.href, what)


def version_of(href: str, access: Access) -> tuple[int, str | None]:
    """Return size in bytes and version of a file, of which no more than a byte is asked for.

    Raises:
        CbmError: as :meth:`RemoteObject.read`.

    """
    found = RemoteObject(href, replace(access, piece=1))
    return found.size, found.version


def _length(answer: urllib3.BaseHTTPResponse, start: int) -> int | None:
    """Return the whole file's length in bytes; None where the answer does not fit or tell."""
    if answer.status == 200:
        length = answer.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    return int(found[2]) if found and int(found[1]) == start else None


def _s3_code(answer: urllib3.BaseHTTPResponse) -> str:
    """Return the code of S3's error document, empty where there is none."""
    try:
        body = answer.read(4096, decode_content=True)
    except web.FAILURES:
        return ""
    found = re.search(rb"<Code>(\w{1,60})</Code>", body)
    return found[1].decode() if found else ""
