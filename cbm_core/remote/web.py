"""HTTP as remote files are asked for: an end to all waiting, and nothing that was not asked for.

Addresses come from the catalogue. So redirects are not followed, which could lead into networks
that only this host reaches; no login is taken from .netrc; no cookie is kept. Proxies that the
environment names serve those only who ask for it.

The time-outs of Python's HTTP are of one receive each: a server that sends a byte now and then
would hold a thread for ever. Here connections read through :class:`_Timed`, which counts.
"""

from __future__ import annotations

import http.client
import io
import math
import os
import re
import socket
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, LocationValueError, SSLError

from cbm_core.remote import storage
from cbm_core.settings import StorageSettings

PIECE = 256 * 1024  # bytes
_CONNECTIONS = 16  # kept open to a host


@dataclass(frozen=True)
class Patience:
    """How often a range is tried; the pause doubles each time. All times in seconds.

    ``silence`` is how long a piece may take that arrives bit by bit, or not at all.
    """

    attempts: int = 6
    pause: float = 0.5
    longest_pause: float = 20.0
    connect: float = 15.0
    silence: float = 30.0


@dataclass(frozen=True)
class Access:
    """Who asks, and how.

    At least ``piece`` bytes are asked for. Nothing is waited for beyond ``until`` (of
    :func:`time.monotonic`), except for the resolver of names, which has a time-out of its own.
    ``proxied`` goes through the proxies that the environment names (``https_proxy``, ``no_proxy``).
    """

    storage: StorageSettings = field(default_factory=StorageSettings)
    patience: Patience = field(default_factory=Patience)
    piece: int = PIECE
    until: float = math.inf
    proxied: bool = False

    def get(self, href: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """Return the answer as soon as its headers are here; close it.

        Raises:
            TimeoutError: ``until`` is over.
            CbmError: as :func:`cbm_core.remote.storage.link`.
            urllib3.exceptions.HTTPError: no answer.

        """
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("there is no time left")
        patience = self.patience
        times = urllib3.Timeout(min(patience.connect, left), min(patience.silence, left))
        address = storage.link(href, self.storage) if href.startswith("s3://") else href
        proxy = _proxy(address) if self.proxied else None
        with _making:  # or each thread that comes first makes its own
            pool = _pool(os.getpid(), self.storage.ca_file, proxy)
        _asking.access = self
        return pool.request(
            "GET", address, headers=headers, timeout=times, redirect=False, preload_content=False
        )

    def whole(self, address: str, most: int) -> tuple[int, bytes]:
        """Return status and body, of which no more than ``most`` bytes are read.

        Raises:
            OSError, urllib3.exceptions.HTTPError: see ``FAILURES``; no answer, or none in time.

        """
        with closing(self.get(address, {})) as answer:
            return answer.status, answer.read(most, decode_content=True)


_asking = threading.local()
_making = threading.Lock()


class _Timed(io.RawIOBase):
    """What comes over a connection, while it comes quickly enough."""

    def __init__(self, line: socket.socket, raw: io.RawIOBase, access: Access) -> None:
        self._line, self._raw, self._access = line, raw, access
        self._waited, self._come = 0.0, 0  # for this piece, and of it

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        begun = time.monotonic()
        left = min(self._access.until - begun, self._access.patience.silence - self._waited)
        if left <= 0:
            raise TimeoutError("timed out")
        self._line.settimeout(left)
        count = self._raw.readinto(buffer)
        self._waited += time.monotonic() - begun
        self._come += count or 0
        if self._come >= self._access.piece:
            self._waited, self._come = 0.0, 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """Headers and body of what this thread asks for."""

    def __init__(self, line: socket.socket, *given: Any, **named: Any) -> None:
        super().__init__(line, *given, **named)
        self.fp = io.BufferedReader(_Timed(line, self.fp.detach(), _asking.access))


class _Http(HTTPConnection):
    response_class = _Answer


class _Https(HTTPSConnection):
    response_class = _Answer


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Https


@lru_cache(maxsize=8)
def _pool(_pid: int, ca_file: str | None, proxy: str | None) -> urllib3.PoolManager:
    """Return the connections of this process."""
    ca_certs = ca_file or os.environ.get("REQUESTS_CA_BUNDLE") or certifi.where()
    given: dict[str, Any] = {"maxsize": _CONNECTIONS, "retries": False, "ca_certs": ca_certs}
    if proxy is None:
        pool = urllib3.PoolManager(**given)
    else:
        login = unquote(urllib3.util.parse_url(proxy).auth or "")
        headers = urllib3.make_headers(proxy_basic_auth=login or None)
        pool = urllib3.ProxyManager(proxy, proxy_headers=headers, **given)
    pool.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
    return pool


def _proxy(address: str) -> str | None:
    parts = urlsplit(address)
    named = getproxies().get(parts.scheme)
    if not named or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return named if "://" in named else f"http://{named}"


def hopeless(error: Exception) -> bool:
    """Say whether asking again would bring the same: a wrong certificate, no address."""
    wrong = isinstance(error, SSLError) and "CERTIFICATE" in str(error)
    return wrong or isinstance(error, LocationValueError)


def reason(error: BaseException) -> str:
    """Return the innermost cause in words, without the address, which may hold a signature."""
    while inner := [one for one in (getattr(error, "reason", None), *error.args) if _is_error(one)]:
        error = inner[-1]
    text = getattr(error, "strerror", None) or re.sub(
        r"^\S*<[^>]*>: |^\w+\(.*?\): ", "", str(error)
    )
    return re.sub(r"\S*\?\S*", "...", " ".join(str(text).split())).rstrip(".")[:300]


def _is_error(one: object) -> bool:
    return isinstance(one, Exception)


FAILURES = (HTTPError, OSError)
