"""cbm metrics: figures are what plain SQL says, and are found without reading all scenes."""

import os
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cbm_core import db as database
from cbm_core.errors import CbmError
from cbm_core.verbs import Context
from cbm_extract.ledger import claims, figures
from cbm_extract.ledger.metrics import METRICS
from tests.factories import add_dataset, add_parcels, add_product, sql, square
from tests.integration import ledgers
from tests.integration.ledgers import SOUTH, WEST, claim, do, enqueued, expire, tile

pytestmark = pytest.mark.postgis


@pytest.fixture
def world(db):
    return ledgers.world(db)


def run(settings, **arguments):
    return METRICS.run(METRICS.arguments.model_validate(arguments), Context(settings))


def parsed(text):
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def measured(settings):
    return parsed(run(settings).text)


def of(figures_, name):
    return {key[1:]: value for key, value in figures_.items() if key[0] == name}


def as_owner(settings, statement, *parameters):
    with database.session(settings, "owner") as c, database.transaction(c) as cursor:
        cursor.execute("SET ROLE cbm_owner")
        cursor.execute(statement, parameters or None)


def moment(settings, statement):
    return sql(settings, f"SELECT extract(epoch FROM ({statement}))::float8")[0][0]


@pytest.fixture
def busy(world):
    """Six scenes: one done, one running, one failed, one held with its open item, two pending."""
    settings, _, _ = world
    scenes = [tile(settings, number) for number in range(6)]
    enqueued(world)
    states = {0: "done", 2: "failed"}
    for number, state in states.items():
        sql(settings, "UPDATE cbm.work_item SET state = %s, finished_at = now(),"
                      " error_code = CASE WHEN %s = 'failed' THEN 'raster_damaged' END"
                      " WHERE scene_id = %s", state, state, scenes[number])  # fmt: skip
    sql(settings, "UPDATE cbm.scene SET state = 'held' WHERE id = %s", scenes[5])
    assert claim(settings).scene_id == scenes[1]
    return settings


def test_items_are_counted_as_plain_sql_counts_them(busy):
    counted = sql(
        busy,
        """SELECT d.aoi || ':' || d.year, p.name, CASE WHEN w.state IN ('pending', 'running')
                    AND s.state <> 'active' THEN s.state ELSE w.state END, count(*)
           FROM cbm.work_item w JOIN cbm.scene s ON s.id = w.scene_id
           JOIN cbm.product p ON p.id = w.product_id
           JOIN cbm.dataset d ON d.id = w.dataset_id GROUP BY 1, 2, 3""",
    )
    found = measured(busy)
    assert of(found, "cbm_ledger_items") == {
        (d, product, state): n for d, product, state, n in counted
    }
    assert of(found, "cbm_ledger_items") == {
        ("tt:2024", "s2", "done"): 1, ("tt:2024", "s2", "running"): 1,
        ("tt:2024", "s2", "failed"): 1, ("tt:2024", "s2", "held"): 1,
        ("tt:2024", "s2", "pending"): 2,
    }  # fmt: skip
    assert of(found, "cbm_ledger_failed_items") == {("raster_damaged", "tt:2024", "s2"): 1}


def test_a_later_revision_is_named(busy):
    sql(
        busy,
        """INSERT INTO cbm.product (name, revision, card, variables, definition, hash)
                 VALUES ('s2', 2, 's2', '{}', '{}', 'other')""",
    )
    sql(
        busy,
        """UPDATE cbm.work_item SET product_id = (SELECT max(id) FROM cbm.product)
                 WHERE state = 'done'""",
    )
    found = of(measured(busy), "cbm_ledger_items")
    assert found["tt:2024", "s2@2", "done"] == 1
    assert found["tt:2024", "s2", "done"] == 0


def test_an_empty_ledger(world):
    found = measured(world[0])
    assert not of(found, "cbm_ledger_items")
    assert not of(found, "cbm_dataset_newest_scene_timestamp_seconds")
    assert of(found, "cbm_ledger_expired_items") == {("tt:2024",): 0}
    assert found[("cbm_ledger_workers",)] == 0
    assert not of(found, "cbm_ledger_oldest_lease_timestamp_seconds")
    assert not of(found, "cbm_run_last_timestamp_seconds")


def test_leases(busy):
    found = measured(busy)
    since = moment(busy, "SELECT min(started_at) FROM cbm.work_item WHERE state = 'running'")
    assert found["cbm_ledger_oldest_lease_timestamp_seconds", "tt:2024"] == pytest.approx(since)
    assert found["cbm_ledger_expired_items", "tt:2024"] == 0
    assert found[("cbm_ledger_workers",)] == 1
    expire(busy)
    found = measured(busy)
    assert found["cbm_ledger_expired_items", "tt:2024"] == 1
    assert found[("cbm_ledger_workers",)] == 0


def test_newest_scenes_of_catalogue_and_dataset(busy):
    other = add_dataset(busy, year=2023, start="2023-01-01", end="2023-12-31")
    found = measured(busy)
    newest = {
        ("enqueued", "s2", "tt:2024"): "s.state = 'active'",
        ("extracted", "s2", "tt:2024"): "s.state = 'active' AND w.state = 'done'",
    }
    assert of(found, "cbm_dataset_newest_scene_timestamp_seconds") == {
        (card, dataset, stage): pytest.approx(moment(busy, f"""
            SELECT max(obstime) FROM cbm.scene s
            JOIN cbm.work_item w ON w.scene_id = s.id AND {condition}"""))
        for (stage, card, dataset), condition in newest.items()
    }  # fmt: skip
    # The newest of all is held.
    assert found["cbm_catalogue_newest_scene_timestamp_seconds", "s2"] == pytest.approx(
        moment(busy, "SELECT max(obstime) FROM cbm.scene WHERE state = 'active'")
    )
    assert found[("cbm_catalogue_added_timestamp_seconds",)] == pytest.approx(
        moment(busy, "SELECT max(added_at) FROM cbm.scene")
    )
    ends = {("tt:2023",): datetime(2024, 1, 1, tzinfo=UTC).timestamp(),
            ("tt:2024",): datetime(2025, 1, 1, tzinfo=UTC).timestamp()}  # fmt: skip
    assert of(found, "cbm_dataset_imagery_end_timestamp_seconds") == ends
    as_owner(busy, "UPDATE cbm.dataset SET purged_at = now() WHERE id = %s", other)
    assert ("tt:2023",) not in of(measured(busy), "cbm_dataset_imagery_end_timestamp_seconds")


def test_last_run_and_compaction(busy):
    dataset, scene, product = sql(
        busy, "SELECT dataset_id, scene_id, product_id FROM cbm.work_item WHERE state = 'done'"
    )[0]
    for minutes in (30, 10):
        sql(busy, """INSERT INTO cbm.run (scene_id, dataset_id, product_id, scope, parcel_set_from,
                       parcel_set_to, token, worker, software_version, product_hash, plans, assets,
                       rows, digest, started_at, finished_at)
                     VALUES (%s, %s, %s, 'delta', 0, 1, 1, 'w', '0', '', '{}', '{}', 0, '', now(),
                       now() - make_interval(mins => %s))""",
            scene, dataset, product, minutes)  # fmt: skip
    as_owner(
        busy,
        """INSERT INTO cbm.signature_partition_state
           SELECT %s, month, compacted, 1
           FROM (VALUES ('2024-05-01'::date, '2024-07-01Z'::timestamptz),
                        ('2024-06-01', '2024-08-01Z')) AS v (month, compacted)""",
        dataset,
    )
    found = measured(busy)
    last = moment(busy, "SELECT max(finished_at) FROM cbm.run")
    assert found[("cbm_run_last_timestamp_seconds",)] == pytest.approx(last)
    assert of(found, "cbm_compaction_last_timestamp_seconds") == {
        ("tt:2024",): datetime(2024, 8, 1, tzinfo=UTC).timestamp()
    }


def test_nothing_is_changed_and_a_claim_goes_on_meanwhile(busy):
    with (
        closing(database.connect(busy)) as connection,
        database.transaction(connection) as cursor,
    ):
        list(figures.families(cursor))
        claimed = threading.Thread(target=do, args=(busy, claims.claim, ledgers.Scope(), "b", 60.0))
        claimed.start()
        claimed.join(20)
        assert not claimed.is_alive()


def test_the_file_is_replaced_whole_and_readable_by_others(busy, tmp_path):
    target = tmp_path / "cbm.prom"
    target.write_text("old")
    old = os.umask(0o077)
    try:
        answer = run(busy, output=target)
    finally:
        os.umask(old)
    assert answer.text == ""
    assert parsed(target.read_text()) == measured(busy)
    assert [path.name for path in tmp_path.iterdir()] == ["cbm.prom"]
    assert target.stat().st_mode & 0o777 == 0o644


def test_a_folder_that_is_missing_is_named(busy, tmp_path):
    with pytest.raises(CbmError, match="cannot be written to") as caught:
        run(busy, output=tmp_path / "no" / "cbm.prom")
    assert caught.value.code == "output_unwritable"


SCENES = 3_000


def test_scenes_are_looked_at_from_the_newest_on(db):
    """However many there are, and of however many other datasets."""
    dataset, product = add_dataset(db), add_product(db)
    add_parcels(db, dataset, [square(WEST + 100, SOUTH + 100)])
    scene = tile(db, 0, obstime=datetime(2024, 1, 1, tzinfo=UTC))
    sql(db, """INSERT INTO cbm.scene (reference, card, platform, obstime, datatake_start, tile,
                 footprint, extent_crs, extent_bounds, assets, source)
               SELECT reference || n, card, platform, obstime + make_interval(mins => n),
                 datatake_start, tile, footprint, extent_crs, extent_bounds, assets, source
               FROM cbm.scene, generate_series(1, %s) AS n WHERE id = %s""",
        SCENES, scene)  # fmt: skip
    sql(db, """INSERT INTO cbm.work_item (scene_id, dataset_id, product_id, state)
               SELECT id, %s, %s, 'done' FROM cbm.scene""", dataset, product)  # fmt: skip
    as_owner(db, "ANALYZE cbm.scene, cbm.work_item")
    with closing(database.connect(db)) as connection, database.transaction(connection) as cursor:
        found = {
            (sample.name, sample.labels.get("stage")): sample.value
            for family in figures.families(cursor)
            for sample in family.samples
        }
        cursor.execute("""SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables
                          WHERE schemaname = 'cbm' AND relname = 'scene'""")
        assert cursor.fetchone()[0] < 20
    newest = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=SCENES)
    name = "cbm_dataset_newest_scene_timestamp_seconds"
    assert found[name, "extracted"] == newest.timestamp()
