"""Where clients of OGC API begin."""

import pytest

pytestmark = pytest.mark.postgis


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
    assert client.get(links["service-desc"]).json["openapi"].startswith("3.1")
    assert client.get(links["service-doc"]).content_type.startswith("text/html")
    assert client.get(links["self"]).json["title"] == page.json["title"]


def test_conformance(client):
    classes = client.get("/v1/conformance").json["conformsTo"]
    assert "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core" in classes
    assert "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson" in classes
    assert "http://www.opengis.net/spec/ogcapi-features-2/1.0/conf/crs" in classes


@pytest.mark.parametrize("path", ["/v1", "/v1/conformance"])
def test_a_parameter_that_means_nothing_is_refused(client, path):
    answer = client.get(path, query_string={"colour": "red"})
    assert (answer.status_code, answer.json["code"]) == (400, "bad_parameter")
    assert "colour" in answer.json["detail"]
