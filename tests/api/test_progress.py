"""How far the extraction is."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.api.stored import add_item, change_scene
from tests.factories import add_dataset, add_parcels, add_product, add_scene, sql, square

pytestmark = pytest.mark.postgis

PATH = "/v1/collections/tt_2024/progress"
STATES = ("done", "done", "done", "pending", "pending", "failed", "pending")


@pytest.fixture
def dataset(db):
    """Seven scenes; the last is held."""
    made = add_dataset(db)
    add_parcels(db, made, [square(600_000, 5_300_000)])
    product = add_product(db)
    for number, state in enumerate(STATES):
        obstime = datetime(2024, 5, 1 + number, tzinfo=UTC)
        scene = add_scene(db, {}, reference=f"s{number}", obstime=obstime)
        add_item(db, made, scene, product, state)
    change_scene(db, scene, state="held")
    return made


def test_scenes_are_counted(db, asking, dataset):
    sql(db, "UPDATE cbm.work_item SET error_code = 'raster_unreadable' WHERE state = 'failed'")
    found = asking("anna", dataset).get(PATH)
    assert found.status_code == 200
    assert found.json == {
        "collection": "tt_2024",
        "products": [
            {
                "product": "s2", "revision": 1, "card": "s2", "pending": 2, "running": 0,
                "done": 3, "failed": 1, "withheld": 1,
            }
        ],
        "failures": {"raster_unreadable": 1},
        "rate_per_hour": None,
        "seconds_left": None,
        "last_done_at": None,
    }  # fmt: skip


def test_the_pace(db, asking, dataset):
    """Three scenes in six minutes: thirty an hour, so that two take four minutes."""
    sql(
        db,
        """UPDATE cbm.work_item SET started_at = now() - interval '6 minutes',
             finished_at = now() - interval '1 second' WHERE state = 'done'""",
    )
    found = asking("anna", dataset).get(PATH).json
    assert found["rate_per_hour"] == pytest.approx(30, rel=0.05)
    assert found["seconds_left"] == pytest.approx(240, rel=0.05)
    last = datetime.fromisoformat(found["last_done_at"])
    assert datetime.now(UTC) - last < timedelta(minutes=1)


def test_before_anything_was_asked_for(db, asking):
    made = add_dataset(db)
    found = asking("anna", made).get(PATH).json
    assert (found["products"], found["seconds_left"]) == ([], 0)
