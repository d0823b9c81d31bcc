"""Where clients of OGC API begin."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_30_VALIDATOR

from cbm_api import document
from cbm_api.app import create_app
from cbm_core.settings import Settings

pytestmark = pytest.mark.postgis
oas30 = "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/oas30"


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.mark.parametrize("path", ["/v1", "/v1/"])
def test_the_landing_page_links_to_what_is_there_without_a_login(client, path):
    page = client.get(path)
    assert page.status_code == 200
    links = {one["rel"]: one["href"] for one in page.json["links"]}
    assert links["conformance"] == "http://localhost/v1/conformance"
    assert links["data"] == "http://localhost/v1/collections"
    assert client.get(links["service-desc"]).json["openapi"].startswith("3.0")
    assert client.get(links["service-doc"]).content_type.startswith("text/html")
    assert client.get(links["self"]).json["title"] == page.json["title"]


def test_the_openapi_document_is_one_of_version_3_0(client):
    """As the class oas30 of OGC API - Features asks; against schemathesis' schema of OpenAPI."""
    landing = client.get("/v1").json["links"]
    (link,) = [one for one in landing if one["rel"] == "service-desc"]
    answer = client.get(link["href"])
    kind = "application/vnd.oai.openapi+json;version=3.0"
    assert (answer.content_type, link["type"]) == (kind, kind)
    OPENAPI_30_VALIDATOR.validate(answer.json)
    assert answer.json == client.get("/openapi/openapi.json").json
    assert {"/v1", "/v1/api", "/v1/collections/{collection_id}/items"} <= set(answer.json["paths"])
    assert oas30 in client.get("/v1/conformance").json["conformsTo"]
    parameters = answer.json["paths"]["/v1/collections/{collection_id}/items"]["get"]["parameters"]
    (crop,) = [one["schema"] for one in parameters if one["name"] == "crop_code"]
    assert (crop["type"], crop["nullable"], crop["maxLength"]) == ("string", True, 256)


def test_the_first_requests_at_once_are_all_given_the_finished_document(monkeypatch):
    app = create_app(Settings())
    older, first = document._older, Lock()

    def slowly(node):
        if first.acquire(blocking=False):
            time.sleep(0.5)
        return older(node)

    monkeypatch.setattr(document, "_older", slowly)
    threads = 4
    together = Barrier(threads)

    def ask(_):
        together.wait()
        return app.test_client().get("/v1/api").json

    with ThreadPoolExecutor(threads) as pool:
        given = list(pool.map(ask, range(threads)))
    assert [one["openapi"] for one in given] == [document.VERSION] * threads
    assert all("security" in one for one in given)


def test_schemas_are_told_in_the_older_way():
    """Nothing of JSON Schema is left that OpenAPI 3.0 does not have, and nothing is lost."""
    told = document._older(
        {
            "kind": {"const": "Feature"},
            "more": {"type": "number", "exclusiveMinimum": 0, "maximum": 5},
            "one": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            "two": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]},
            "named": {"anyOf": [{"$ref": "#/x"}, {"type": "null"}]},
            "pair": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}]},
        }
    )
    assert told == {
        "kind": {"enum": ["Feature"]},
        "more": {"type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": 5},
        "one": {"type": "string", "nullable": True, "default": None},
        "two": {
            "anyOf": [
                {"type": "string", "nullable": True},
                {"type": "number", "nullable": True},
            ],
            "nullable": True,
        },
        "named": {"anyOf": [{"$ref": "#/x"}], "nullable": True},
        "pair": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "number"}]}},
    }


def test_conformance(client):
    classes = client.get("/v1/conformance").json["conformsTo"]
    assert "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core" in classes
    assert "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson" in classes
    assert "http://www.opengis.net/spec/ogcapi-features-2/1.0/conf/crs" in classes


@pytest.mark.parametrize("path", ["/v1", "/v1/api", "/v1/conformance"])
def test_a_parameter_that_means_nothing_is_refused(client, path):
    answer = client.get(path, query_string={"colour": "red"})
    assert (answer.status_code, answer.json["code"]) == (400, "bad_parameter")
    assert "colour" in answer.json["detail"]
