"""The scenes and products of a collection."""

from datetime import UTC, datetime, timedelta

import pytest
import shapely

from tests.api.stored import add_item, change_scene
from tests.factories import add_dataset, add_parcels, add_product, add_scene, asset, square

pytestmark = pytest.mark.postgis

NOON = datetime(2024, 5, 1, 10, 30, tzinfo=UTC)
PATH = "/v1/collections/tt_2024"
BOUNDS = (600_000, 5_300_000, 601_000, 5_301_000)


@pytest.fixture
def world(db):
    """Dataset tt with five scenes, asked of s2, and zz with one of its own."""
    made, other = add_dataset(db), add_dataset(db, aoi="zz")
    add_parcels(db, made, [square(600_000, 5_300_000)])
    product = add_product(db, variables=("B04", "NDVI"))
    scenes = [
        add_scene(
            db, {"B04": asset("/secret/place/B04.tif", scale=1.0, offset=-1000)},
            reference=f"s{n}", obstime=NOON + timedelta(days=n), bounds=BOUNDS,
        )
        for n in range(6)
    ]  # fmt: skip
    for scene in scenes[:5]:
        add_item(db, made, scene, product, state="pending" if scene == scenes[4] else "done")
    add_item(db, other, scenes[5], product)
    return made, scenes


def references(found):
    assert found.status_code == 200
    return [scene["reference"] for scene in found.json["scenes"]]


def test_the_scenes_that_were_asked_for_by_time(asking, world):
    made, scenes = world
    found = asking("anna", made).get(f"{PATH}/scenes")
    assert references(found) == ["s0", "s1", "s2", "s3", "s4"]
    assert found.json["links"] == []
    first = found.json["scenes"][0]
    assert (first["id"], first["card"], first["tile"]) == (scenes[0], "s2", "32TMT")
    assert datetime.fromisoformat(first["obstime"]) == NOON


def test_pages_hold_each_scene_once(db, asking, world):
    made, scenes = world
    # Two of one moment.
    change_scene(db, scenes[2], obstime=NOON + timedelta(days=1))
    anna = asking("anna", made)
    found = anna.get(f"{PATH}/scenes", limit=2, state="active")
    pages = [references(found)]
    while found.json["links"]:
        (link,) = found.json["links"]
        assert link["rel"] == "next"
        found = anna.client.get(link["href"], headers=anna.headers)
        pages.append(references(found))
    assert pages == [["s0", "s1"], ["s2", "s3"], ["s4"]]


def test_scenes_are_chosen(db, asking, world):
    made, scenes = world
    change_scene(db, scenes[0], orbit_direction="ascending", relative_orbit=88, cloud_percent=5)
    change_scene(db, scenes[1], orbit_direction="descending", relative_orbit=37, cloud_percent=50)
    change_scene(
        db, scenes[2], state="superseded", superseded_by=scenes[3], state_reason="newer", card="bs"
    )
    anna = asking("anna", made)

    def found(**query):
        return references(anna.get(f"{PATH}/scenes", **query))

    assert found(orbit="ascending") == found(orbit="88") == ["s0"]
    assert found(max_cloud_percent=20) == ["s0"]
    assert found(state="superseded") == found(card="bs") == ["s2"]
    assert found(datetime="2024-05-02/2024-05-03") == ["s1", "s2"]
    assert found(datetime="2024-05-04/..") == ["s3", "s4"]
    (scene,) = anna.get(f"{PATH}/scenes", card="bs").json["scenes"]
    assert (scene["superseded_by"], scene["state_reason"]) == ("s3", "newer")


def test_all_about_a_scene_but_not_where_its_files_are(asking, world):
    made, scenes = world
    anna = asking("anna", made)
    found = anna.get(f"{PATH}/scenes/{scenes[0]}")
    assert found.status_code == 200
    assert shapely.geometry.shape(found.json["footprint"]).is_valid
    assert found.json["bands"]["B04"] == {
        "index": 1, "scale": 1.0, "offset": -1000, "nodata": [0.0], "offset_source": "declared"
    }  # fmt: skip
    assert "secret" not in found.text
    (item,) = found.json["extractions"]
    assert (item["product"], item["state"]) == ("s2", "done")
    assert anna.get(f"{PATH}/scenes/{scenes[4]}").json["extractions"][0]["state"] == "pending"


def test_of_others_nothing(app, asking, world):
    made, scenes = world
    anna = asking("anna", made)
    hidden, missing = (anna.get(f"{PATH}/scenes/{n}") for n in (scenes[5], 99_999))
    assert hidden.status_code == missing.status_code == 404
    assert hidden.json["code"] == missing.json["code"] == "scene_unknown"
    for path in ("/scenes", f"/scenes/{scenes[0]}", "/products", "/progress"):
        refused = anna.get(f"/v1/collections/zz_2024{path}")
        assert (refused.status_code, refused.json["code"]) == (404, "dataset_unknown")
        assert app.test_client().get(f"{PATH}{path}").status_code == 401


def test_the_products(db, asking, world):
    made, _ = world
    add_product(db, "unused")
    assert asking("anna", made).get(f"{PATH}/products").json == {
        "products": [
            {
                "name": "s2", "revision": 1, "card": "s2", "unit": "reflectance x 10000",
                "variables": ["B04", "NDVI"], "buffer_m": 0.0,
            }
        ]
    }  # fmt: skip


def test_bad_parameters(asking, world):
    anna = asking("anna", world[0])
    for query in (
        "limit=0", "limit=1001", "limit=x", "after=0", "after=99999999999", "card=%00", "orbit='",
        "state=lost", "max_cloud_percent=nan", "datetime=x", "surprise=1", "_external=1",
    ):  # fmt: skip
        found = anna.client.get(f"{PATH}/scenes?{query}", headers=anna.headers)
        assert (found.status_code, found.json["code"]) == (400, "bad_parameter"), query
    for path in ("products", "progress", "scenes/1"):
        assert anna.get(f"{PATH}/{path}", surprise=1).status_code == 400, path
    for scene in ("0", "-1", "x", "99999999999", "1%00"):
        assert anna.get(f"{PATH}/scenes/{scene}").status_code == 400, scene
