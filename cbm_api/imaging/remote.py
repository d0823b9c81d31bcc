"""Byte ranges of files on the web and on S3, as GDAL asks for them.

GDAL's own /vsis3/ and /vsicurl/ are not used: rasterio calls GDAL for a file's facts with Python's
global lock held, so that a storage that says nothing would stop the whole process, and two threads
that ask for the same bytes can wait for each other for ever. Python's sockets let the others run.
S3 objects are asked for by presigned addresses, which never come into a message.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections import OrderedDict
from functools import lru_cache
from typing import Any

import requests
from rasterio.abc import FileContainer
from requests.adapters import HTTPAdapter

from cbm_core.settings import StorageSettings

_PIECE = 32 * 1024  # bytes: what is asked for at least
_KEPT_PIECES = 128
_ATTEMPTS, _PAUSE, _CONNECT_SECONDS = 3, 0.2, 5.0
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_LINK_SECONDS = 900


class RemoteError(Exception):
    """A range could not be had; ``missing`` says that there is no such file."""

    def __init__(self, text: str, *, missing: bool = False) -> None:
        """Keep the reason, which names no address."""
        super().__init__(text)
        self.missing = missing


class Web:
    """Where files are asked for, and how long: ``seconds`` for one file, all attempts together."""

    def __init__(self, storage: StorageSettings, seconds: int) -> None:
        """Prepare; nothing is asked yet."""
        self._storage = storage
        self.seconds = seconds
        self.ca_file = storage.ca_file
        self._session = requests.Session()
        self._session.mount("https://", HTTPAdapter(pool_maxsize=16))
        self._session.mount("http://", HTTPAdapter(pool_maxsize=16))
        if storage.ca_file:
            self._session.verify = storage.ca_file

    def get(self, href: str, start: int, stop: int, until: float) -> tuple[bytes, int, str]:
        """Return bytes [start, stop) of a file, its size and its version (ETag, or when changed).

        Raises:
            RemoteError: when it is not to be had before ``until`` (of :func:`time.monotonic`).

        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._ask(href, start, stop, until)
            except (requests.RequestException, OSError, _PassingError) as error:
                if attempt >= _ATTEMPTS or time.monotonic() + _PAUSE * attempt > until:
                    raise RemoteError(type(error).__name__ + _status(error)) from None
            time.sleep(_PAUSE * attempt)

    def _ask(self, href: str, start: int, stop: int, until: float) -> tuple[bytes, int, str]:
        left = max(until - time.monotonic(), 0.1)
        answer = self._session.get(
            self._address(href),
            headers={"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"},
            timeout=(min(_CONNECT_SECONDS, left), left),
        )
        status, data = answer.status_code, answer.content
        if status in _PASSING:
            raise _PassingError(status)
        if status in (404, 410):
            raise RemoteError(f"HTTP {status}", missing=True)
        whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
        if status != 206 or not whole.isdigit():
            raise RemoteError(f"HTTP {status} instead of a range")
        size = int(whole)
        if len(data) != min(stop, size) - start:
            raise _PassingError(status)
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        return data, size, version

    def _address(self, href: str) -> str:
        if not href.startswith("s3://"):
            return href
        from botocore.exceptions import BotoCoreError

        bucket, _, key = href.removeprefix("s3://").partition("/")
        try:
            address: str = _s3(self._storage, os.getpid()).generate_presigned_url(
                "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=_LINK_SECONDS
            )
        except BotoCoreError as error:
            raise RemoteError(f"no credentials that serve: {error}") from None
        return address


class RemoteFolder(FileContainer):  # type: ignore[misc]
    """What GDAL sees of a remote file's surroundings: the file, and its header if it is ENVI.

    GDAL makes do with short reads, so whoever uses what it read looks at ``trouble`` first.
    """

    def __init__(self, web: Web, href: str, name: str) -> None:
        """``name`` is what GDAL calls the file."""
        self._web, self._href, self._name = web, href, name
        self.until = time.monotonic() + web.seconds
        self.trouble: RemoteError | None = None
        self._files: dict[str, _Pieces] = {}

    def open(self, path: str, _mode: str = "rb", **_options: object) -> io.RawIOBase:
        """Open the file, or an ENVI header beside it; FileNotFoundError for all else."""
        if path != self._name and not path.endswith(".hdr"):
            raise FileNotFoundError(path)
        if path not in self._files:
            before, mark, query = self._href.partition("?")
            beside = f"{before.rpartition('/')[0]}/{path.rpartition('/')[2]}{mark}{query}"
            self._files[path] = _Pieces(
                self, self._web, self._href if path == self._name else beside
            )
        pieces = self._files[path]
        if pieces.size < 0 and not pieces.read(0, 1):
            if path != self._name:
                self.trouble = None if self.trouble and self.trouble.missing else self.trouble
            raise FileNotFoundError(path)
        return _RemoteFile(pieces)

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

    def size(self, path: str) -> int:
        """Return the file's length in bytes."""
        return self._files[path].size if path in self._files else 0


class _Pieces:
    """One version of a remote file, in pieces, some of which are kept."""

    def __init__(self, folder: RemoteFolder, web: Web, href: str) -> None:
        self._folder, self._web, self._href = folder, web, href
        self.size = -1
        self._version = ""
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes [start, stop), fewer at the end of the file; none after trouble."""
        if self._folder.trouble or stop <= start:
            return b""
        try:
            with self._lock:
                return self._range(start, stop)
        except RemoteError as error:
            self._folder.trouble = error
            return b""

    def _range(self, start: int, stop: int) -> bytes:
        first, last = start // _PIECE, (stop - 1) // _PIECE
        missing = [number for number in range(first, last + 1) if number not in self._kept]
        if missing:
            begin = missing[0] * _PIECE
            end = (missing[-1] + 1) * _PIECE
            data, size, version = self._web.get(self._href, begin, end, self._folder.until)
            if self.size >= 0 and (size, version) != (self.size, self._version):
                raise RemoteError("the file was replaced while it was read")
            self.size, self._version = size, version
            for number in range(missing[0], missing[-1] + 1):
                self._kept[number] = data[number * _PIECE - begin : (number + 1) * _PIECE - begin]
        found = b"".join(self._kept[number] for number in range(first, last + 1))
        while len(self._kept) > _KEPT_PIECES:
            self._kept.popitem(last=False)
        return found[start - first * _PIECE : stop - first * _PIECE]


class _RemoteFile(io.RawIOBase):
    """Pieces as a file object, one for each time GDAL opens the file."""

    def __init__(self, pieces: _Pieces) -> None:
        super().__init__()
        self._pieces, self._at = pieces, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {0: 0, 1: self._at, 2: self._pieces.size}[whence] + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._pieces.size
        found = self._pieces.read(self._at, end if size < 0 else min(self._at + size, end))
        self._at += len(found)
        return found


class _PassingError(Exception):
    """A failure that may pass by itself; its argument is the HTTP status."""


def _status(error: Exception) -> str:
    return f" (HTTP {error.args[0]})" if isinstance(error, _PassingError) else ""


@lru_cache(maxsize=4)
def _s3(storage: StorageSettings, _pid: int) -> Any:
    """Return boto3's client for the storage of the settings; without, AWS's environment serves."""
    from boto3.session import Session
    from botocore.config import Config
    from botocore.session import Session as Configured

    own = Configured(profile=storage.profile if storage.credentials_file else None)
    if storage.credentials_file:
        own.set_config_variable("credentials_file", storage.credentials_file)
        own.set_config_variable("config_file", os.devnull)
    style = "auto" if not storage.endpoint else "virtual" if storage.virtual_hosting else "path"
    region = storage.region if storage.endpoint or storage.credentials_file else None
    return Session(botocore_session=own).client(
        "s3",
        endpoint_url=storage.endpoint,
        region_name=region or own.get_config_variable("region") or storage.region,
        config=Config(s3={"addressing_style": style}, signature_version="s3v4"),
    )
