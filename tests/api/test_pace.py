"""How much one user may ask: in a minute, at once, and of the database's sessions."""

import gc
import threading
from contextlib import closing
from dataclasses import replace

import pytest
import requests

from cbm_api.app import create_app
from cbm_api.database import Database
from cbm_core import db as database
from cbm_core.errors import CbmError
from tests.api.chips import scene, world
from tests.api.conftest import PASSWORD, add_user, basic
from tests.api.serving import gunicorn
from tests.api.test_backgrounds import HERE, orthophoto, set_background
from tests.api.test_server import TILE, until
from tests.factories import add_dataset, sql

pytestmark = pytest.mark.postgis
# A file that the server sends by itself.
STYLES = "/openapi/swagger/swagger-ui.css"


@pytest.fixture
def paced(db):
    """paced(requests_at_once=2) -> an application with these settings."""
    made = []

    def make(**api):
        given = replace(db.api, **api)
        app = create_app(replace(db, database={**db.database, "user": "cbm_web"}, api=given))
        made.append(app)
        return app

    yield make
    for app in made:
        app.extensions["cbm_database"].close()


def ask(client, name):
    return client.get("/v1/jobs", headers=basic(name))


def test_requests_at_once(paced, db):
    add_user(db, "anna")
    add_user(db, "paul")
    client = paced(requests_at_once=2).test_client()
    first, second = ask(client, "anna"), ask(client, "anna")
    refused = ask(client, "anna")
    assert (refused.status_code, refused.json["code"]) == (429, "too_many_requests")
    assert refused.headers["Retry-After"] == "1"
    assert ask(client, "paul").status_code == 200
    first.close()
    assert ask(client, "anna").status_code == 200
    # An answer that nobody takes is no longer in work either.
    del second
    gc.collect()
    held = [ask(client, "anna") for _ in range(3)]
    assert [one.status_code for one in held] == [200, 200, 429]


@pytest.mark.parametrize("path", ["/openapi/openapi.json", "/v1", STYLES])
def test_public_files_at_once_by_address(paced, path):
    client = paced(requests_at_once=2).test_client()
    held = [client.get(path) for _ in range(3)]
    assert [one.status_code == 429 for one in held] == [False, False, True]
    elsewhere = client.get(path, environ_base={"REMOTE_ADDR": "192.0.2.1"})
    assert elsewhere.status_code != 429
    assert client.get("/healthz").status_code == 200


@pytest.fixture(params=["chip", "background"])
def address(request, db, asking, tmp_path):
    """address("anna"): what the predecessor's routes give a user to fetch without a login."""
    made = world(db, tmp_path)
    scene(made)
    set_background(made, source=orthophoto(made))

    def of(name: str) -> str:
        user = asking(name, made.dataset)
        if request.param == "background":
            return user.get("/query/backgroundByLocation", **HERE, iformat="tif").text
        days = {"start_date": "2024-05-01", "end_date": "2024-05-31"}
        asked = {**HERE, **days, "band": "B04", "chipsize": 200}
        return user.get("/query/rawChipByLocation", **asked).json["chips"][0]

    return of


def test_signed_addresses_count_as_their_users_requests(paced, address):
    anna, paul = address("anna"), address("paul")
    client = paced(requests_per_minute=3).test_client()
    assert [client.get(anna).status_code for _ in range(2)] == [200] * 2
    assert ask(client, "anna").status_code == 200
    refused = client.get(anna)
    assert (refused.status_code, refused.json["code"]) == (429, "too_many_requests")
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    # Forged ones are nobody's, and do not count.
    start, middle, name = paul.rpartition("/")
    assert client.get(f"{start}x{middle}{name}").status_code == 401
    assert [client.get(paul).status_code for _ in range(4)] == [200] * 3 + [429]


def test_signed_addresses_at_once(paced, address):
    where = address("anna")
    client = paced(requests_at_once=1).test_client()
    held = [client.get(where), client.get(where)]
    assert [one.status_code for one in held] == [200, 429]


def test_one_user_leaves_a_session_to_others(db):
    api = replace(db.api, pool_size=3, pool_wait_seconds=1)
    with closing(Database(replace(db, api=api))) as pool, pool.transaction("anna") as first:
        first.execute("SELECT 1")
        with pool.transaction("anna"):
            with pytest.raises(CbmError) as refused, pool.transaction("anna"):
                pass
            assert (refused.value.code, "Your share" in str(refused.value)) == ("busy", True)
            with pool.transaction("paul"):
                pass
            with pool.transaction(None):
                pass
        # One that was given back can be had again.
        with pool.transaction("anna") as again:
            again.execute("SELECT 1")


def test_one_users_slow_requests_leave_threads_to_others(db, tmp_path):
    add_user(db, "anna", add_dataset(db))
    add_user(db, "paul")
    asked = {"workers": 1, "threads": 4, "pool_size": 4, "requests_at_once": 2}
    with (
        gunicorn(db, tmp_path, **asked) as served,
        closing(database.connect(db, "owner")) as blocker,
    ):
        anna, paul = ("anna", PASSWORD), ("paul", PASSWORD)
        assert requests.get(served.url + TILE, auth=anna, timeout=20).status_code == 200
        blocker.cursor().execute("LOCK TABLE cbm.parcel_set IN ACCESS EXCLUSIVE MODE")
        slow = [
            threading.Thread(target=requests.get, args=(served.url + TILE,), kwargs={"auth": anna})
            for _ in range(2)
        ]
        for one in slow:
            one.start()
        waiting = "SELECT pid FROM pg_locks WHERE NOT granted"
        until(lambda: len(sql(db, waiting)) == 2)
        refused = [requests.get(served.url + TILE, auth=anna, timeout=20) for _ in range(4)]
        assert {(one.status_code, one.headers["Retry-After"]) for one in refused} == {(429, "1")}
        assert requests.get(f"{served.url}/v1/jobs", auth=paul, timeout=20).status_code == 200
        blocker.rollback()
        for one in slow:
            one.join()
        assert requests.get(served.url + TILE, auth=anna, timeout=20).status_code == 200
