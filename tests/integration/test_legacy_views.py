"""What clients of the predecessor ask in SQL, word for word but for the table names."""

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import psycopg2.errors
import pytest

from cbm_core import db as database
from cbm_core.datasets.legacy_verbs import LEGACY_VIEWS
from cbm_core.errors import CbmError
from cbm_core.verbs import Context
from tests.extraction import LEFT, TOP, World, texture
from tests.factories import add_parcels, sql, square

pytestmark = pytest.mark.postgis

S2 = {"name": "s2", "card": "s2", "bands": ["B04", "B08"]}
CLEAR = {**S2, "name": "s2_clear", "mask_classes": [9]}
BS = {"name": "bs", "card": "bs", "bands": ["VV", "VH"]}
MAY, JUNE = datetime(2024, 5, 1, 10, 30, tzinfo=UTC), datetime(2024, 6, 1, 5, tzinfo=UTC)


def run(settings, **arguments):
    given = {"dataset": "tt:2024", **arguments}
    return LEGACY_VIEWS.run(LEGACY_VIEWS.arguments.model_validate(given), Context(settings))


def numbered(settings, dataset):
    """Give parcels numbers for ids, as national systems do."""
    sql(
        settings,
        "UPDATE cbm.parcel SET pid = 100 + replace(pid, 'p', '')::integer WHERE dataset_id = %s",
        dataset,
    )


@pytest.fixture
def world(db, tmp_path) -> World:
    made = World.make(db, tmp_path)
    made.parcels([square(LEFT + 110 * n, TOP - 200 - 7 * n, 95) for n in range(3)])
    numbered(db, made.dataset)
    classes = np.full((60, 80), 4, np.uint8)
    classes[:, :12] = 9
    made.scene(
        {"B04": texture(), "B08": texture(seed=2), "SCL": classes},
        reference="S2A_MSIL2A_20240501T103021_N0510_R108_T32TMT_20240501T140000.SAFE", obstime=MAY,
    )  # fmt: skip
    made.scene(
        {"VV": texture(seed=3), "VH": texture(seed=4)},
        reference="S1A_one", obstime=JUNE, card="bs", tile="",
    )  # fmt: skip
    made.extract(S2, CLEAR, BS, products=["s2", "s2_clear", "bs"])
    return made


@pytest.fixture
def schema(pg_server, db) -> str:
    with closing(pg_server.superuser(db.database["dbname"])) as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE SCHEMA tt AUTHORIZATION cbm_owner")
        cursor.execute("GRANT USAGE ON SCHEMA tt TO cbm_ingest, cbm_read, cbm_api")
    return "tt"


TIME_SERIES = """
SELECT extract('epoch' from obstime) AS date_part, s.band, count, mean, std, min, p25, p50, p75,
       max, h.hist
FROM {sigs} s, {catalogue} d, {hists} h
WHERE s.obsid = d.id AND h.obsid = s.obsid AND h.pid = s.pid AND s.pid = 101
  AND s.band IN ('B04', 'B08', 'B4', 'B8') AND d.card = 's2'
ORDER BY obstime, s.band ASC"""


@pytest.mark.parametrize("alone", [True, False])
def test_a_series_with_histogram_as_clients_ask_for_it(world, schema, alone):
    run(world.settings, **({"schema_name": schema} if alone else {}))
    names = (
        {"sigs": "tt.sigs_2024", "catalogue": "tt.dias_catalogue", "hists": "tt.hists_2024"}
        if alone
        else {"sigs": "cbm.tt2024_s2_signatures", "catalogue": "cbm.tt_dias_catalogue",
              "hists": "cbm.tt2024_hists"}
    )  # fmt: skip
    found = sql(world.settings, TIME_SERIES.format(**names))
    expected = sql(
        world.settings,
        """SELECT count::real, mean, std, min, p25, p50, p75, max, classes
           FROM cbm.signature_long WHERE pid = '101' AND product = 's2' ORDER BY band""",
    )
    assert [row[2:] for row in found] == expected
    assert [(float(row[0]), row[1]) for row in found] == [
        (MAY.timestamp(), "B04"), (MAY.timestamp(), "B08")
    ]  # fmt: skip
    assert set(found[0][-1]) == {"4", "9"}


def test_columns_and_types_are_those_of_the_predecessor(world, schema):
    run(world.settings, schema_name=schema)

    def columns(view):
        return dict(
            sql(
                world.settings,
                """SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
                   WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum""",
                f"tt.{view}",
            )
        )

    reals = dict.fromkeys(["count", "mean", "std", "min", "max", "p25", "p50", "p75"], "real")
    assert columns("sigs_2024") == {
        "pid": "bigint", "obsid": "integer", "band": "character varying(24)", **reals
    }  # fmt: skip
    assert list(columns("sigs_2024")) == ["pid", "obsid", "band", *reals]
    assert columns("hists_2024") == {"pid": "bigint", "obsid": "integer", "hist": "json"}
    assert list(columns("dias_catalogue").items())[:6] == [
        ("id", "integer"), ("obstime", "timestamp without time zone"), ("reference", "text"),
        ("sensor", "text"), ("card", "text"), ("status", "text"),
    ]  # fmt: skip
    ((srid, kind),) = sql(
        world.settings,
        """SELECT srid, type FROM public.geometry_columns
           WHERE f_table_schema = 'tt' AND f_table_name = 'parcels_2024'""",
    )
    assert (srid, kind) == (32632, "MULTIPOLYGON")


def test_backscatter_has_its_suffix_and_the_catalogue_its_state(world, schema):
    run(world.settings, schema_name=schema)
    query = "SELECT DISTINCT band FROM tt.tt2024_bs_signatures ORDER BY 1"
    assert sql(world.settings, query) == [("VHb",), ("VVb",)]
    world.scene({"B04": texture()}, reference="new", obstime=JUNE)
    query = "SELECT card, sensor, status, obstime FROM tt.dias_catalogue ORDER BY id"
    plain = [JUNE.replace(tzinfo=None), MAY.replace(tzinfo=None)]
    assert sql(world.settings, query) == [
        ("s2", "2A", "extracted", plain[1]),
        ("bs", "2A", "extracted", plain[0]),
        ("s2", "2A", "ingested", plain[0]),
    ]
    ((kind,),) = sql(
        world.settings, "SELECT DISTINCT GeometryType(footprint) FROM tt.dias_catalogue"
    )
    assert kind == "POLYGON"


def test_parcels_by_location_and_by_id(world):
    run(world.settings)
    ((pid, area),) = sql(
        world.settings,
        """SELECT ogc_fid, ST_Area(wkb_geometry) FROM cbm.tt2024
           WHERE ST_Intersects(wkb_geometry, ST_SetSRID(ST_Point(%s, %s), 32632))""",
        LEFT + 150, TOP - 150,
    )  # fmt: skip
    assert (pid, area) == (101, pytest.approx(95**2))
    query = """SELECT count(*) FROM cbm.tt2024 p, cbm.tt2024_s2_signatures s
               WHERE p.ogc_fid = s.pid AND p.pid = 102"""
    assert sql(world.settings, query) == [(2,)]


def test_a_parcels_number_finds_it_by_index(world):
    sql(
        world.settings,
        """INSERT INTO cbm.parcel (dataset_id, layer, pid, geometry_id, parcel_set_id, valid_from)
           SELECT dataset_id, '', 1000 + n, geometry_id, parcel_set_id, valid_from
           FROM cbm.parcel, generate_series(1, 5000) n WHERE pid = '101'""",
    )
    run(world.settings)
    with database.session(world.settings, "owner") as c, database.transaction(c) as cursor:
        cursor.execute("ANALYZE cbm.parcel")
    query = "EXPLAIN SELECT * FROM cbm.tt2024_s2_signatures WHERE pid = 102"
    plan = "".join(line for (line,) in sql(world.settings, query))
    assert "Index Scan using parcel_by_number" in plan


def test_readers_see_what_they_were_granted(world, schema):
    run(world.settings, schema_name=schema)
    analyst = replace(world.settings, database={**world.settings.database, "user": "cbm_analyst"})
    views = ("parcels_2024", "sigs_2024", "hists_2024", "tt2024_bs_signatures")
    for view in views:
        assert sql(analyst, f"SELECT count(*) FROM tt.{view}") == [(0,)]
    sql(
        world.settings,
        "INSERT INTO cbm.dataset_grant (dataset_id, via, grantee) VALUES (%s, 'role', 'cbm_read')",
        world.dataset,
    )
    for view in views:
        assert sql(analyst, f"SELECT count(*) FROM tt.{view}")[0][0] > 0
    with pytest.raises(psycopg2.errors.Error):
        sql(analyst, "DELETE FROM tt.sigs_2024")


def views(settings, schema="cbm"):
    return [
        name
        for (name,) in sql(
            settings,
            """SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace
               AND relkind = 'v' AND relname ~ '^(tt|parcels|sigs|hists|dias)' ORDER BY 1""",
            schema,
        )
    ]


def test_check_then_once_then_never_again_and_away(world, schema):
    checked = run(world.settings, schema_name=schema, check=True)
    assert views(world.settings, schema) == []
    done = run(world.settings, schema_name=schema)
    assert done.plan == checked.plan
    assert done.after == checked.after
    assert views(world.settings, schema) == [
        "dias_catalogue", "hists_2024", "parcels_2024", "sigs_2024", "tt2024",
        "tt2024_bs_signatures", "tt2024_hists", "tt2024_s2_signatures", "tt_dias_catalogue",
    ]  # fmt: skip
    assert done.result["products"] == {"s2": "s2 1", "bs": "bs 1"}
    again = run(world.settings, schema_name=schema)
    assert (again.changed, again.plan) == (False, [])
    # A new layer with ids that are no numbers: the views follow.
    add_parcels(world.settings, world.dataset, [square(LEFT, TOP - 500)], layer="m")
    changed = run(world.settings, schema_name=schema)
    assert "create view tt.tt2024_m" in changed.plan
    assert "create view tt.sigs_2024" in changed.plan
    query = "SELECT pid FROM tt.sigs_2024 WHERE pid = '101' LIMIT 1"
    assert sql(world.settings, query) == [("101",)]
    gone = run(world.settings, schema_name=schema, absent=True)
    assert len(gone.plan) == 11
    assert views(world.settings, schema) == []
    assert not run(world.settings, schema_name=schema, absent=True).changed


def test_another_product_may_serve(world):
    run(world.settings)
    count = "SELECT count(*) FROM cbm.tt2024_s2_signatures"
    assert sql(world.settings, count) == [(6,)]
    checked = run(world.settings, products=["s2_clear"], check=True)
    assert sql(world.settings, "SELECT settings FROM cbm.dataset") == [({},)]
    done = run(world.settings, products=["s2_clear"])
    assert done.plan == checked.plan
    assert done.result["products"]["s2"] == "s2_clear 1"
    assert not run(world.settings).changed
    # The parcel under cloud has no clear pixel, hence no row.
    assert sql(world.settings, count) == [(4,)]
    with pytest.raises(CbmError) as caught:
        run(world.settings, products=["s3"])
    assert caught.value.code == "product_unknown"


def test_what_is_not_ours_is_left_alone(world, schema):
    with pytest.raises(CbmError) as caught:
        run(world.settings, schema_name="nowhere")
    assert caught.value.code == "schema_not_writable"
    assert 'CREATE SCHEMA "nowhere"' in caught.value.hint
    with database.session(world.settings, "owner") as c, database.transaction(c) as cursor:
        cursor.execute("SET ROLE cbm_owner")
        cursor.execute("CREATE VIEW tt.parcels_2024 AS SELECT 1 AS mine")
        cursor.execute("CREATE VIEW tt.tt2024_notes AS SELECT 1 AS mine")
    with pytest.raises(CbmError) as caught:
        run(world.settings, schema_name=schema)
    assert caught.value.code == "view_name_taken"
    assert views(world.settings, schema) == ["parcels_2024", "tt2024_notes"]
    run(world.settings, schema_name=schema, absent=True)
    assert views(world.settings, schema) == ["parcels_2024", "tt2024_notes"]
