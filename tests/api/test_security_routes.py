"""Every route asks for a login, but those that are listed here."""

import re

import pytest

from tests.api.conftest import basic

pytestmark = pytest.mark.postgis

PUBLIC = {
    "/healthz",
    "/readyz",
    "/openapi/",
    "/openapi/openapi.json",
    "/openapi/oauth2-redirect.html",
    "/openapi/static/<path:filename>",
    "/openapi/swagger",
    "/openapi/swagger/<path:filename>",
    # what there is in general, nothing of a dataset
    "/v1",
    "/v1/api",
    "/v1/conformance",
    # the page; what it shows it asks with the visitor's login
    "/viewer/",
    "/viewer/<name>",
}


def requests(app):
    """Each route and method, with something in the place of its parameters."""
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(int:)?[^>]*>", lambda part: "1" if part[1] else "x", rule.rule)
        for method in sorted(rule.methods - {"OPTIONS"}):
            yield rule.rule, method, path


def test_nothing_without_a_login(app):
    client = app.test_client()
    asked = [request for request in requests(app) if request[0] not in PUBLIC]
    assert len(asked) > 20
    for rule, method, path in asked:
        for headers in ({}, basic("nobody"), {"Authorization": "Bearer cbm_x"}):
            response = client.open(path, method=method, headers=headers)
            assert response.status_code in {401, 429}, f"{method} {rule} answers everybody"
            assert response.content_type == "application/problem+json"
    assert client.get("/v1/collections").json["code"] == "login_required"


def test_documentation_and_health_for_everybody(app):
    client = app.test_client()
    for path in ("/healthz", "/readyz", "/openapi/openapi.json", "/openapi/swagger", "/v1"):
        assert client.get(path).status_code == 200, path
