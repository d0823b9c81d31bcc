"""Collections: the layers of granted datasets."""

import pytest

from tests.api.conftest import owner
from tests.factories import add_dataset, add_parcels, sql, square

pytestmark = pytest.mark.postgis

EPSG = "http://www.opengis.net/def/crs/EPSG/0/"
CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"


@pytest.fixture
def world(db):
    """Dataset tt:2024 with two layers; ie:2023 without parcels."""
    first = add_dataset(db)
    add_parcels(db, first, [square(600_000, 5_300_000), square(600_200, 5_300_000)])
    add_parcels(db, first, [square(600_400, 5_300_000)], layer="mowing")
    return first, add_dataset(db, aoi="ie", year=2023)


def test_each_layer_of_a_granted_dataset_is_a_collection(asking, world):
    first, second = world
    anna = asking("anna", first, second)
    found = anna.get("/v1/collections").json["collections"]
    assert [(one["id"], one["parcels"]) for one in found] == [
        ("ie_2023", 0),
        ("tt_2024", 2),
        ("tt_2024.mowing", 1),
    ]
    for one in found:
        links = {link["rel"]: link["href"] for link in one["links"]}
        assert anna.get(links["self"]).json == one
        items = anna.get(links["items"]).json
        assert items["numberReturned"] == items["numberMatched"] == one["parcels"]


def test_only_granted_datasets_are_there(asking, world):
    bert = asking("bert", world[1])
    assert [one["id"] for one in bert.get("/v1/collections").json["collections"]] == ["ie_2023"]
    for path in ("tt_2024", "tt_2024/items", "tt_2024/items/p0", "tt_2024/items/p0/peers",
                 "tt_2024/items/p0/peers/statistics"):  # fmt: skip
        hidden, absent = (
            bert.get(f"/v1/collections/{name}") for name in (path, path.replace("tt", "xx"))
        )
        assert (hidden.status_code, hidden.json["code"]) == (404, "dataset_unknown")
        # Whether there is such a dataset does not show.
        assert hidden.json["detail"] == absent.json["detail"]


@pytest.mark.parametrize(
    "name",
    ["tt", "TT_2024", "tt_24", "tt_2024.", "tt_2024.none", "tt_2024' OR 1=1", "%00", "tt_2024%00"],
)
def test_other_names_are_not_found(asking, world, name):
    answer = asking("anna", *world).get(f"/v1/collections/{name}")
    assert (answer.status_code, answer.json["code"]) == (404, "dataset_unknown")


def test_a_purged_dataset_is_gone(asking, db, world):
    anna = asking("anna", *world)
    sql(owner(db), "SELECT cbm.purge_dataset(%s::smallint)", world[1])
    assert anna.get("/v1/collections/ie_2023").status_code == 404
    assert "ie_2023" not in str(anna.get("/v1/collections").json)


def test_what_a_collection_says(asking, db, world):
    sql(
        owner(db),
        """UPDATE cbm.parcel_set SET report = '{"extent": [10.2, 47.8, 10.4, 47.9]}'
           WHERE layer = ''""",
    )
    found = asking("anna", world[0]).get("/v1/collections/tt_2024").json
    assert found["itemType"] == "feature"
    assert found["extent"] == {
        "spatial": {"bbox": [[10.2, 47.8, 10.4, 47.9]], "crs": CRS84},
        "temporal": {"interval": [["2024-01-01T00:00:00Z", "2024-12-31T23:59:59Z"]]},
    }
    assert found["storageCrs"] == f"{EPSG}32632"
    assert found["crs"] == [CRS84, f"{EPSG}4326", f"{EPSG}3857", f"{EPSG}32632"]


def test_a_file_in_a_system_without_a_code_is_given_in_the_common_ones(asking, db, world):
    sql(db, "INSERT INTO cbm.crs VALUES (900001, 'a local one')")
    sql(owner(db), "UPDATE cbm.parcel_set SET crs_id = 900001")
    found = asking("anna", world[0]).get("/v1/collections/tt_2024").json
    assert found["storageCrs"] == CRS84
    assert found["crs"] == [CRS84, f"{EPSG}4326", f"{EPSG}3857"]
