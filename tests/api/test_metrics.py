"""Figures for Prometheus."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.factories import add_dataset

pytestmark = pytest.mark.postgis


def samples(text: str) -> dict:
    """Values by name and labels, read by Prometheus' own parser."""
    return {
        (one.name, *sorted(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def figures(user) -> str:
    with user.get("/metrics") as response:
        return response.text


def test_requests_are_counted_by_route_and_status(db, asking):
    anna = asking("anna", add_dataset(db))
    route = "/v1/collections/<collection_id>/tiles/WebMercatorQuad/<z>/<y>/<x>"

    def counted(status: str) -> float:
        key = ("method", "GET"), ("route", route), ("status", status)
        return samples(figures(anna)).get(("cbm_api_requests_total", *key), 0)

    in_work = samples(figures(anna))[("cbm_api_requests_in_work",)]
    before = counted("200"), counted("404")
    for collection in ("tt_2024", "tt_2024", "secret_2024"):
        anna.get(f"/v1/collections/{collection}/tiles/WebMercatorQuad/3/0/0").close()
    assert (counted("200"), counted("404")) == (before[0] + 2, before[1] + 1)
    text = figures(anna)
    assert "secret_2024" not in text and "anna" not in text
    found = samples(text)
    assert found["cbm_api_request_seconds_count", ("route", route)] >= 3
    # Nothing is left in work.
    assert found[("cbm_api_requests_in_work",)] == in_work


def test_a_file_that_was_sent_is_no_longer_in_work(db, asking):
    anna = asking("anna", add_dataset(db))
    key = ("cbm_api_requests_in_work",)
    before = samples(figures(anna))[key]
    with anna.get("/openapi/swagger/css/swagger-ui.css") as response:
        assert response.status_code == 200
        assert samples(figures(anna))[key] == before + 1
    assert samples(figures(anna))[key] == before


def test_no_more_labels_by_unknown_routes_and_methods(db, asking):
    anna = asking("anna", add_dataset(db))
    for number in range(3):
        anna.client.open(f"/no/{number}", method=f"ODD{number}", headers=anna.headers)
    text = figures(anna)
    assert "/no/" not in text and "ODD" not in text
    key = ("method", "other"), ("route", "none"), ("status", "404")
    assert samples(text)["cbm_api_requests_total", *key] >= 3


def test_figures_need_a_login(app):
    assert app.test_client().get("/metrics").status_code == 401
