"""cbm db size and check: what they find, and that a sound database has no findings."""

from datetime import UTC, datetime

import pytest

from cbm_core import db as database
from cbm_core.database.verbs import CHECK, COMPACT, SIZE
from cbm_core.errors import CbmError
from cbm_core.verbs import Context
from tests.extraction import LEFT, TOP, World, texture
from tests.factories import sql, square

pytestmark = pytest.mark.postgis

S2 = {"name": "p", "card": "s2", "bands": ["B04", "B08"]}


@pytest.fixture
def world(db, tmp_path) -> World:
    made = World.make(db, tmp_path)
    made.parcels([square(LEFT + 110 * n, TOP - 200, 95) for n in range(3)])
    for day in (1, 11):
        bands = {"B04": texture(seed=day), "B08": texture(seed=2)}
        made.scene(bands, reference=f"s{day}", obstime=datetime(2024, 5, day, tzinfo=UTC))
    made.extract(S2)
    return made


def run(verb, world, **arguments):
    return verb.run(verb.arguments.model_validate(arguments), Context(world.settings))


def as_owner(world, *statements):
    with database.session(world.settings, "owner") as c, database.transaction(c) as cursor:
        cursor.execute("SET ROLE cbm_owner")
        for statement in statements:
            cursor.execute(statement)


def findings(world) -> dict[str, str]:
    with pytest.raises(CbmError) as caught:
        run(CHECK, world)
    assert caught.value.code == "database_unsound"
    found = caught.value.details["findings"]
    assert len(caught.value.message.splitlines()) == len(found) + 1
    assert all(one["hint"] for one in found)
    return {one["code"]: one["text"] for one in found}


def test_size_counts_rows_bytes_and_band_rows(world):
    answer = run(SIZE, world)
    (month,) = answer.result["months"]
    assert (month["dataset"], month["month"]) == ("tt:2024", "2024-05")
    assert (month["rows"], month["band_rows"]) == (6, 12)
    assert month["heap_bytes"] >= 8192 and month["index_bytes"] >= 8192
    total = month["heap_bytes"] + month["index_bytes"]
    assert month["bytes_per_band_row"] == pytest.approx(total / 12, abs=0.1)
    assert "never compacted" in answer.text
    tables = {table["name"]: table for table in answer.result["tables"]}
    assert "parcel" in tables
    assert not any(name.startswith("signature_d") for name in tables)
    assert answer.result["database_bytes"] > sum(t["bytes"] for t in tables.values())
    with pytest.raises(CbmError, match="no dataset"):
        run(SIZE, world, dataset="xx:2024")


def test_a_sound_database_has_no_findings(world):
    assert run(CHECK, world).result == {"months": ["tt:2024 2024-05"], "findings": []}
    run(COMPACT, world)
    run(CHECK, world)


@pytest.mark.parametrize(
    ("statement", "code", "text"),
    [
        ("UPDATE cbm.signature SET geometry_id = 900 WHERE scene_id = 1 AND geometry_id = 1",
         "without_geometry", "tt:2024 2024-05: 1 rows whose geometry is missing"),
        ("UPDATE cbm.signature SET scene_id = 900 WHERE scene_id = 1", "without_scene", "3 rows"),
        ("UPDATE cbm.signature SET product_id = 900 WHERE scene_id = 1", "without_product",
         "3 rows"),
        ("UPDATE cbm.signature SET obstime = '2024-05-02' WHERE scene_id = 1", "other_time",
         "3 rows"),
        ("DELETE FROM cbm.run WHERE scene_id = 1", "without_run", "3 rows"),
        ("DELETE FROM cbm.run WHERE scene_id = 1", "item_without_run", "(scene 1): done without"),
        ("UPDATE cbm.parcel_geometry SET retired_at = now() WHERE id = 2", "parcel_geometry",
         "parcel p1"),
        ("DELETE FROM cbm.plan_chunk", "plan_without_chunks", "plan 1"),
        ("ALTER TABLE cbm.scene ADD CONSTRAINT c CHECK (id > 0) NOT VALID",
         "constraint_not_validated", "constraint c of"),
        ("CREATE TABLE cbm.signature_d1_209901 (LIKE cbm.signature)", "not_attached",
         "signature_d1_209901"),
        ("DROP INDEX cbm.signature_d1_202405_key", "leaf_key", "signature_d1_202405"),
        ("ALTER TABLE cbm.parcel DISABLE ROW LEVEL SECURITY", "row_security", "parcel"),
        ("GRANT SELECT ON cbm.signature_d1_202405 TO cbm_read", "leaf_grants",
         "signature_d1_202405"),
        ("REVOKE INSERT ON cbm.signature_d1_202405 FROM cbm_ingest", "leaf_grants",
         "signature_d1_202405"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(world, statement, code, text):
    as_owner(world, statement)
    assert text in findings(world)[code]


def test_an_invalid_index_is_found(world, pg_server):
    superuser = pg_server.superuser(world.settings.database["dbname"])
    superuser.cursor().execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'cbm.parcel_by_number'::regclass"
    )
    superuser.close()
    assert set(findings(world)) == {"index_invalid"}


def test_purged_datasets_leave_nothing_to_find(world):
    run(COMPACT, world)
    sql(world.settings, "SELECT cbm.purge_dataset(%s::smallint)", world.dataset)
    assert run(CHECK, world).result["months"] == []
    assert sql(world.settings, "SELECT count(*) FROM cbm.signature_partition_state") == [(0,)]
