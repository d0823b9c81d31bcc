"""Which sites' scripts may ask, and which may change something."""

from dataclasses import replace

import pytest
from flask import g

from cbm_api.app import create_app
from cbm_core.settings import ApiSettings
from tests.api.conftest import add_user, basic

pytestmark = pytest.mark.postgis

MAPS, OTHER = "https://maps.example", "https://evil.example"


@pytest.fixture
def client(db):
    """An application that MAPS may ask, with a view that needs a login."""
    settings = replace(db, database={**db.database, "user": "cbm_web"})
    api = ApiSettings(cors_origins=f"{MAPS} https://tables.example:8443")
    app = create_app(replace(settings, api=api))
    app.add_url_rule("/whoami", view_func=lambda: {"user": g.user}, methods=["GET", "POST"])
    add_user(db, "anna")
    yield app.test_client()
    app.extensions["cbm_database"].close()


def allowed(response):
    return response.headers.get("Access-Control-Allow-Origin")


def test_a_browser_may_ask_before_it_logs_in(client):
    response = client.options(
        "/whoami", headers={"Origin": MAPS, "Access-Control-Request-Headers": "authorization"}
    )
    assert response.status_code == 200
    assert allowed(response) == MAPS
    assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Credentials" not in response.headers


def test_answers_and_refusals_are_shown_to_listed_sites_only(client):
    for headers in ({}, basic("anna")):
        for origin, expected in ((MAPS, MAPS), (OTHER, None), ("null", None)):
            response = client.get("/whoami", headers={**headers, "Origin": origin})
            assert response.status_code == (200 if headers else 401)
            assert allowed(response) == expected
            assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (None, 200),
        (MAPS, 200),
        ("https://tables.example:8443", 200),
        ("http://localhost", 200),
        ("https://localhost", 200),  # a proxy in front ended TLS
        (OTHER, 403),
        ("null", 403),
        ("https://maps.example.evil.example", 403),
        ("https://maps.example:8443", 403),
    ],
)
def test_changes_come_from_known_sites(client, origin, expected):
    headers = {**basic("anna"), **({"Origin": origin} if origin else {})}
    response = client.post("/whoami", headers=headers)
    assert response.status_code == expected
    if expected == 403:
        assert response.json["code"] == "origin_refused"


def test_without_a_list_no_site_is_told_anything(app):
    response = app.test_client().get("/healthz", headers={"Origin": MAPS})
    assert response.status_code == 200
    assert allowed(response) is None
