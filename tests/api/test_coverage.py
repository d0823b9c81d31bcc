"""Why there is a value of a date or not."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.api.stored import add_item, add_row, change_scene, numbers
from tests.factories import add_dataset, add_parcels, add_product, add_scene, sql, square

pytestmark = pytest.mark.postgis

LEFT, TOP = 600_000.0, 5_300_000.0
BOUNDS = (LEFT - 100, TOP - 100, LEFT + 900, TOP + 900)
NOON = datetime(2024, 5, 1, 10, 30, tzinfo=UTC)
PATH = "/v1/collections/tt_2024/items"
CODES = (
    "ok", "clouded", "no_image", "not_yet", "failed", "held", "superseded", "retracted", "not_asked"
)  # fmt: skip


@pytest.fixture
def world(db):
    """A scene for each code, a day apart, and p1, for which no pixel is planned."""
    made = add_dataset(db)
    seen, unseen = add_parcels(db, made, [square(LEFT, TOP), square(LEFT + 300, TOP, 3)])
    product = add_product(db, variables=("B04",))
    for geometry, pixels in ((seen, 100), (unseen, 0)):
        sql(
            db,
            """INSERT INTO cbm.monitorability (geometry_id, lattice, buffer_m, dataset_id, pixels,
                 whole_pixels, pixels_planned, width_m, code)
               VALUES (%s, 'l', 0, %s, %s, %s, %s, 1, 'ok')""",
            geometry, made, pixels, pixels, pixels,
        )  # fmt: skip
    for day, code in enumerate(CODES):
        obstime = NOON + timedelta(days=day)
        scene = add_scene(db, {}, reference=code, obstime=obstime, bounds=BOUNDS)
        if code in ("ok", "clouded"):
            add_row(db, made, seen, scene, product, numbers(1) if code == "ok" else None)
        elif code == "failed":
            add_item(db, made, scene, product, "failed")
        elif code == "not_yet":
            add_item(db, made, scene, product, "pending")
        elif code != "not_asked":
            add_item(db, made, scene, product)
        if code in ("held", "superseded", "retracted"):
            change_scene(db, scene, state=code)
    far = (LEFT + 50_000, TOP, LEFT + 51_000, TOP + 900)
    add_scene(db, {}, reference="elsewhere", obstime=NOON, bounds=far)
    add_scene(db, {}, reference="2023", obstime=NOON - timedelta(days=365), bounds=BOUNDS)
    return made, seen, product


def codes(found):
    assert found.status_code == 200
    return {answer["reference"]: answer["code"] for answer in found.json["answers"]}


def test_a_code_for_each_scene(asking, world):
    found = asking("anna", world[0]).get(f"{PATH}/p0/coverage")
    assert codes(found) == {code: code for code in CODES}
    answers = found.json["answers"]
    assert [answer["obstime"] for answer in answers] == sorted(one["obstime"] for one in answers)
    assert (answers[0]["px_imaged"], answers[0]["px_clear"]) == (20, 20)
    assert (answers[1]["px_imaged"], answers[1]["px_clear"]) == (20, 0)
    assert all(answer["why"] for answer in answers)


def test_a_parcel_without_pixels(asking, world):
    found = codes(asking("anna", world[0]).get(f"{PATH}/p1/coverage"))
    assert found["ok"] == found["clouded"] == found["no_image"] == "no_pixel"
    assert found["not_yet"] == "not_yet"


@pytest.mark.parametrize("pid", ["p0", "p1"])
def test_the_same_as_analysts_are_told(db, asking, world, pid):
    expected = sql(
        db,
        """SELECT product, revision, reference, code
           FROM cbm.parcel_coverage('tt', 2024, '', %s) ORDER BY obstime""",
        pid,
    )
    answers = asking("anna", world[0]).get(f"{PATH}/{pid}/coverage").json["answers"]
    found = [
        tuple(one[name] for name in ("product", "revision", "reference", "code"))
        for one in answers
        if one["code"] != "not_asked"
    ]
    assert found == expected


def test_one_date_and_one_product(db, asking, world):
    made, seen, _ = world
    clear = add_product(db, "s2_clear")
    ((scene,),) = sql(db, "SELECT id FROM cbm.scene WHERE reference = 'ok'")
    add_row(db, made, seen, scene, clear, None)
    anna = asking("anna", made)
    both = anna.get(f"{PATH}/p0/coverage", datetime="2024-05-01").json["answers"]
    assert [(one["product"], one["code"]) for one in both] == [
        ("s2", "ok"),
        ("s2_clear", "clouded"),
    ]
    one = anna.get(f"{PATH}/p0/coverage", datetime="2024-05-01", product="s2_clear")
    assert codes(one) == {"ok": "clouded"}
    assert anna.get(f"{PATH}/p0/coverage", datetime="2024-04-01").json["answers"] == []
    assert anna.get(f"{PATH}/p0/coverage", card="bs").json["answers"] == []
    assert anna.get(f"{PATH}/p0/coverage", product="bs").status_code == 404


def test_nothing_of_others_and_nothing_unlogged(db, asking, world):
    made, *_ = world
    other = add_dataset(db, aoi="zz")
    assert asking("bert", other).get(f"{PATH}/p0/coverage").json["code"] == "dataset_unknown"
    anna = asking("anna", made)
    assert anna.get(f"{PATH}/p9/coverage").json["code"] == "parcel_unknown"
    anna.get(f"{PATH}/p0/coverage")
    owner = type(db)(database={**db.database, "user": "cbm_admin"})
    logged = sql(owner, "SELECT who, detail -> 'parcels' FROM cbm.audit WHERE action = 'read'")
    assert logged == [("api:anna", ["p0"])]


def test_bad_parameters(asking, world):
    anna = asking("anna", world[0])
    for query in ("product=%00", "card='", "datetime=never", "surprise=1"):
        found = anna.client.get(f"{PATH}/p0/coverage?{query}", headers=anna.headers)
        assert (found.status_code, found.json["code"]) == (400, "bad_parameter"), query
