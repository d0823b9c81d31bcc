"""Scenes retracted and released, and what that means for their statistics."""

from contextlib import closing
from datetime import UTC, datetime

import pytest

from cbm_core import db as database
from cbm_core.errors import CbmError
from cbm_core.verbs import Context
from cbm_extract.catalogue.standing import RELEASE, RETRACT
from tests.extraction import COLS, LEFT, TOP, World, texture
from tests.factories import add_scene, asset, sql, square

pytestmark = pytest.mark.postgis

B04 = {"name": "p", "card": "s2", "bands": ["B04"]}
FIELD = square(LEFT + 105, TOP - 395, 211)
STATES = "SELECT reference, part, state, state_reason FROM cbm.scene ORDER BY id"


@pytest.fixture
def world(db, tmp_path):
    return World.make(db, tmp_path)


def call(verb, settings, **arguments):
    return verb.run(verb.arguments.model_validate(arguments), Context(settings))


def baseline(settings, scene, value):
    sql(settings, "UPDATE cbm.scene SET baseline = %s WHERE id = %s", value, scene)


@pytest.fixture
def processed_twice(db):
    """Two products of one acquisition: the newer has superseded the older."""
    older = add_scene(db, {}, reference="older")
    newer = add_scene(db, {}, reference="newer")
    sql(db, "UPDATE cbm.scene SET datastrip = obstime")
    baseline(db, older, "N0400")
    baseline(db, newer, "N0510")
    sql(db, "UPDATE cbm.scene SET state = 'superseded', superseded_by = %s WHERE id = %s",
        newer, older)  # fmt: skip
    return db


def test_what_a_retracted_scene_had_superseded_comes_back(processed_twice):
    db = processed_twice
    arguments = {"reference": "newer", "reason": "stripes"}
    checked = call(RETRACT, db, **arguments, check=True)
    assert checked.plan == ["retract s2 newer", "use s2 older again"]
    assert (checked.before, checked.after) == (
        "s2 newer: active\ns2 older: superseded by newer\n",
        "s2 newer: retracted\ns2 older: active\n",
    )
    assert sql(db, STATES)[1][2] == "active"
    done = call(RETRACT, db, **arguments)
    assert (done.plan, done.before, done.after) == (checked.plan, checked.before, checked.after)
    assert sql(db, STATES) == [
        ("older", "", "active", None), ("newer", "", "retracted", "stripes"),
    ]  # fmt: skip
    again = call(RETRACT, db, **arguments)
    assert (again.changed, again.plan) == (False, [])
    with closing(database.connect(db, "owner")) as owner, owner.cursor() as cursor:
        cursor.execute("SELECT action, detail ->> 'reason' FROM cbm.audit")
        assert cursor.fetchall() == [("scenes retract", "stripes")]


def test_a_retraction_taken_back(processed_twice):
    db = processed_twice
    call(RETRACT, db, reference="newer", reason="stripes")
    done = call(RELEASE, db, reference="newer")
    assert done.plan == ["release s2 newer", "supersede s2 older by newer"]
    assert [row[2] for row in sql(db, STATES)] == ["superseded", "active"]
    assert not call(RELEASE, db, reference="newer").changed
    assert not call(RELEASE, db, reference="older").changed


def test_released_behind_a_newer_product_it_is_superseded(processed_twice):
    db = processed_twice
    call(RETRACT, db, reference="older", reason="no need")
    assert sql(db, STATES)[0][2:] == ("retracted", "no need")
    call(RELEASE, db, reference="older")
    assert sql(db, STATES)[0][2:] == ("superseded", "superseded by newer")


def test_one_part_or_all(db):
    for part in ("a", "b"):
        add_scene(db, {}, reference="chip", part=part)
    assert call(RETRACT, db, reference="chip", part="b", reason="x").result["scenes"] == [
        "s2 chip part b"
    ]
    assert call(RETRACT, db, reference="chip", reason="x").plan == ["retract s2 chip part a"]
    with pytest.raises(CbmError, match="its parts are: a, b"):
        call(RELEASE, db, reference="chip", part="c")


def test_an_unknown_scene_is_answered_with_names_like_it(db):
    for day in range(1, 29):
        add_scene(db, {}, reference=f"S2A_MSIL2A_202405{day:02}T103021_T32TMT", part=str(day))
    with pytest.raises(CbmError) as caught:
        call(RETRACT, db, reference="S2A_MSIL2A_20240517T103021_T32TMS", reason="x")
    assert caught.value.code == "scene_unknown"
    assert caught.value.details["nearest"][0] == "S2A_MSIL2A_20240517T103021_T32TMT"


def test_a_false_hold_is_overruled_once_for_all(world):
    world.parcels([FIELD])
    path = world.raster("dark", texture(low=200, high=1300))
    world.scene({"B04": asset(path, offset=-1000.0)})
    assert world.extract(B04).result["held"] == 1
    assert call(RELEASE, world.settings, reference="scene").changed
    assert world.extract(B04).result["done"] == 1
    assert sql(world.settings, "SELECT state, overruled FROM cbm.scene") == [
        ("active", ["suspect_offset"])
    ]
    world.parcels([square(LEFT + 400, TOP - 400)], layer="b")
    assert world.extract(B04).result["held"] == 0


def test_statistics_follow_their_scene(world):
    world.west = world.scene({"B04": texture(seed=11)}, reference="w", tile="32UPU")
    right = world.raster("e", texture(seed=12), left=LEFT + 10 * COLS - 200)
    world.scene({"B04": right}, reference="e", tile="32UQU")
    later = datetime(2024, 6, 1, 10, tzinfo=UTC)
    world.scene({"B04": texture(seed=13)}, reference="june", tile="32UPU", obstime=later)
    (both,) = world.parcels([square(LEFT + 10 * COLS - 150, TOP - 300, 60)])
    world.extract(B04)
    shown = "SELECT reference FROM cbm.signature_long WHERE geometry_id = %s ORDER BY obstime"
    assert sql(world.settings, shown, both) == [("w",), ("june",)]
    call(RETRACT, world.settings, reference="w", reason="wrong")
    assert sql(world.settings, shown, both) == [("june",)]
    world.extract(B04)
    assert sql(world.settings, shown, both) == [("e",), ("june",)]
    call(RELEASE, world.settings, reference="w")
    assert sql(world.settings, shown, both) == [("w",), ("june",)]
    assert not world.extract(B04).changed
