"""Servers that drip, lie, refuse and send elsewhere: an error in time, and the thread is free."""

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest

from cbm_core.errors import CbmError
from cbm_core.remote.objects import RemoteObject
from cbm_core.remote.web import Access, Patience
from cbm_core.settings import StorageSettings
from tests.unit.read.server import serve

BODY = bytes(range(256)) * 40
HEAD = f"Content-Range: bytes 0-{len(BODY) - 1}/{len(BODY)}\r\nContent-Length: {len(BODY)}\r\n"
RANGE = f"HTTP/1.1 206 Partial Content\r\n{HEAD}\r\n".encode()
HASTY = Patience(attempts=3, pause=0.01, silence=20.0)


@dataclass
class Raw:
    """A server that is not bound to HTTP; ``asked`` are the heads of the requests it read."""

    url: str
    asked: list[str] = field(default_factory=list)


Talk = Callable[[socket.socket, threading.Event], None]


@contextmanager
def talking(talk: Talk, context: ssl.SSLContext | None = None) -> Iterator[Raw]:
    """Serve each connection by ``talk(connection, over)`` after its request has arrived."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    raw = Raw("http{}://{}:{}/f".format("s" if context else "", *listener.getsockname()))
    threads = []

    def one(connection: socket.socket) -> None:
        with (
            suppress(OSError),
            (
                context.wrap_socket(connection, server_side=True) if context else connection
            ) as connection,
        ):
            raw.asked.append(connection.recv(10_000).decode("latin-1"))
            talk(connection, over)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=one, args=(connection,)))
                threads[-1].start()

    threads.append(threading.Thread(target=accept))
    threads[0].start()
    try:
        yield raw
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in threads:
            thread.join(10)


def drip(data: bytes) -> Talk:
    """Say what comes first at once, and the rest a byte at a time."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        for number in range(len(data)):
            connection.sendall(data[number : number + 1])
            if over.wait(0.02):
                return

    return talk


def error_of(href: str, access: Access | None = None) -> CbmError:
    with pytest.raises(CbmError) as caught:
        RemoteObject(href, access or Access(patience=HASTY))
    return caught.value


def within(seconds: float) -> Access:
    return Access(patience=HASTY, until=time.monotonic() + seconds)


@pytest.mark.parametrize(
    "data",
    [
        RANGE + BODY,
        RANGE.replace(b"HTTP/1.1", b"HTTP/1.0") + BODY,
        b"HTTP/1.1 503 x\r\n\r\n" + BODY,
    ],
    ids=["body", "closing", "error"],
)
@pytest.mark.parametrize("start", [0, -1], ids=["headers", "body"])
def test_a_dripping_server_is_left_at_the_deadline(data, start):
    quick = data.index(b"\r\n\r\n") + 4 if start else 0

    def talk(connection, over):
        connection.sendall(data[:quick])
        drip(data[quick:])(connection, over)

    # At this pace the body takes more than three minutes, and no receive is ever late.
    with talking(talk) as raw, ThreadPoolExecutor(1) as pool:
        begun = time.monotonic()
        future = pool.submit(error_of, raw.url, within(1.0))
        error = future.result(timeout=15)
        assert time.monotonic() - begun < 10
        assert error.code == "raster_unreachable"
        # The thread is free for others.
        assert pool.submit(lambda: 7).result(timeout=5) == 7


def test_a_server_that_falls_silent_late_is_left_at_the_deadline_too():
    def talk(connection, over):
        connection.sendall(RANGE + BODY[:10])
        over.wait(0.7)
        connection.sendall(BODY[10:20])
        over.wait(30)

    with talking(talk) as raw:
        begun = time.monotonic()
        assert error_of(raw.url, within(1.0)).code == "raster_unreachable"
        assert time.monotonic() - begun < 10


def test_without_a_deadline_a_drip_counts_as_silence():
    access = Access(patience=Patience(attempts=2, pause=0.01, silence=0.3))
    with talking(drip(RANGE + BODY)) as raw:
        assert error_of(raw.url, access).code == "raster_unreachable"
        assert len(raw.asked) == 2


def test_slow_is_not_dripping():
    access = Access(patience=Patience(attempts=1, silence=0.5), piece=1024)

    def talk(connection, over):
        connection.sendall(RANGE)
        for start in range(0, len(BODY), 1024):
            connection.sendall(BODY[start : start + 1024])
            over.wait(0.1)

    with talking(talk) as raw:  # takes a second in all
        found = bytearray()
        remote = RemoteObject(raw.url, access)
        remote.copy(0, len(BODY), lambda _, data: found.extend(data), threading.Event())
        assert bytes(found) == BODY


def test_nothing_is_asked_when_no_time_is_left():
    with serve({"/f": BODY}) as site:
        error = error_of(f"{site.url}/f", within(-1))
        assert error.code == "raster_unreachable"
        assert "no time left" in error.message
        assert site.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_refused_and_nobody_goes_there(status):
    with serve({"/f": BODY}) as inner:
        there = f"{inner.url}/f"

        def talk(connection, _over):
            head = f"HTTP/1.1 {status} x\r\nLocation: {there}?token=secret\r\n"
            # A body without an end, which nobody needs.
            connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            while True:
                connection.sendall(b"1000\r\n" + bytes(4096) + b"\r\n")

        with talking(talk) as raw:
            error = error_of(raw.url, within(30))
            assert len(raw.asked) == 1
        assert inner.requests == []
    assert error.code == "raster_redirected"
    assert there in error.message
    assert f"HTTP {status}" in error.message
    assert "secret" not in str(error)
    assert "not followed" in error.hint


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("/other/x.tif?X-Amz-Signature=SECRET", "/other/x.tif"),
        ("x.tif?X-Amz-Signature=SECRET", "x.tif"),
        ("?X-Amz-Signature=SECRET", "without an address"),
        ("//other/x.tif?X-Amz-Signature=SECRET", "//other/x.tif"),
        ("//user:SECRET@other/x.tif", "//other/x.tif"),
        ("HTTPS://user:SECRET@other/x.tif#SECRET", "HTTPS://other/x.tif"),
    ],
)
def test_no_redirect_shows_a_secret(location, told):
    def talk(connection, _over):
        head = f"HTTP/1.1 307 x\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        connection.sendall(head.encode())

    with talking(talk) as raw:
        error = error_of(raw.url)
    assert error.code == "raster_redirected"
    assert f"HTTP 307: {told})" in error.message
    assert "SECRET" not in str(error)


@pytest.mark.parametrize(
    ("statuses", "code", "asked"),
    [
        ([404], "raster_missing", 1),
        ([410], "raster_missing", 1),
        ([401], "raster_forbidden", 1),
        ([403], "raster_forbidden", 1),
        ([400], "raster_unreachable", 1),
        ([500, 500, 500], "raster_unreachable", 3),
        ([503, 429, 502], "raster_unreachable", 3),
        ([204], "raster_unreachable", 1),
    ],
)
def test_statuses_that_are_no_file(statuses, code, asked):
    with serve({"/f": BODY}) as site:
        site.failures["/f"] = list(statuses)
        error = error_of(f"{site.url}/f?token=secret")
        assert error.code == code
        assert len(site.requests) == asked
        assert "secret" not in str(error)


def test_passing_failures_pass():
    with serve({"/f": BODY}) as site:
        site.failures["/f"] = [500, 503]
        assert RemoteObject(f"{site.url}/f", Access(patience=HASTY)).read(0, 9999) == BODY[:9999]


def test_a_body_that_is_short_is_asked_for_again_from_where_it_ended():
    def talk(connection, _over):
        first = int(raw.asked[-1].partition("bytes=")[2].partition("-")[0])
        head = f"Content-Range: bytes {first}-{len(BODY) - 1}/{len(BODY)}\r\n"
        connection.sendall(f"HTTP/1.1 206 x\r\n{head}Connection: close\r\n\r\n".encode())
        connection.sendall(BODY[first : first + 4000])

    # Without progress of a piece each time, attempts are used up.
    with talking(talk) as raw:
        found = RemoteObject(raw.url, Access(patience=HASTY, piece=4000))
        assert found.read(0, len(BODY)) == BODY
        assert len(raw.asked) == 4
    with talking(talk) as raw:
        assert error_of(raw.url, Access(patience=Patience(2, 0.01))).code == "raster_unreachable"
        assert len(raw.asked) == 2


def test_neither_proxies_nor_logins_of_the_environment_are_used(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))

    def talk(connection, _over):
        connection.sendall(RANGE + BODY)

    with talking(talk) as proxy, talking(talk) as raw:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/f"))
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        RemoteObject(raw.url, Access())
        assert proxy.asked == []
        assert "authorization" not in raw.asked[0].lower()
        # Who asks for the proxy goes there, with its own login alone.
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/f").replace("//", "//u:p%40@"))
        RemoteObject(raw.url, Access(proxied=True))
        assert proxy.asked[0].startswith(f"GET {raw.url} ")
        assert "proxy-authorization: Basic dTpwQA==" in proxy.asked[0]
        assert len(raw.asked) == 1
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        RemoteObject(raw.url, Access(proxied=True))
        assert (len(proxy.asked), len(raw.asked)) == (1, 2)


def test_no_cookie_is_kept():
    def talk(connection, _over):
        connection.sendall(RANGE.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b\r\n\r\n") + BODY)

    with talking(talk) as raw:
        for _ in range(2):
            RemoteObject(raw.url, Access())
        assert all("cookie" not in one.lower() for one in raw.asked)


@pytest.mark.parametrize("href", ["http:///f", "http://[::1/f", "https://127.0.0.1:x/f"])
def test_an_address_that_is_none_is_tried_once(href):
    access = Access(patience=Patience(attempts=6, pause=60))
    assert error_of(href, access).code == "raster_unreachable"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that signs itself, with its key."""
    path = tmp_path_factory.mktemp("tls") / "host.pem"
    key = path.with_suffix(".key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", path],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    return context, StorageSettings(ca_file=str(path))


def test_over_tls_a_dripping_server_is_left_at_the_deadline(certificate):
    context, trusting = certificate
    with talking(lambda connection, _over: connection.sendall(RANGE + BODY), context) as raw:
        assert RemoteObject(raw.url, Access(trusting)).read(0, len(BODY)) == BODY
    for quick in (0, len(RANGE) + 10):

        def talk(connection, over, quick=quick):
            connection.sendall((RANGE + BODY)[:quick])
            drip((RANGE + BODY)[quick:])(connection, over)

        with talking(talk, context) as raw:
            begun = time.monotonic()
            access = Access(trusting, HASTY, until=begun + 1)
            assert error_of(raw.url, access).code == "raster_unreachable"
            assert time.monotonic() - begun < 10


def test_a_server_that_never_shows_its_certificate_is_left_at_the_deadline():
    with talking(lambda _connection, over: over.wait(30)) as raw:
        begun = time.monotonic()
        secure = raw.url.replace("http://", "https://")
        assert error_of(secure, within(1)).code == "raster_unreachable"
        assert time.monotonic() - begun < 10


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(certificate):
    access = Access(patience=Patience(attempts=6, pause=60))
    with talking(lambda *_given: None, certificate[0]) as raw:
        error = error_of(raw.url, access)
        assert error.code == "raster_unreachable"
        assert "certificate" in error.message.lower()
        assert raw.asked == []
