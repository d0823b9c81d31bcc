"""Who is shut out: after how many failures, from where, and for how long."""

import pytest

from cbm_api.logins import store
from tests.api import guarding
from tests.api.conftest import add_user, basic
from tests.api.guarding import bearer, later, status, token_of
from tests.factories import sql

pytestmark = pytest.mark.postgis


@pytest.fixture
def admin(db):
    return guarding.admin(db)


@pytest.fixture
def guarded(db):
    yield from guarding.guarded(db)


@pytest.fixture
def client(guarded, db):
    return guarding.client(guarded, db)


def fail(client, name="anna", times=1, **given):
    return [status(client, basic(name, "a wrong password"), **given) for _ in range(times)]


def test_five_failures_lock_out_for_longer_and_longer(client, admin):
    assert fail(client, times=store.FAILURES_OF_USER) == [401] * store.FAILURES_OF_USER
    response = client.get("/whoami", headers=basic("anna"))
    assert (response.status_code, response.json["code"]) == (429, "locked_out")
    assert 0 < int(response.headers["Retry-After"]) <= store.SHORTEST_LOCK
    waits = []
    for _ in range(8):
        later(admin, store.LONGEST_LOCK)
        assert fail(client) == [401]
        waits.append(int(client.get("/whoami", headers=basic("anna")).headers["Retry-After"]))
    assert waits == [30, 60, 120, 240, 480, 900, 900, 900]


def test_a_lock_ends_and_success_clears_the_count(client, admin):
    fail(client, times=store.FAILURES_OF_USER)
    assert status(client, basic("anna")) == 429
    later(admin, store.SHORTEST_LOCK + 1)
    assert status(client, basic("anna")) == 200
    assert fail(client, times=store.FAILURES_OF_USER - 1) == [401] * 4
    assert status(client, basic("anna")) == 200


def test_a_lock_holds_for_passwords_remembered_too(client):
    """Else an attacker would learn from a locked door which password opens it."""
    assert status(client, basic("anna")) == 200
    fail(client, times=store.FAILURES_OF_USER)
    assert status(client, basic("anna")) == 429


def test_a_lock_is_for_one_user_from_one_address(client, db):
    add_user(db, "paul")
    fail(client, times=store.FAILURES_OF_USER, environ_base={"REMOTE_ADDR": "192.0.2.1"})
    for address, name, expected in (
        ("192.0.2.1", "anna", 429),
        ("192.0.2.1", "paul", 200),
        ("192.0.2.2", "anna", 200),
    ):
        assert status(client, basic(name), environ_base={"REMOTE_ADDR": address}) == expected


def test_a_network_of_ipv6_is_one_address(client):
    fail(client, times=4, environ_base={"REMOTE_ADDR": "2001:db8::1"})
    fail(client, environ_base={"REMOTE_ADDR": "2001:db8::2"})
    assert status(client, basic("anna"), environ_base={"REMOTE_ADDR": "2001:db8::3"}) == 429
    assert status(client, basic("anna"), environ_base={"REMOTE_ADDR": "2001:db8:0:1::3"}) == 200


def test_an_address_that_tries_many_names_is_locked_out(client, db, admin):
    add_user(db, "paul")
    for number in range(store.FAILURES_OF_ADDRESS):
        # impossible names cost the server nothing, and count
        name = f"guess{number}" if number % 5 == 0 else "no such:name"
        assert status(client, basic(name, "x" * 999)) == 401
    assert status(client, basic("paul")) == 429
    assert status(client, basic("paul"), environ_base={"REMOTE_ADDR": "192.0.2.1"}) == 200
    rows = sql(admin, "SELECT count(*) FROM cbm.api_lockout")[0][0]
    assert rows == 1 + store.FAILURES_OF_ADDRESS // 5
    later(admin, 20 * store.FORGIVEN_AFTER)
    assert fail(client, "guess0") == [401]
    assert sql(admin, "SELECT failures FROM cbm.api_lockout WHERE user_name = ''") == [(31,)]
    assert status(client, basic("paul")) == 200


def test_a_day_without_failures_clears_all(client, admin):
    fail(client, times=store.FAILURES_OF_USER)
    fail(client, "guess")
    later(admin, 86_401)
    fail(client, "other")
    rows = sql(admin, "SELECT user_name, failures FROM cbm.api_lockout ORDER BY 1")
    assert rows == [("", 1), ("other", 1)]


def test_many_fail_at_once(guarded, admin):
    """Counting waits for nobody in a circle, and misses nobody."""
    from concurrent.futures import ThreadPoolExecutor

    app = guarded(pool_wait_seconds=30).application
    old = "INSERT INTO cbm.api_lockout SELECT %s, %s, 3, now() - interval '2 days'"
    tries = [(f"user{user}", f"192.0.2.{host}") for user in range(3) for host in range(3)] * 4
    for name, address in set(tries):
        sql(admin, old, name, address)

    def ask(attempt):
        name, address = attempt
        with app.test_client() as client:
            return status(client, basic(name), environ_base={"REMOTE_ADDR": address})

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, tries)) == {401}
    counts = sql(admin, "SELECT DISTINCT user_name = '', failures FROM cbm.api_lockout ORDER BY 1")
    assert counts == [(False, 4), (True, 12)]


def test_a_lock_of_the_password_leaves_tokens_alone(client, db):
    token = token_of(db, "anna")
    fail(client, times=store.FAILURES_OF_USER)
    assert status(client, bearer(token)) == 200
