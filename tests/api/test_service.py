"""Alive, ready, and what failures look like."""

import pytest

from tests.api.conftest import basic

pytestmark = pytest.mark.postgis


def test_alive_and_ready_without_a_login(app):
    client = app.test_client()
    assert client.get("/healthz").json["status"] == "ok"
    assert client.get("/readyz").json["status"] == "ok"


def test_the_document_lists_the_routes(app):
    document = app.test_client().get("/openapi/openapi.json").json
    assert document["openapi"].startswith("3.")
    assert "/healthz" in document["paths"]


def test_an_unknown_route_is_a_problem_document(app):
    response = app.test_client().get("/nowhere", headers={"X-Request-Id": "abc"})
    assert response.status_code == 404
    assert response.content_type == "application/problem+json"
    assert response.json["code"] == "not_found"
    assert response.json["request_id"] == response.headers["X-Request-Id"] == "abc"


def test_not_ready_without_a_database(app, db):
    app.extensions["cbm_database"]._settings.database["port"] = "1"
    response = app.test_client().get("/readyz")
    assert (response.status_code, response.json["code"]) == (503, "database_unreachable")
    assert int(response.headers["Retry-After"]) > 0


def test_a_wrong_password(app, asking):
    asking("anna")
    for headers in (basic("anna", "wrong"), basic("nobody")):
        response = app.test_client().get("/nowhere", headers=headers)
        assert response.status_code == 404
