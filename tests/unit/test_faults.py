"""The fault-injecting proxy itself: what it is told to do, it does."""

import time

import pytest
import requests

from tests import faults
from tests.unit.read.server import serve

BODY = bytes(range(256)) * 4000


@pytest.fixture
def link():
    with serve({"/f": BODY}) as site:
        address = site.host.split(":")
        with faults.proxy((address[0], int(address[1]))) as running:
            yield running


def get(link, timeout=5):
    return requests.get(f"{link.url}/f", timeout=timeout)


def test_without_faults_bytes_pass_unchanged(link):
    assert get(link).content == BODY
    assert link.requests == ["GET /f HTTP/1.1"]
    assert link.connections == 1


def test_a_cut_breaks_so_many_connections(link):
    link.cut(after=100_000, times=2)
    for _ in range(2):
        with pytest.raises(requests.RequestException):
            get(link)
    assert get(link).content == BODY
    assert link.struck == {"cut": 2}


def test_what_passes_before_the_cut_is_what_was_asked(link):
    link.cut(after=100_000)
    with requests.get(f"{link.url}/f", stream=True, timeout=5) as answer:
        got = b""
        with pytest.raises(requests.RequestException):
            for part in answer.iter_content(1000):
                got += part
    assert 90_000 < len(got) < 100_000
    assert BODY.startswith(got)


def test_a_stall_keeps_the_connection_open(link):
    link.stall(after=100_000)
    with pytest.raises(requests.RequestException, match="timed out"):
        get(link, timeout=0.3)
    assert get(link).content == BODY


def test_refusal_breaks_what_is_open_and_lasts_until_healed(link):
    with requests.Session() as session:
        assert session.get(f"{link.url}/f", timeout=5).ok
        link.refuse()
        for _ in range(2):
            with pytest.raises(requests.ConnectionError):
                session.get(f"{link.url}/f", timeout=5)
        link.heal()
        assert session.get(f"{link.url}/f", timeout=5).content == BODY


def test_requests_are_answered_with_errors_so_many_times(link):
    link.answer(503, "SlowDown", times=2)
    assert [get(link).status_code for _ in range(3)] == [503, 503, 200]
    link.answer(503, "SlowDown")
    answer = requests.head(f"{link.url}/f", timeout=5)
    assert (answer.status_code, answer.content) == (503, b"")


def test_delay_and_throttle_slow_down(link):
    link.delay(0.1)
    start = time.monotonic()
    get(link)
    assert time.monotonic() - start > 0.2
    link.heal()
    link.throttle(len(BODY) / 0.3)
    start = time.monotonic()
    assert get(link).content == BODY
    assert time.monotonic() - start > 0.3


def test_something_can_happen_in_the_middle_of_an_answer(link):
    seen = []
    link.on_answer(500_000, lambda: seen.append(len(link.requests)))
    assert get(link).content == BODY
    assert seen == [1]
