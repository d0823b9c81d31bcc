"""Who is let in: passwords, tokens, rates; and what is remembered of it."""

import base64
import random
import time
from dataclasses import replace

import pytest

from cbm_api.logins import basic as basic_logins
from cbm_core.users import passwords, token_verbs, verbs
from tests.api import guarding
from tests.api.conftest import PASSWORD, add_user, basic
from tests.api.guarding import bearer, do, refusal, status, token_of
from tests.factories import add_dataset, sql

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


def test_a_login_is_required_and_asked_for(client):
    response = client.get("/whoami")
    assert (response.status_code, response.json["code"]) == (401, "login_required")
    assert response.headers.getlist("WWW-Authenticate") == [
        'Basic realm="cbm", charset="UTF-8"',
        'Bearer realm="cbm"',
    ]
    assert client.get("/whoami", headers=basic("anna")).json == {"user": "anna"}


@pytest.mark.parametrize(
    "header",
    ["Basic", "Basic !", "Basic YW5uYQ==", "Digest username=anna", "Bearer", "Bearer cbm_x", "x",
     "Bearer a.b.c", "Basic " + "A" * 9000, "Bearer cbm_é"],
)  # fmt: skip
def test_headers_that_are_no_login(client, header):
    assert refusal(client, {"Authorization": header}) == (401, "login_failed")


def test_no_header_breaks_the_login(client):
    """Whatever bytes come: nobody is let in, and nothing fails."""
    chance = random.Random(7)
    for number in range(300):
        elsewhere = {"REMOTE_ADDR": f"192.0.2.{number % 250}"}
        content = bytes(chance.choices(range(256), k=chance.randrange(40)))
        text = "".join(chr(byte) for byte in content if byte not in b"\r\n")
        login = base64.b64encode(content.replace(b" ", b":")).decode()
        for start, rest in (
            ("", text),
            ("Basic ", login),
            ("Basic ", text),
            ("Bearer ", text),
            ("Bearer cbm_", text),
        ):
            value = start + rest
            assert status(client, {"Authorization": value}, environ_base=elsewhere) == 401, value


@pytest.mark.parametrize(
    "name", ["ANNA", "anna ", "paul", "", "a\0b", "' OR 1=1 --", "x" * 999, "ännа", "%"]
)
def test_others_are_not_anna(client, name):
    assert refusal(client, basic(name)) == (401, "login_failed")


def test_a_password_in_latin_1_is_read(guarded, db):
    """As Python's requests sends what is not ASCII."""
    add_user(db, "anna")
    admin = replace(db, database=db.connection("owner"))
    secret = "fünf große Äpfel"
    sql(admin, "UPDATE cbm.api_user SET password_hash = %s", passwords.hashed(secret))
    client = guarded()
    for encoding in ("utf-8", "latin-1"):
        encoded = base64.b64encode(f"anna:{secret}".encode(encoding)).decode()
        assert status(client, {"Authorization": f"Basic {encoded}"}) == 200


def test_a_user_without_a_password_has_none_that_fits(client, db):
    do(verbs.ADD, db, name="paul")
    for password in ("", "None", "no password is this one"):
        assert status(client, basic("paul", password)) == 401


def test_argon2_is_asked_once(client, monkeypatch):
    asked = []
    real = passwords.matches
    monkeypatch.setattr(passwords, "matches", lambda *given: asked.append(1) or real(*given))
    for _ in range(3):
        assert status(client, basic("anna")) == 200
    assert len(asked) == 1
    assert status(client, basic("anna", PASSWORD + "x")) == 401
    assert status(client, basic("paul")) == 401
    assert len(asked) == 3, "nothing but the very same login is remembered"


def test_what_is_remembered_ends(client, monkeypatch):
    assert status(client, basic("anna")) == 200
    asked = []
    monkeypatch.setattr(passwords, "matches", lambda *_: asked.append(1) or True)
    now = time.monotonic()
    monkeypatch.setattr(
        basic_logins.time, "monotonic", lambda: now + basic_logins.REMEMBERED_SECONDS + 1
    )
    assert status(client, basic("anna")) == 200
    assert asked == [1]


def test_a_changed_password_and_a_disabled_user_count_at_once(client, db, tmp_path):
    assert status(client, basic("anna")) == 200
    file = tmp_path / "password"
    file.write_text("another password of hers")
    file.chmod(0o600)
    do(verbs.PASSWD, db, name="anna", password_file=str(file))
    assert status(client, basic("anna")) == 401
    new = basic("anna", "another password of hers")
    assert status(client, new) == 200
    do(verbs.DISABLE, db, name="anna")
    assert status(client, new) == 401
    do(verbs.ADD, db, name="anna")
    assert status(client, new) == 200


def test_grants_count_from_the_next_request_on(guarded, db):
    dataset = add_dataset(db, "ie", 2024)
    add_dataset(db, "nl", 2023)
    add_user(db, "anna", dataset)
    add_user(db, "paul")
    client = guarded()
    assert client.get("/mine", headers=basic("anna")).json == {"datasets": ["ie"]}
    assert client.get("/mine", headers=basic("paul")).json == {"datasets": []}
    do(verbs.GRANT, db, name="paul", datasets=["nl:2023"])
    do(verbs.REVOKE, db, name="anna", datasets=["ie:2024"])
    assert client.get("/mine", headers=basic("anna")).json == {"datasets": []}
    assert client.get("/mine", headers=basic("paul")).json == {"datasets": ["nl"]}


# Tokens


def test_a_token_is_its_user(client, db):
    token = token_of(db, "anna")
    assert client.get("/whoami", headers=bearer(token)).json == {"user": "anna"}
    for other in (token[:-1], token + "A", token.upper(), "cbm_" + "A" * 43):
        assert refusal(client, bearer(other)) == (401, "login_failed")
    assert status(client, basic("anna", token)) == 401, "a token is no password"


def test_expired_revoked_and_disabled(client, db, admin):
    expired, revoked, kept = (token_of(db, "anna", label) for label in "abc")
    sql(admin, "UPDATE cbm.api_token SET expires_at = now() WHERE label = 'a'")
    assert refusal(client, bearer(expired)) == (401, "token_expired")
    do(token_verbs.REVOKE, db, name="anna", label="b")
    assert refusal(client, bearer(revoked)) == (401, "login_failed")
    assert status(client, bearer(kept)) == 200
    do(verbs.DISABLE, db, name="anna")
    assert refusal(client, bearer(kept)) == (401, "login_failed")
    assert refusal(client, bearer(expired)) == (401, "login_failed")


# Rates, proxies, the log


def test_a_user_is_answered_so_often_a_minute(guarded, db):
    add_user(db, "anna")
    add_user(db, "paul")
    client = guarded(requests_per_minute=3)
    assert [status(client, basic("anna")) for _ in range(3)] == [200] * 3
    response = client.get("/whoami", headers=basic("anna"))
    assert (response.status_code, response.json["code"]) == (429, "too_many_requests")
    assert 0 < int(response.headers["Retry-After"]) <= 60
    assert status(client, basic("paul")) == 200
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (0, "192.0.2.9", "127.0.0.1"),
        (1, "192.0.2.9", "192.0.2.9"),
        (1, "198.51.100.1, 192.0.2.9", "192.0.2.9"),
        (2, "198.51.100.1, 192.0.2.9, 10.0.0.1", "192.0.2.9"),
    ],
)
def test_the_address_is_what_trusted_proxies_say(guarded, db, admin, proxies, forwarded, expected):
    add_user(db, "anna")
    client = guarded(trusted_proxies=proxies)
    headers = {**basic("anna", "wrong"), "X-Forwarded-For": forwarded}
    assert status(client, headers) == 401
    found = sql(admin, "SELECT DISTINCT host(address) FROM cbm.api_lockout")
    assert found == [(expected,)]


def test_reads_are_logged_and_old_ones_forgotten(guarded, db, admin):
    sql(
        admin,
        """INSERT INTO cbm.audit (at, who, action, detail)
           SELECT now() - make_interval(days => days), 'api:old', 'read', '{}'
           FROM unnest('{20, 40}'::int[]) days""",
    )
    add_user(db, "anna")
    client = guarded(read_log_days=30)
    with client.get("/mine", headers={**basic("anna"), "X-Request-Id": "r1"}) as response:
        assert response.status_code == 200
    rows = sql(admin, "SELECT who, detail FROM cbm.audit WHERE action = 'read' ORDER BY at")
    assert rows[0] == ("api:old", {}), "what is younger than the setting stays"
    assert rows[1][0] == "api:anna"
    assert rows[1][1] == {
        "dataset": "ie_2024",
        "parcels": ["1"],
        "route": "/mine",
        "request": "r1",
        "address": "127.0.0.1",
    }
    assert len(rows) == 2


def test_nothing_is_forgotten_where_the_log_is_kept_for_ever(guarded, db, admin):
    sql(admin, "INSERT INTO cbm.audit (at, action) VALUES ('2000-01-01Z', 'read')")
    add_user(db, "anna")
    with guarded(read_log_days=0).get("/mine", headers=basic("anna")):
        pass
    assert sql(admin, "SELECT count(*) FROM cbm.audit WHERE action = 'read'") == [(2,)]


def test_threads_do_not_take_each_other_for_themselves(guarded, db):
    """The predecessor kept the user in a global."""
    from concurrent.futures import ThreadPoolExecutor

    names = [f"user{number}" for number in range(4)]
    for name in names:
        add_user(db, name)
    app = guarded(pool_wait_seconds=30).application

    def ask(name):
        with app.test_client() as client:
            return client.get("/whoami", headers=basic(name)).json["user"]

    asked = names * 10
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, asked)) == asked
