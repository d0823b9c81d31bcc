"""Parcels at other times: valid in the field (datetime), and known to the database (as_of)."""

import json
from datetime import date

import pytest

from cbm_core.datasets import verbs as datasets
from cbm_core.verbs import Context
from cbm_extract.parcels import verbs
from tests.api.conftest import owner
from tests.factories import sql
from tests.unit.parcels.files import frame, gpkg, squares

pytestmark = pytest.mark.postgis

PATH = "/v1/collections/ie_2024/items"
JUNE = date(2024, 6, 1)
# When the imports were, as if they had been that far apart.
FIRST, SECOND, THIRD = "2024-02-01T12:00:00Z", "2024-06-10T12:00:00Z", "2024-09-01T12:00:00Z"


def run(verb, settings, **arguments):
    return verb.run(verb.arguments.model_validate(arguments), Context(settings))


@pytest.fixture
def anna(db, asking, tmp_path):
    """p1, p2, p3 from January; p2 of another crop, p3 gone and p4 new from June; p1 corrected.

    p1 is moved by the last import, which says so of June on.
    """
    run(datasets.ADD, db, aoi="ie", year=2024)
    files = [
        (frame(3), None, FIRST),
        (frame(pid=["p1", "p2", "p4"], crop=[100, 200, 100]), JUNE, SECOND),
        (frame(geometry=squares(3, x=500_010.0), pid=["p1", "p2", "p4"], crop=[300, 200, 100]),
         JUNE, THIRD),
    ]  # fmt: skip
    for number, (parcels, valid_from, known) in enumerate(files):
        run(
            verbs.IMPORT,
            db,
            dataset="ie:2024",
            source=gpkg(tmp_path / f"{number}.gpkg", parcels),
            id="column:pid",
            crop_code="crop",
            **({"valid_from": valid_from} if valid_from else {}),
        )
        # The time of knowledge is that of the import.
        sql(
            owner(db),
            """UPDATE cbm.parcel SET
                 known_from = CASE WHEN known_from > now() - interval '1 hour' THEN %s
                              ELSE known_from END,
                 known_to = CASE WHEN known_to BETWEEN now() - interval '1 hour' AND now() THEN %s
                            ELSE known_to END""",
            known, known,
        )  # fmt: skip
    [[number]] = sql(db, "SELECT id FROM cbm.dataset")
    return asking("anna", number)


def found(anna, **query) -> dict[str, str]:
    """The parcels' crops by id."""
    page = json.loads(anna.get(PATH, **query).data)
    features = page["features"]
    assert len({one["id"] for one in features}) == len(features) == page["numberReturned"]
    return {one["id"]: one["properties"]["crop_code"] for one in features}


def left(anna, pid, **query) -> float:
    """The left edge in the file's system."""
    crs = "http://www.opengis.net/def/crs/EPSG/0/32632"
    answer = anna.get(f"{PATH}/{pid}", crs=crs, **query)
    assert answer.status_code == 200, answer.json
    return min(x for x, _ in json.loads(answer.data)["geometry"]["coordinates"][0][0])


BEFORE = {"p1": "100", "p2": "100", "p3": "100"}
NOW = {"p1": "300", "p2": "200", "p4": "100"}


def test_without_a_time_those_that_have_no_end(anna):
    assert found(anna) == NOW


def test_valid_time(anna):
    both = {**BEFORE, **NOW}
    for when, expected in {
        "2024-05-31": BEFORE,
        "2024-05-31T23:59:59Z": BEFORE,
        "2024-06-01T01:30:00+02:00": BEFORE,
        "2024-06-01": NOW,
        "2024-06-01T00:00:00Z": NOW,
        "2024-03-01/2024-05-31": BEFORE,
        "../2024-05-31": BEFORE,
        "2024-06-01/..": NOW,
        # Of a parcel the last period in the interval.
        "2024-05-31/2024-06-01": both,
        "2024-01-01/..": both,
        "2023-12-31": {},
    }.items():
        assert found(anna, datetime=when) == expected, when


def test_time_of_knowledge(anna):
    between = {**NOW, "p1": "100"}
    for known, when, expected in [
        ("2024-02-01T11:59:59Z", None, {}),
        ("2024-02-01T12:00:00Z", None, BEFORE),
        ("2024-06-10", None, BEFORE),
        ("2024-06-10", "2024-07-01", BEFORE),
        ("2024-06-11", None, between),
        ("2024-06-11", "2024-05-01", BEFORE),
        ("2024-06-11", "2024-05-01/..", {**BEFORE, **between}),
        ("2024-09-02", None, NOW),
        ("2999-01-01", None, NOW),
        ("2024-09-02", "2024-05-01", BEFORE),
    ]:
        times = {"as_of": known} | ({"datetime": when} if when else {})
        assert found(anna, **times) == expected, times


def test_a_page_of_the_past_goes_on_in_the_past(anna):
    page = json.loads(anna.get(PATH, as_of="2024-06-10", limit=2).data)
    [onward] = [one["href"] for one in page["links"] if one["rel"] == "next"]
    rest = json.loads(anna.client.get(onward, headers=anna.headers).data)
    assert [one["id"] for one in page["features"] + rest["features"]] == ["p1", "p2", "p3"]


def test_one_parcel_at_its_times(anna):
    assert left(anna, "p1") == 500_010
    assert left(anna, "p1", datetime="2024-05-01") == 500_000
    assert left(anna, "p1", as_of="2024-07-01") == 500_000
    gone = json.loads(anna.get(f"{PATH}/p3").data)["properties"]
    assert (gone["valid_from"], gone["valid_to"]) == ("2024-01-01", "2024-06-01")
    for pid, query in (
        ("p3", {"datetime": "2024-06-01"}),
        ("p4", {"datetime": "2024-05-31"}),
        ("p4", {"as_of": "2024-06-10"}),
        ("p1", {"as_of": "2024-01-31"}),
    ):
        answer = anna.get(f"{PATH}/{pid}", **query)
        assert (answer.status_code, answer.json["code"]) == (404, "parcel_unknown")
