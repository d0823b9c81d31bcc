"""Datasets: declaring, reading rights by row-level security, purging."""

from contextlib import closing
from dataclasses import replace

import psycopg2
import psycopg2.errors
import pytest

from cbm_core import db as database
from cbm_core.datasets import store, verbs
from cbm_core.datasets.background import BACKGROUND
from cbm_core.errors import CbmError
from cbm_core.verbs import Context

pytestmark = pytest.mark.postgis

TABLES = ("dataset", "parcel_set", "parcel_geometry", "parcel", "signature", "run")
SQUARE = "MULTIPOLYGON(((8 47,8.01 47,8.01 47.01,8 47.01,8 47)))"


def run(verb, settings, **arguments):
    return verb.run(verb.arguments.model_validate(arguments), Context(settings))


def add(settings, **arguments):
    return run(verbs.ADD, settings, **{"aoi": "ie", "year": 2024, **arguments})


def rows(settings, query, *parameters, user=None, api_user=None):
    """What a login (default: the extractor) reads."""
    settings = replace(settings, database={**settings.database, **({"user": user} if user else {})})
    with closing(database.connect(settings)) as connection, connection.cursor() as cursor:
        if api_user:
            cursor.execute("SELECT set_config('cbm.api_user', %s, false)", (api_user,))
        cursor.execute(query, parameters or None)
        return cursor.fetchall()


def refused(settings, statement, user):
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        rows(settings, statement, user=user)


@pytest.fixture
def filled(db):
    """Datasets ch:2022 and ie:2024 with one parcel and one signature each; ch is granted."""
    add(db, aoi="ch", year=2022, readers=["cbm_analyst"])
    add(db)
    with database.session(db) as connection, database.transaction(connection) as cursor:
        cursor.execute("INSERT INTO cbm.crs VALUES (4326, 'EPSG:4326')")
        cursor.execute(
            """INSERT INTO cbm.product (name, revision, card, variables, definition, hash)
               VALUES ('s2', 1, 's2', '{B04}', '{}', 'x') RETURNING id"""
        )
        product = cursor.fetchone()[0]
        cursor.execute(
            """INSERT INTO cbm.scene (reference, card, platform, obstime, datatake_start, tile,
                 footprint, extent_crs, extent_bounds, assets, source)
               VALUES ('r', 's2', 'S2A', '2022-05-01Z', '2022-05-01Z', '32TMT',
                 ST_GeomFromText(%s, 4326), 'EPSG:32632', '{0,0,1,1}', '{}', '') RETURNING id""",
            (SQUARE,),
        )
        scene = cursor.fetchone()[0]
        for name in ("ch:2022", "ie:2024"):
            dataset = store.require_dataset(cursor, name).id
            cursor.execute(
                """INSERT INTO cbm.parcel_set (dataset_id, source, checksum, options, crs_id,
                     report, parcels, added, changed, removed, software_version)
                   VALUES (%s, 'f', 'c', '{}', 4326, '{}', 1, 1, 0, 0, '0') RETURNING id""",
                (dataset,),
            )
            of_set = cursor.fetchone()[0]
            cursor.execute(
                """INSERT INTO cbm.parcel_geometry (dataset_id, parcel_set_id, hash, geom_src, geom,
                     area_m2) VALUES (%s, %s, 'h', ST_GeomFromText(%s, 4326),
                     ST_GeomFromText(%s, 4326), 1) RETURNING id""",
                (dataset, of_set, SQUARE, SQUARE),
            )
            geometry = cursor.fetchone()[0]
            cursor.execute(
                """INSERT INTO cbm.parcel (dataset_id, layer, pid, geometry_id, parcel_set_id,
                     valid_from) VALUES (%s, '', %s, %s, %s, '2022-01-01')""",
                (dataset, f"p-{name}", geometry, of_set),
            )
            cursor.execute(
                "SELECT cbm.ensure_signature_partition(%s::smallint, '2022-05-01')", (dataset,)
            )
            cursor.execute(
                """INSERT INTO cbm.signature VALUES
                     ('2022-05-01Z', %s, %s, 9, 9, %s, %s, 0, '{9,1,2,3,4,5,6,7}', NULL)""",
                (geometry, scene, dataset, product),
            )
            cursor.execute(
                """INSERT INTO cbm.run (scene_id, dataset_id, product_id, scope, parcel_set_from,
                     parcel_set_to, token, worker, software_version, product_hash, plans, assets,
                     rows, digest, started_at)
                   VALUES (%s, %s, %s, 'full', 0, 1, 1, 'w', '0', 'x', '[]', '{}', 1, 'd',
                     now())""",
                (scene, dataset, product),
            )
    return db


def test_add_then_nothing_to_do_then_a_change(db):
    first = add(db)
    assert (first.changed, first.before) == (True, "")
    assert first.plan == ["add dataset ie:2024 (imagery 2024-01-01 to 2024-12-31)"]
    assert not add(db).changed
    changed = add(db, imagery_start="2023-10-01")
    assert changed.plan == [
        "change imagery of ie:2024 from 2024-01-01 to 2024-12-31 to 2023-10-01 to 2024-12-31"
    ]
    assert "2023-10-01" in changed.after
    assert not add(db).changed, "what is left out stays"


def test_check_changes_nothing(db):
    answer = add(db, check=True, readers=["cbm_analyst"])
    assert answer.changed
    assert answer.plan[1] == "let role cbm_analyst read ie:2024"
    assert rows(db, "SELECT * FROM cbm.dataset") == []
    assert rows(db, "SELECT * FROM cbm.dataset_grant") == []


def test_readers_are_declared(db, pg_server):
    add(db, readers=["cbm_analyst"])
    assert not add(db, readers=["cbm_analyst"]).changed
    answer = add(db, readers=["cbm_read"])
    assert answer.plan == [
        "let role cbm_read read ie:2024",
        "take reading of ie:2024 from role cbm_analyst",
    ]
    assert not add(db).changed
    assert run(verbs.LIST, db).result["datasets"][0]["readers"] == ["cbm_read"]
    add(db, readers=[])
    assert run(verbs.LIST, db).result["datasets"][0]["readers"] == []
    with closing(pg_server.superuser(db.database["dbname"])) as c, c.cursor() as cursor:
        cursor.execute("SELECT detail -> 'changes' FROM cbm.audit ORDER BY id")
        assert len(cursor.fetchall()) == 3, "each change, and nothing else, is audited"


def test_bounds_are_kept(db):
    answer = add(db, bounds="-10.7,51.3,-5.9,55.5")
    assert answer.plan[1] == "set bounds of ie:2024 to [-10.7, 51.3, -5.9, 55.5]"
    assert not add(db, bounds="-10.7,51.3,-5.9,55.5").changed
    with database.session(db) as connection, database.transaction(connection) as cursor:
        found = store.require_dataset(cursor, "ie:2024")
    assert found.settings == {"bounds": [-10.7, 51.3, -5.9, 55.5]}


TILES = "https://maps.example/{z}/{x}/{y}.png"


def test_background_is_declared_with_the_dataset(db):
    add(db, bounds="-10.7,51.3,-5.9,55.5")
    wanted = {"background": TILES, "background_zoom": 20}
    planned = add(db, check=True, **wanted)
    assert planned.plan == [f"show {TILES} behind the parcels of ie:2024"]
    assert planned.changed
    assert not listed(db)["background"]
    answer = add(db, **wanted)
    assert (answer.plan, answer.before, answer.after) == (
        planned.plan, planned.before, planned.after,
    )  # fmt: skip
    assert TILES in answer.after
    assert TILES not in answer.before
    assert listed(db)["background"] == {"source": TILES, "zoom": 20}
    assert listed(db)["bounds"] == [-10.7, 51.3, -5.9, 55.5]
    for unchanged in (wanted, {}, {"bounds": "-10.7,51.3,-5.9,55.5"}):
        again = add(db, **unchanged)
        assert (again.changed, again.plan, again.before) == (False, [], again.after)
    assert add(db, background="").plan == ["take the background from the parcels of ie:2024"]
    assert not listed(db)["background"]
    assert not add(db, background="").changed


def test_both_commands_know_the_same_background(db):
    add(db, background="https://maps.example/wms", background_layers="ortho")
    same = {"dataset": "ie:2024", "source": "https://maps.example/wms", "layers": "ortho"}
    assert not run(BACKGROUND, db, **same).changed
    run(BACKGROUND, db, dataset="ie:2024", source="/srv/ortho.tif")
    assert not add(db, background="/srv/ortho.tif").changed


def test_background_must_be_an_address(db):
    with pytest.raises(CbmError) as caught:
        add(db, background="ortho.tif")
    assert caught.value.code == "background_invalid"
    assert rows(db, "SELECT FROM cbm.dataset") == []


@pytest.mark.parametrize("alone", [{"background_zoom": 20}, {"background_layers": "ortho"}])
def test_what_describes_a_background_needs_one(db, alone):
    with pytest.raises(ValueError, match="go with background"):
        add(db, **alone)
    with pytest.raises(ValueError, match="go with background"):
        add(db, background="", **alone)


def listed(settings):
    return run(verbs.LIST, settings).result["datasets"][0]


@pytest.mark.parametrize(
    "arguments",
    [
        {"aoi": "IE"},
        {"year": 24},
        {"imagery_start": "2024-05-01", "imagery_end": "2024-04-01"},
        {"bounds": "1,2,3"},
        {"bounds": "1,50,2,40"},
        {"bounds": "a,b,c,d"},
        {"surprise": 1},
    ],
)
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="validation error"):
        verbs.ADD.arguments.model_validate({"aoi": "ie", "year": 2024, **arguments})


def test_unknown_reader_is_refused(db):
    for role in ("nobody_at_all", "cbm_extractor"):
        with pytest.raises(CbmError, match=role) as caught:
            add(db, readers=["cbm_analyst", role])
        assert caught.value.code == "role_unknown"
    assert rows(db, "SELECT * FROM cbm.dataset") == []


def test_period_against_the_stored_one_is_refused(db):
    add(db)
    with pytest.raises(CbmError) as caught:
        add(db, imagery_start="2025-02-01")
    assert caught.value.code == "period_invalid"


def test_unknown_dataset_lists_the_existing(db):
    add(db)
    with database.session(db) as connection, database.transaction(connection) as cursor:
        assert store.require_dataset(cursor, "ie:2024").aoi == "ie"
        with pytest.raises(CbmError) as caught:
            store.require_dataset(cursor, "ie:2023")
        assert (caught.value.code, caught.value.details) == (
            "dataset_unknown",
            {"existing": ["ie:2024"]},
        )
        with pytest.raises(CbmError) as caught:
            store.require_dataset(cursor, "ie-2024")
        assert caught.value.code == "dataset_name_invalid"


def test_list_counts_parcels(filled):
    listed = {row["dataset"]: row for row in run(verbs.LIST, filled).result["datasets"]}
    assert list(listed) == ["ch:2022", "ie:2024"]
    assert listed["ch:2022"]["parcels"] == {"": 1}


def test_analyst_sees_granted_datasets_only(filled):
    for table in TABLES:
        column = "id" if table == "dataset" else "dataset_id"
        query = f"SELECT count(DISTINCT {column}) FROM cbm.{table}"
        assert rows(filled, query) == [(2,)]
        assert rows(filled, query, user="cbm_analyst") == [(1,)], table
    for view in ("signature_long", "signature_all"):
        query = f"SELECT aoi, pid, mean FROM cbm.{view} ORDER BY aoi"
        assert len(rows(filled, query)) == 2
        assert rows(filled, query, user="cbm_analyst") == [("ch", "p-ch:2022", 1.0)], view
    assert rows(filled, "SELECT aoi FROM cbm.dataset", user="cbm_analyst") == [("ch",)]


def test_analyst_reads_no_partition_past_the_policy(filled):
    leaves = rows(
        filled,
        "SELECT relname FROM pg_class WHERE relname ~ '^signature_d' AND relkind IN ('r','p')",
    )
    assert len(leaves) == 6
    for (leaf,) in leaves:
        for user in ("cbm_analyst", "cbm_web"):
            refused(filled, f"SELECT * FROM cbm.{leaf}", user)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO cbm.dataset (aoi, year, imagery_start, imagery_end)"
        " VALUES ('x', 2024, '2024-01-01', '2024-12-31')",
        "UPDATE cbm.parcel SET crop_code = '1'",
        "DELETE FROM cbm.parcel",
        "DELETE FROM cbm.signature",
        "INSERT INTO cbm.dataset_grant VALUES (2, 'role', 'cbm_analyst')",
        "SELECT * FROM cbm.dataset_grant",
        "SELECT * FROM cbm.audit",
        "INSERT INTO cbm.audit (action) VALUES ('x')",
        "SELECT cbm.purge_dataset(1::smallint)",
        "SELECT cbm.ensure_signature_partition(1::smallint, '2022-06-01')",
        "CREATE TABLE cbm.mine (a int)",
    ],
)
def test_analyst_cannot_write_nor_read_the_rest(filled, statement):
    refused(filled, statement, "cbm_analyst")


def test_api_user_sees_what_the_user_was_granted(filled):
    dataset = rows(filled, "SELECT id FROM cbm.dataset WHERE aoi = 'ie'")[0][0]
    with database.session(filled) as connection, database.transaction(connection) as cursor:
        cursor.execute("INSERT INTO cbm.dataset_grant VALUES (%s, 'api', 'mary')", (dataset,))
    query = "SELECT aoi, pid FROM cbm.signature_long"
    assert rows(filled, query, user="cbm_web", api_user="mary") == [("ie", "p-ie:2024")]
    assert rows(filled, query, user="cbm_web", api_user="paul") == []
    # A name of a database role is no API user of that name, and without a user there is nothing.
    assert rows(filled, query, user="cbm_web", api_user="cbm_analyst") == []
    assert rows(filled, query, user="cbm_web") == []
    refused(filled, "DELETE FROM cbm.parcel", "cbm_web")
    refused(filled, "SELECT * FROM cbm.audit", "cbm_web")


def test_analyst_gains_nothing_by_naming_an_api_user(filled):
    query = "SELECT aoi FROM cbm.dataset"
    assert rows(filled, query, user="cbm_analyst", api_user="cbm_web") == [("ch",)]


def test_purge_wants_confirmation_and_check_counts(filled):
    for confirm in (None, "ie:2024"):
        with pytest.raises(CbmError) as caught:
            run(verbs.PURGE, filled, aoi="ch", year=2022, confirm=confirm)
        assert caught.value.code == "not_confirmed"
    answer = run(verbs.PURGE, filled, aoi="ch", year=2022, check=True)
    counts = {"parcels": 1, "geometries": 1, "signatures": 1}
    assert (answer.changed, answer.result["removed"]) == (True, counts)
    assert rows(filled, "SELECT count(*) FROM cbm.parcel") == [(2,)]


def test_purge_removes_one_dataset_and_keeps_evidence(filled):
    answer = run(verbs.PURGE, filled, aoi="ch", year=2022, confirm="ch:2022")
    assert answer.result["removed"] == {"parcels": 1, "geometries": 1, "signatures": 1}
    assert rows(filled, "SELECT pid FROM cbm.parcel") == [("p-ie:2024",)]
    assert rows(filled, "SELECT count(*) FROM cbm.signature") == [(1,)]
    assert rows(filled, "SELECT count(*) FROM cbm.run") == [(2,)]
    assert not run(verbs.PURGE, filled, aoi="ch", year=2022, confirm="ch:2022").changed
    assert add(filled, aoi="ch", year=2022).plan[0].startswith("add dataset ch:2022")
    query = "SELECT aoi FROM cbm.dataset WHERE purged_at IS NULL"
    assert rows(filled, query, user="cbm_analyst") == [], "a new dataset inherits no reader"
