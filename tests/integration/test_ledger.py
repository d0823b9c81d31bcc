"""The ledger: what is enqueued, what becomes of failures, what its commands say."""

from datetime import UTC, datetime

import pytest
import shapely

from cbm_core.errors import CbmError
from cbm_core.verbs import Context
from cbm_extract.ledger import claims, enqueue, overview, verbs
from cbm_extract.ledger.enqueue import Wanted
from cbm_extract.ledger.states import MAX_ATTEMPTS, Scope
from tests.factories import add_dataset, add_parcels, add_scene, sql, square
from tests.integration import ledgers
from tests.integration.ledgers import (
    DAMAGED,
    OFFLINE,
    SOUTH,
    WEST,
    YEAR,
    claim,
    do,
    enqueued,
    expire,
    states,
    tile,
)

pytestmark = pytest.mark.postgis


@pytest.fixture
def world(db):
    return ledgers.world(db)


class TestEnqueue:
    def test_only_active_scenes_of_the_card_and_period_over_parcels(self, world):
        settings, _, _ = world
        wanted = tile(settings, 0)
        tile(settings, 1, square=5)
        tile(settings, 2, card="bs")
        tile(settings, 3, obstime=datetime(2023, 12, 31, 23, 59, 59, tzinfo=UTC))
        tile(settings, 4, obstime=datetime(2025, 1, 1, tzinfo=UTC))
        last = tile(settings, 5, obstime=datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC))
        held = tile(settings, 6)
        sql(settings, "UPDATE cbm.scene SET state = 'held' WHERE id = %s", held)
        _, changed = enqueued(world)
        assert changed == 2
        assert {row[0] for row in sql(settings, "SELECT scene_id FROM cbm.work_item")} == {
            wanted, last,
        }  # fmt: skip

    def test_a_second_time_finds_nothing(self, world):
        tile(world[0], 0)
        enqueued(world)
        todo, changed = enqueued(world)
        assert (todo.lines, changed) == ([], 0)

    def test_new_geometries_reopen_only_done_scenes_over_them(self, world):
        settings, dataset, _ = world
        add_parcels(settings, dataset, [square(WEST + 3100, SOUTH + 100)], layer="b")
        near, far = tile(settings, 0), tile(settings, 1, square=3)
        todo, _ = enqueued(world)
        sql(settings, "UPDATE cbm.work_item SET state = 'done', parcel_set_id = %s",
            todo.parcel_set_id)  # fmt: skip
        add_parcels(settings, dataset, [square(WEST + 3300, SOUTH + 100)], layer="c")
        _, changed = enqueued(world)
        assert changed == 1
        assert sql(settings, "SELECT scene_id, state FROM cbm.work_item ORDER BY 1") == [
            (near, "done"), (far, "pending"),
        ]  # fmt: skip

    def test_retired_geometries_ask_for_nothing(self, world):
        settings, dataset, _ = world
        tile(settings, 0, square=3)
        add_parcels(settings, dataset, [square(WEST + 3100, SOUTH + 100)], layer="b")
        sql(settings, "UPDATE cbm.parcel_geometry SET retired_at = now()"
                      " WHERE parcel_set_id = (SELECT max(id) FROM cbm.parcel_set)")  # fmt: skip
        assert enqueued(world)[1] == 0

    def test_footprint_counts_not_its_bounding_box(self, world):
        settings, _, _ = world
        from tests.factories import transformed

        corner = shapely.Polygon(
            [(WEST + 1000, SOUTH), (WEST + 1000, SOUTH + 1000), (WEST, SOUTH + 1000)]
        )
        add_scene(settings, {}, footprint=transformed(corner, "EPSG:32632"))
        assert enqueued(world)[1] == 0

    def test_without_parcels(self, db):
        dataset = add_dataset(db)
        with pytest.raises(CbmError) as caught:
            do(db, enqueue.plan, dataset, [Wanted("s2", "s2", None)], *YEAR)
        assert caught.value.code == "no_parcels"
        assert "tt:2024" in caught.value.message


class TestFailure:
    @pytest.fixture
    def settings(self, world):
        tile(world[0], 0)
        enqueued(world)
        return world[0]

    def test_lasting_causes_fail_at_once_with_the_error_kept(self, settings):
        taken = claim(settings)
        assert do(settings, claims.fail, taken, taken.items[0], DAMAGED) == "failed"
        assert sql(settings, "SELECT state, attempts, error_code, error FROM cbm.work_item") == [
            ("failed", 1, "raster_damaged", "The file is damaged.")
        ]
        assert claim(settings) is None

    def test_passing_causes_are_retried_a_bounded_number_of_times(self, settings):
        seen = []
        while (taken := claim(settings)) is not None:
            seen.append(do(settings, claims.fail, taken, taken.items[0], OFFLINE))
        assert seen == ["pending"] * (MAX_ATTEMPTS - 1) + ["failed"]

    def test_a_scene_that_kills_its_workers_is_given_up(self, settings):
        tries = 0
        while claim(settings) is not None:
            tries += 1
            expire(settings)
        assert tries == MAX_ATTEMPTS
        (failure,) = do(settings, overview.failures, Scope())
        assert failure.code == "worker_lost"

    def test_interrupted_work_is_no_attempt(self, settings):
        for _ in range(MAX_ATTEMPTS + 1):
            assert do(settings, claims.release, claim(settings)) == 1
        assert claim(settings).items[0].attempts == 1

    def test_held_scene_waits_without_failing(self, settings):
        taken = claim(settings)
        do(settings, claims.hold, taken, CbmError("suspect_offset", "Negative."))
        assert sql(settings, "SELECT state, state_reason FROM cbm.scene") == [
            ("held", "suspect_offset")
        ]
        assert claim(settings) is None
        sql(settings, "UPDATE cbm.scene SET state = 'active'")
        assert claim(settings).items[0].attempts == 1


class TestVerbs:
    @pytest.fixture
    def failed(self, world):
        settings = world[0]
        for number in range(3):
            tile(settings, number)
        enqueued(world)
        for error in (DAMAGED, OFFLINE):
            taken = claim(settings)
            do(settings, claims.fail, taken, taken.items[0], error)
        sql(settings, "UPDATE cbm.work_item SET state = 'failed' WHERE attempts = 1")
        return settings

    def call(self, verb, settings, **arguments):
        return verb.run(verb.arguments.model_validate(arguments), Context(settings))

    def test_status_counts_and_names_causes(self, failed):
        answer = self.call(verbs.STATUS, failed)
        (row,) = answer.result["items"]
        assert row == {
            "dataset": "tt:2024", "product": "s2",
            "pending": 1, "running": 0, "done": 0, "failed": 2,
        }  # fmt: skip
        assert [f["code"] for f in answer.result["failed"]] == [
            "raster_damaged", "raster_unreachable",
        ]  # fmt: skip
        assert "scene0" in answer.text
        assert "The file is damaged." in answer.text

    def test_status_shows_open_items_of_held_scenes_apart(self, failed):
        sql(failed, "UPDATE cbm.scene SET state = 'held' WHERE reference = 'scene2'")
        (row,) = self.call(verbs.STATUS, failed, dataset="tt:2024").result["items"]
        assert (row["pending"], row["held"], row["failed"]) == (0, 1, 2)

    def test_retry_checks_filters_and_starts_attempts_again(self, failed):
        checked = self.call(verbs.RETRY, failed, dataset="tt:2024", check=True)
        assert checked.changed
        assert len(checked.plan) == 2
        assert states(failed) == {"failed": 2, "pending": 1}
        answer = self.call(verbs.RETRY, failed, dataset="tt:2024", code="raster_damaged")
        assert answer.result == {"retried": 1}
        assert answer.plan == ["retry s2 of scene0"]
        assert states(failed) == {"failed": 1, "pending": 2}
        assert claim(failed).items[0].attempts == 1
        assert self.call(verbs.RETRY, failed, dataset="tt:2024", scene="scene1").changed
        assert not self.call(verbs.RETRY, failed, dataset="tt:2024").changed

    @pytest.mark.parametrize("verb", [verbs.RETRY, verbs.REDO])
    def test_an_unknown_scene_is_told(self, failed, verb):
        with pytest.raises(CbmError, match="No scene nowhere"):
            self.call(verb, failed, dataset="tt:2024", scene="nowhere")

    def test_retry_of_an_unknown_product(self, failed):
        with pytest.raises(CbmError) as caught:
            self.call(verbs.RETRY, failed, dataset="tt:2024", products=["nix"])
        assert caught.value.code == "product_unknown"
        assert "s2" in caught.value.message
