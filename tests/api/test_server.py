"""gunicorn as it is configured: slow clients, too much at once, a database that goes away."""

import socket
import threading
import time
from contextlib import closing
from dataclasses import replace

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from cbm_api.gunicorn import require_sessions
from cbm_core import db as database
from cbm_core.errors import CbmError
from tests.api.conftest import PASSWORD, add_user
from tests.api.serving import gunicorn
from tests.api.test_tiles import at
from tests.factories import add_dataset, add_parcels, sql, square

pytestmark = pytest.mark.postgis
PARCEL = square(600_000, 5_300_000)
TILE = at(PARCEL, 14)
# Clients are given two seconds instead of fifteen.
HURRY = "import cbm_api.worker\ncbm_api.worker.REQUEST_SECONDS = 2"
ANNA = ("anna", PASSWORD)


@pytest.fixture
def world(db):
    """A dataset with a parcel, and anna who may read it."""
    add_parcels(db, add_dataset(db), [PARCEL])
    add_user(db, "anna", 1)
    return db


def connection(port: int, data: bytes) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=20)
    made.sendall(data)
    return made


def test_clients_who_never_finish_asking_do_not_keep_threads(world, tmp_path):
    with gunicorn(world, tmp_path, HURRY, workers=1, threads=2) as served:
        slow = [connection(served.port, b"GET /healthz HTTP/1.1\r\nHost: x") for _ in range(4)]
        assert requests.get(f"{served.url}/healthz", timeout=20).status_code == 200
        for one in slow:
            with one:
                # Closed, with or without a word.
                while one.recv(1000):
                    pass
        assert requests.get(f"{served.url}{TILE}", auth=ANNA, timeout=20).status_code == 200


def test_a_body_that_comes_byte_by_byte_does_not_keep_a_thread(world, tmp_path):
    login = requests.Request("GET", "http://x", auth=ANNA).prepare().headers["Authorization"]
    head = (
        "POST /v1/collections/tt_2024/signatures HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
        f"Content-Type: application/json\r\nAuthorization: {login}\r\n\r\n"
    )
    with gunicorn(world, tmp_path, HURRY, workers=1, threads=1) as served:
        with connection(served.port, head.encode()) as slow:
            start = time.monotonic()
            try:
                while time.monotonic() - start < 20:
                    slow.sendall(b" ")
                    time.sleep(0.1)
            except OSError:
                pass
            assert time.monotonic() - start < 15
        assert requests.get(f"{served.url}/healthz", timeout=20).status_code == 200
        assert "Traceback" not in served.log.read_text()


def test_a_client_who_takes_nothing_does_not_keep_a_thread(world, tmp_path):
    patch = "import cbm_api.worker\ncbm_api.worker.ANSWER_SECONDS = 1"
    request = b"GET /openapi/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with gunicorn(world, tmp_path, patch, workers=1, threads=1) as served:
        with socket.socket() as greedy:
            greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            greedy.connect(("127.0.0.1", served.port))
            # Answers pile up until the kernel's buffers are full.
            greedy.sendall(request * 300)
            assert requests.get(f"{served.url}/healthz", timeout=20).status_code == 200
        assert "Traceback" not in served.log.read_text()


def test_bodies_that_are_too_large(world, tmp_path):
    url = "/v1/collections/tt_2024/signatures"

    def endless():
        for _ in range(300):
            yield b" " * 10_000

    with gunicorn(world, tmp_path, workers=1, threads=2) as served:
        for body in (b" " * 3_000_000, endless()):
            try:
                answer = requests.post(
                    f"{served.url}{url}", data=body, auth=ANNA, timeout=20,
                    headers={"Content-Type": "application/json"},
                )  # fmt: skip
            except requests.ConnectionError:
                continue  # closed while we were still sending: as good
            assert answer.status_code == 413, answer.text
            assert answer.headers["Content-Type"] == "application/problem+json"
        # Nobody who is not known gets as far as that.
        answer = requests.post(f"{served.url}{url}", data=b" " * 3_000_000, timeout=20)
        assert answer.status_code == 401
        assert requests.get(f"{served.url}/healthz", timeout=20).status_code == 200


def test_the_database_restarts_under_load(world, pg_server, tmp_path):
    answers: list[tuple[int, str | None]] = []
    stop = threading.Event()

    def ask(url: str) -> None:
        with requests.Session() as session:
            session.auth = ANNA
            while not stop.is_set():
                answer = session.get(url, timeout=30)
                answers.append((answer.status_code, answer.headers.get("Retry-After")))

    with gunicorn(world, tmp_path, workers=1, threads=4, pool_size=2) as served:
        clients = [threading.Thread(target=ask, args=(served.url + TILE,)) for _ in range(4)]
        for one in clients:
            one.start()
        try:
            until(lambda: len(answers) > 20)
            pg_server.restart()
            seen = len(answers)
            # It recovers by itself: answers are good again, and stay so.
            until(lambda: len(answers) > seen and [a[0] for a in answers[-20:]] == [200] * 20)
        finally:
            stop.set()
            for one in clients:
                one.join()
    failed = [answer for answer in answers if answer[0] != 200]
    assert {status for status, _ in failed} <= {503}
    assert all(int(after) > 0 for _, after in failed)


def test_more_requests_than_sessions(world, tmp_path):
    with (
        gunicorn(world, tmp_path, workers=1, threads=4, pool_size=1, pool_wait_seconds=1) as served,
        closing(database.connect(world, "owner")) as blocker,
    ):
        url = served.url + TILE
        assert requests.get(url, auth=ANNA, timeout=20).status_code == 200
        blocker.cursor().execute("LOCK TABLE cbm.parcel_set IN ACCESS EXCLUSIVE MODE")
        waiting = threading.Thread(target=requests.get, args=(url,), kwargs={"auth": ANNA})
        waiting.start()
        until(lambda: sql(world, "SELECT pid FROM pg_locks WHERE NOT granted"))
        refused = requests.get(url, auth=ANNA, timeout=20)
        assert refused.status_code == 503
        assert refused.json()["code"] == "busy"
        assert int(refused.headers["Retry-After"]) > 0
        # What asks the database for nothing is answered meanwhile.
        assert requests.get(f"{served.url}/healthz", timeout=20).status_code == 200
        blocker.rollback()
        waiting.join()
        assert requests.get(url, auth=ANNA, timeout=20).status_code == 200


def test_figures_are_those_of_all_workers(world, tmp_path):
    with gunicorn(world, tmp_path, workers=2, threads=2) as served:
        for _ in range(20):  # each on a connection of its own, so that both have some
            assert requests.get(f"{served.url}/readyz", timeout=20).ok
        text = requests.get(f"{served.url}/metrics", auth=ANNA, timeout=20).text
    counted = [
        one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == "cbm_api_requests_total" and one.labels["route"] == "/readyz"
    ]
    assert counted == [20]


def test_nothing_is_left_in_the_folder_for_temporary_files(world, tmp_path):
    def folders():
        return list(tmp_path.rglob("cbm-api-metrics-*"))

    second = tmp_path / "second"
    second.mkdir()
    with gunicorn(world, tmp_path, workers=1, threads=2) as served:
        assert len(folders()) == 1
        # One that finds the port taken has not begun.
        taken = f"127.0.0.1:{served.port}"
        with pytest.raises(AssertionError, match="in use"), gunicorn(world, second, listen=taken):
            pass
        assert len(folders()) == 1
    assert folders() == []


def test_sessions_beyond_the_servers_limit_are_refused_at_the_start(db):
    require_sessions(db)
    many = replace(db, api=replace(db.api, workers=20, pool_size=20))
    with pytest.raises(CbmError) as refused:
        require_sessions(many)
    assert refused.value.code == "too_many_sessions"
    assert "400" in str(refused.value)


def until(reached, seconds: float = 60):
    """Wait until something is so; return what it gave."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = reached()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("not reached in time")


def test_credentials_that_cannot_serve_are_told_at_the_start(world, tmp_path):
    file = tmp_path / "credentials"
    wrong = replace(
        world, storage=replace(world.storage, endpoint="http://x", credentials_file=str(file))
    )
    with gunicorn(wrong, tmp_path, workers=1) as served:
        assert requests.get(f"{served.url}/readyz", timeout=20).status_code == 200
        assert f"The credentials file {file} cannot be read" in served.log.read_text()
