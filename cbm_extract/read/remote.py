"""Reading byte ranges of remote files so that what arrives is right, or an error.

One version of the file is read: every answer is checked for its length, for the file's size and
for its ETag (RFC 9110, sections 13 and 14). What may pass by itself (a cut connection, silence,
429, 5xx) is tried again from where it stopped, with growing pauses. S3 objects are asked for by
presigned addresses, so that one way serves the web and S3 alike; these never come into a message.
"""

from __future__ import annotations

import io
import os
import random
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from threading import Event, Lock
from typing import Any

import requests
import urllib3
from rasterio.abc import FileContainer

from cbm_core.errors import CbmError
from cbm_extract.read import gdal, storage

PIECE = 256 * 1024  # bytes: what is asked for at least, and handed on at a time
_KEPT_PIECES = 64
_PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_PASSING_CODES = frozenset({"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable"})
_REFUSAL = re.compile("Credential|Token|Signature|Authorization|AccessDenied|AccessKey|TimeTooSkew")

Sink = Callable[[int, bytes], None]  # position in the file, bytes


@dataclass(frozen=True)
class Patience:
    """How often a range is tried; the pause doubles each time. All times in seconds."""

    attempts: int = 6
    pause: float = 0.5
    longest_pause: float = 20.0
    connect: float = 15.0
    silence: float = 30.0


PATIENCE = Patience()


class _PassingError(Exception):
    """A failure that may pass by itself."""


class RemoteObject:
    """One version of a file at an ``s3://`` or ``http(s)://`` address; safe between threads.

    ``size`` is in bytes; ``version`` is its ETag, or else when it was last modified, or None.
    """

    def __init__(self, href: str, patience: Patience | None = None, first: int = PIECE) -> None:
        """Ask for the first bytes, which tells size and version.

        Raises:
            CbmError: as :meth:`read`.

        """
        self.href = href
        self.size = -1
        self.version: str | None = None
        self.parallel = True  # whether ranges can be asked for
        self._patience = patience or PATIENCE
        head = bytearray()
        self.copy(0, first, lambda _, data: head.extend(data), Event())
        self._head = bytes(head)

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes [start, stop), cut at the end of the file.

        Raises:
            CbmError: ``raster_missing``, ``raster_forbidden``, ``raster_changed`` (replaced since
                the first piece), ``raster_unreachable`` (attempts used up).

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
        patience, at, attempt, last = self._patience, start, 0, start
        while True:
            try:
                for data in self._pieces(at, stop):
                    sink(at, data)
                    at += len(data)
                    if stopped.is_set():
                        return
            except _PassingError as error:
                # Whoever gets on may go on: storage that cuts every connection still serves.
                attempt = attempt + 1 if at - last < PIECE else 1
                last = at
                if attempt >= patience.attempts:
                    raise gdal.unreachable(self.href, str(error)) from None
            else:
                return
            pause = min(patience.pause * 2 ** (attempt - 1), patience.longest_pause)
            if stopped.wait(pause * random.uniform(0.5, 1.5)):  # noqa: S311
                return

    def _pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """Ask once for [start, stop) and iterate over what comes."""
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        if self.version and self.version.startswith('"'):
            headers["If-Match"] = self.version
        address = storage.link(self.href) if self.href.startswith("s3://") else self.href
        times = self._patience.connect, self._patience.silence
        try:
            with session().get(address, headers=headers, timeout=times, stream=True) as answer:
                self._check(answer, start)
                left = min(stop, self.size) - start
                skip = start if answer.status_code == 200 else 0
                for data in answer.raw.stream(PIECE, decode_content=False):
                    useful = data[skip : skip + left]
                    skip = max(skip - len(data), 0)
                    left -= len(useful)
                    if useful:
                        yield useful
                    if left <= 0:
                        return
                if left > 0:
                    raise _PassingError(f"the answer ended {left} bytes early")
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if _hopeless(error):
                raise gdal.unreachable(self.href, _why(error)) from None
            raise _PassingError(_why(error)) from None

    def _check(self, answer: requests.Response, start: int) -> None:
        """Learn size and version from the first answer; hold all others against them."""
        status = answer.status_code
        if status == 416 and self.size < 0:
            self.size = 0
            return
        if status not in {200, 206}:
            raise self._refused(answer)
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        size = _length(answer, start)
        if size is None:
            raise gdal.unreachable(self.href, "the server does not say how long the file is")
        if self.size < 0:
            self.size, self.version, self.parallel = size, version, status == 206
        elif (size, version) != (self.size, self.version):
            raise changed(self.href)

    def _refused(self, answer: requests.Response) -> Exception:
        status, code = answer.status_code, _s3_code(answer)
        what = f"HTTP {status} {code}".rstrip()
        if status in _PASSING_STATUSES or code in _PASSING_CODES:
            return _PassingError(what)
        if status in {404, 410}:
            return gdal.missing(self.href)
        if status in {401, 403} or _REFUSAL.search(code):
            return gdal.forbidden(self.href, what)
        if status in {412, 416}:
            return changed(self.href)
        return gdal.unreachable(self.href, what)


class Pieces:
    """A remote object as GDAL reads it: in pieces, some of which are kept.

    GDAL makes do with short reads (a header without its last tags, say), so whoever uses what it
    read looks at ``trouble`` first: the error that ended reading, None while there was none.
    """

    def __init__(self, remote: RemoteObject) -> None:
        """Nothing is read yet beyond what opening brought."""
        self.remote = remote
        self.trouble: CbmError | None = None
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._lock = Lock()

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes [start, stop); none after trouble."""
        if self.trouble or stop <= start:
            return b""
        try:
            with self._lock:
                return self._range(start, stop)
        except CbmError as error:
            self.trouble = error
            return b""

    def _range(self, start: int, stop: int) -> bytes:
        first, last = start // PIECE, (stop - 1) // PIECE
        missing = [number for number in range(first, last + 1) if number not in self._kept]
        if missing:
            begin = missing[0] * PIECE
            data = self.remote.read(begin, (missing[-1] + 1) * PIECE)
            for number in range(missing[0], missing[-1] + 1):
                at = number * PIECE - begin
                self._kept[number] = data[at : at + PIECE]
        found = b"".join(self._kept[number] for number in range(first, last + 1))
        while len(self._kept) > _KEPT_PIECES:
            self._kept.popitem(last=False)
        return found[start - first * PIECE : stop - first * PIECE]


class RemoteFile(io.RawIOBase):
    """Pieces as a file object, one for each time GDAL opens the file."""

    def __init__(self, pieces: Pieces) -> None:
        """Start at the first byte."""
        super().__init__()
        self._pieces, self._at = pieces, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, and return the position."""
        self._at = {0: 0, 1: self._at, 2: self._pieces.remote.size}[whence] + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; none at the end, or after trouble."""
        end = self._pieces.remote.size
        found = self._pieces.read(self._at, end if size < 0 else min(self._at + size, end))
        self._at += len(found)
        return found


class RemoteFolder(FileContainer):  # type: ignore[misc]
    """What GDAL sees of a remote file's surroundings: the file, and its header if it is ENVI."""

    def __init__(self, name: str, pieces: Pieces) -> None:
        """``name`` is what GDAL calls the file."""
        self._name, self.pieces = name, pieces

    def open(self, path: str, _mode: str = "rb", **_options: object) -> RemoteFile:
        """Open the file, or an ENVI header beside it; FileNotFoundError for all else."""
        if path == self._name:
            return RemoteFile(self.pieces)
        wanted = path.rpartition("/")[2]
        if not wanted.endswith(".hdr"):
            raise FileNotFoundError(path)
        address, mark, query = self.pieces.remote.href.partition("?")
        beside = f"{address.rpartition('/')[0]}/{wanted}{mark}{query}"
        try:
            return RemoteFile(Pieces(RemoteObject(beside)))
        except CbmError as error:
            if error.code != "raster_missing":
                self.pieces.trouble = error
            raise FileNotFoundError(path) from error

    def isfile(self, path: str) -> bool:
        """Say whether there is such a file; sidecars are not looked for."""
        return path == self._name

    def isdir(self, _path: str) -> bool:
        """Return False."""
        return False

    def ls(self, _path: str) -> list[str]:
        """Return nothing: folders are not listed."""
        return []

    def mtime(self, _path: str) -> int:
        """Return 0: versions are told by ETag."""
        return 0

    def rm(self, path: str) -> None:
        """Refuse."""
        raise PermissionError(path)

    def size(self, _path: str) -> int:
        """Return the file's length in bytes."""
        return self.pieces.remote.size


def session() -> requests.Session:
    """Return the connections of this process."""
    return _session(os.getpid())


@lru_cache(maxsize=1)
def _session(_pid: int) -> requests.Session:
    found = requests.Session()
    adapter = requests.adapters.HTTPAdapter(pool_maxsize=8, max_retries=0)
    found.mount("https://", adapter)
    found.mount("http://", adapter)
    return found


def changed(href: str) -> CbmError:
    """Say that a file was replaced while it was read."""
    return CbmError(
        "raster_changed",
        f"{gdal.shown(href)} was replaced while it was read.",
        "Read it again once nobody writes there.",
    )


def _length(answer: requests.Response, start: int) -> int | None:
    """Return the whole file's length in bytes; None where the answer does not fit or tell."""
    if answer.status_code == 200:
        length = answer.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    return int(found[2]) if found and int(found[1]) == start else None


def _s3_code(answer: requests.Response) -> str:
    """Return the code of S3's error document, empty where there is none."""
    try:
        body: Any = answer.raw.read(4096, decode_content=True)
    except (urllib3.exceptions.HTTPError, OSError):
        return ""
    found = re.search(rb"<Code>(\w{1,60})</Code>", body or b"")
    return found[1].decode() if found else ""


def _hopeless(error: Exception) -> bool:
    return isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE" in str(error)


def _why(error: BaseException) -> str:
    """Return the innermost cause in words, without the address, which may hold a signature."""
    while inner := [one for one in (getattr(error, "reason", None), *error.args) if _is_error(one)]:
        error = inner[-1]
    text = getattr(error, "strerror", None) or re.sub(
        r"^\S*<[^>]*>: |^\w+\(.*?\): ", "", str(error)
    )
    return re.sub(r"\S*\?\S*", "...", " ".join(str(text).split())).rstrip(".")[:300]


def _is_error(one: object) -> bool:
    return isinstance(one, Exception)
