"""`cbm ledger explain` at each turn of a scene's life."""

from contextlib import closing

import pytest

from cbm_core import db as database
from cbm_core.errors import CbmError
from cbm_core.verbs import Context
from cbm_extract.catalogue.standing import RETRACT
from cbm_extract.ledger import claims
from cbm_extract.ledger.explain import EXPLAIN
from cbm_extract.ledger.states import Scope
from cbm_extract.ledger.verbs import REDO
from tests.extraction import LEFT, TOP, World, texture
from tests.factories import add_dataset, add_parcels, sql, square

pytestmark = pytest.mark.postgis

B04 = {"name": "p", "card": "s2", "bands": ["B04"]}
FIELD = square(LEFT + 105, TOP - 395, 211)


@pytest.fixture
def world(db, tmp_path):
    world = World.make(db, tmp_path)
    world.parcels([FIELD])
    world.path = world.raster("scene_B04", texture())
    world.scene({"B04": world.path})
    return world


def call(verb, world, **arguments):
    return verb.run(verb.arguments.model_validate(arguments), Context(world.settings))


def explain(world, reference="scene", **arguments):
    answer = call(EXPLAIN, world, reference=reference, **arguments)
    (scene,) = answer.result["scenes"]
    return answer.text, scene


def test_before_anything_was_asked(world):
    text, scene = explain(world)
    assert scene["not_asked_for_by"] == ["tt:2024"]
    assert "active: in use" in text
    assert "not asked for yet by tt:2024" in text
    other = add_dataset(world.settings, "far")
    add_parcels(world.settings, other, [square(LEFT + 90_000, TOP)])
    text, scene = explain(world, dataset="far:2024")
    assert scene["not_asked_for_by"] == []
    assert "No dataset has parcels under it" in text


def test_done_then_new_parcels(world):
    world.extract(B04)
    text, scene = explain(world)
    (item,) = scene["items"]
    (run,) = item["runs"]
    digest = sql(world.settings, "SELECT encode(digest, 'hex') FROM cbm.run")[0][0]
    assert run["digest"] == digest[:12]
    assert (run["scope"], run["rows"], item["state"]) == ("full", 1, "done")
    assert "covers: parcels imported up to set 1: all it shows" in text
    assert "next: nothing, until new parcels come" in text
    world.parcels([square(LEFT + 400, TOP - 400)], layer="b")
    text, _ = explain(world)
    assert "up to set 1, not those of 2" in text
    assert "next: `cbm extract tt:2024` does the parcels that came since." in text


def test_failed(world):
    whole = world.path.read_bytes()
    world.path.write_bytes(whole[:3000])
    with pytest.raises(CbmError):
        world.extract(B04)
    text, scene = explain(world)
    assert scene["items"][0]["state"] == "failed"
    assert "attempts: 1 of 5" in text
    assert "(raster_damaged): " in text
    assert "`cbm ledger retry tt:2024`" in text


def test_running_and_silent(world):
    world.extract(B04)
    call(REDO, world, dataset="tt:2024", reason="new calibration")
    assert "does everything again (new calibration)" in explain(world)[0]
    with (
        closing(database.connect(world.settings)) as connection,
        database.transaction(connection) as cursor,
    ):
        claims.claim(cursor, Scope(), "host:7", 60)
    text, scene = explain(world)
    assert "next: host:7 has worked on it since" in text
    assert scene["items"][0]["lease_expired"] is False
    sql(world.settings, "UPDATE cbm.work_item SET lease_until = now() - interval '1 s'")
    assert "the next worker takes it over" in explain(world)[0]
    call(REDO, world, dataset="tt:2024")
    assert "Then everything again." in explain(world)[0]


def test_a_redo_tells_what_became_of_the_rows(world):
    world.extract(B04)
    for seed, words in ((1, "it came out as before"), (2, "1 old rows are archived")):
        world.raster("scene_B04", texture(seed=seed))
        call(REDO, world, dataset="tt:2024")
        world.extract(B04)
        assert words in explain(world)[0]


def test_scenes_not_in_use(world):
    world.extract(B04)
    call(RETRACT, world, reference="scene", reason="stripes")
    text, scene = explain(world)
    assert (scene["state"], scene["state_reason"]) == ("retracted", "stripes")
    assert "(stripes): not extracted, not shown. `cbm scenes release`" in text
    sql(world.settings, "UPDATE cbm.scene SET state = 'held', state_reason = 'suspect_offset'")
    call(REDO, world, dataset="tt:2024")
    text, _ = explain(world)
    assert "held since" in text
    assert "next: nothing while the scene is held; then everything again" in text
    newer = world.scene({"B04": world.path}, reference="newer")
    sql(world.settings, "UPDATE cbm.scene SET state = 'superseded', superseded_by = %s"
                        " WHERE reference = 'scene'", newer)  # fmt: skip
    assert "by newer: its statistics are hidden. `cbm scenes retract` of newer" in explain(world)[0]
    assert "instead of scene" in explain(world, "newer")[0]


def test_parts_and_unknown_names(world):
    world.scene({"B04": world.path}, part="x")
    answer = call(EXPLAIN, world, reference="scene")
    assert [one["part"] for one in answer.result["scenes"]] == ["", "x"]
    assert explain(world, part="x")[1]["part"] == "x"
    with pytest.raises(CbmError) as caught:
        explain(world, "scenes")
    assert (caught.value.code, caught.value.details["nearest"]) == ("scene_unknown", ["scene"])
