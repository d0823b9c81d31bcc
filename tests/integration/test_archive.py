"""Datasets as Parquet files: nothing is lost on the way out and back."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.dataset as arrow
import pyarrow.parquet as pq
import pytest

from cbm_core import db as database
from cbm_core.errors import CbmError
from cbm_core.verbs import Context
from cbm_extract.archive import export, parquet
from cbm_extract.archive.verbs import EXPORT, RESTORE
from cbm_extract.store import signatures
from cbm_extract.verify.verbs import VERIFY
from tests import postgis
from tests.extraction import LEFT, TOP, World, texture
from tests.factories import add_parcels, sql, square

pytestmark = pytest.mark.postgis

S2 = {"name": "s2", "card": "s2", "bands": ["B04", "B08"], "indices": ["NDVI"]}
CLEAR = {**S2, "name": "s2_clear", "mask_classes": [8, 9]}
DATES = [
    datetime(2024, month, day, 10, 30, tzinfo=UTC) for month, day in ((4, 30), (5, 1), (5, 11))
]
TABLES = ("dataset", "crs", "parcel_set", "parcel_geometry", "parcel", "product", "scene", "run",
          "monitorability", "signature", "work_item")  # fmt: skip


@pytest.fixture(scope="module")
def extracted(pg_server, migrated_template, tmp_path_factory) -> World:
    """Three scenes over two months, two products, parcels of two imports, clouds; to be copied."""
    template = postgis.new_database(pg_server, migrated_template)
    made = World.make(pg_server.settings(template), tmp_path_factory.mktemp("world"))
    made.parcels([square(LEFT + 110 * n, TOP - 200 - 7 * n, 95) for n in range(6)])
    classes = np.full((60, 80), 4, np.uint8)
    classes[:, 30:50] = 9
    for number, when in enumerate(DATES):
        bands = {"B04": texture(seed=number), "B08": texture(seed=number + 9), "SCL": classes}
        made.scene(bands, reference=f"scene{number}", obstime=when)
    made.extract(S2, CLEAR, products=["s2", "s2_clear"])
    add_parcels(made.settings, made.dataset, [square(LEFT + 300, TOP - 400, 60)], layer="late")
    made.extract(S2, CLEAR, products=["s2", "s2_clear"])
    return made


@pytest.fixture
def world(pg_server, extracted) -> Iterator[World]:
    with postgis.copied(pg_server, extracted.settings.database["dbname"]) as settings:
        yield replace(extracted, settings=settings)


def run(verb, settings, **arguments):
    return verb.run(verb.arguments.model_validate(arguments), Context(settings))


@pytest.fixture
def archive(world, tmp_path) -> Path:
    folder = tmp_path / "archive"
    run(EXPORT, world.settings, dataset="tt:2024", folder=folder)
    return folder


@pytest.fixture
def other(pg_server, migrated_template):
    """A second, fresh database."""
    name = postgis.new_database(pg_server, migrated_template)
    yield pg_server.settings(name)
    postgis.drop_database(pg_server, name)


def contents(settings) -> dict[str, list]:
    """Every row of every table, as text."""
    return {
        table: sql(settings, f"SELECT t::text FROM cbm.{table} t ORDER BY 1") for table in TABLES
    }


def drop_month(settings, dataset, month="202405"):
    with database.session(settings, "owner") as connection, database.transaction(connection) as cur:
        cur.execute(f"DROP TABLE cbm.signature_d{dataset}_m{month}")


def test_pandas_duckdb_and_arrow_read_what_is_stored(world, archive):
    stored = sql(
        world.settings,
        """SELECT obstime, layer || pid, reference, band, count, mean, p75, classes
           FROM cbm.signature_all WHERE product = 's2' ORDER BY 1, 2, 3, 4""",
    )
    assert len(stored) == 3 * 7 * 3
    folder = archive / "signatures/product=s2"
    frame = pd.read_parquet(folder)
    scenes = pd.read_parquet(archive / "tables/scene.parquet").set_index("id")["reference"]
    parcels = pd.read_parquet(archive / "tables/parcel.parquet").set_index("geometry_id")
    parcels = parcels["layer"] + parcels["pid"]
    query = f"""
        SELECT epoch_us(s.obstime), p.layer || p.pid, c.reference,
               s.B04_mean, s.NDVI_p75, s.class_4, s.class_9
        FROM read_parquet('{folder}/**/*.parquet', hive_partitioning => true) s
        JOIN '{archive}/tables/parcel.parquet' p ON p.geometry_id = s.geometry_id
        JOIN '{archive}/tables/scene.parquet' c ON c.id = s.scene_id
        WHERE s.month = '2024-05'"""
    with duckdb.connect() as connection:
        by_duck = {row[:3]: row[3:] for row in connection.execute(query).fetchall()}
    assert len(by_duck) == 2 * 7
    by_pandas = {
        (row.obstime.to_pydatetime(), parcels[row.geometry_id], scenes[row.scene_id]): row
        for row in frame.itertuples()
    }
    by_arrow = arrow.dataset(folder, partitioning="hive").to_table()
    assert by_arrow.num_rows == len(by_pandas) == 3 * 7
    for when, pid, reference, band, count, mean, p75, classes in stored:
        row = by_pandas[when, pid, reference]
        key = round(when.timestamp() * 1e6), pid, reference
        assert getattr(row, f"{band}_count") == count
        assert getattr(row, f"{band}_mean") == np.float32(mean)
        if when.month == 5 and band == "B04":
            found = dict(zip("49", by_duck[key][2:], strict=True))
            assert {name: n for name, n in found.items() if n} == classes
            assert by_duck[key][0] == np.float32(mean)
        if when.month == 5 and band == "NDVI":
            assert by_duck[key][1] == np.float32(p75)


def test_clouded_rows_are_null_and_geometries_open_in_geopandas(world, archive):
    import geopandas as gpd

    frame = pd.read_parquet(archive / "signatures/product=s2_clear")
    clouded = frame[frame.px_clear == 0]
    assert 0 < len(clouded) < len(frame)
    assert clouded.B04_mean.isna().all()
    geometries = gpd.read_parquet(archive / "tables/parcel_geometry.parquet")
    ((area,),) = sql(world.settings, "SELECT sum(ST_Area(geom)) FROM cbm.parcel_geometry")
    assert geometries.crs.to_epsg() in (None, 4326)
    assert geometries.geometry.area.sum() == pytest.approx(area)


def test_a_dropped_month_comes_back(world, archive):
    before = contents(world.settings)
    drop_month(world.settings, world.dataset)
    assert contents(world.settings) != before
    checked = run(RESTORE, world.settings, folder=archive, check=True)
    assert contents(world.settings) != before
    restored = run(RESTORE, world.settings, folder=archive)
    assert contents(world.settings) == before
    assert restored.plan == checked.plan == ["add 28 rows of signature in 4 slices"]
    again = run(RESTORE, world.settings, folder=archive)
    assert (again.changed, again.plan) == (False, [])
    assert contents(world.settings) == before


def test_a_fresh_database_gets_everything_and_works_on(world, archive, other):
    before = contents(world.settings)
    checked = run(RESTORE, other, folder=archive, check=True)
    assert all(not rows for rows in contents(other).values())
    restored = run(RESTORE, other, folder=archive)
    assert restored.plan == checked.plan
    after = contents(other)
    for table in TABLES:
        assert after[table] == before[table], table
    digests(other)
    verified = run(VERIFY, other, dataset="tt:2024").result["findings"]
    assert {finding["kind"] for finding in verified} == {"plan_missing"}
    assert not run(RESTORE, other, folder=archive).changed
    # Ids go on after the restored ones, and there is nothing left to extract.
    moved = World(other, world.folder, world.dataset)
    assert moved.extract(S2, CLEAR, products=["s2", "s2_clear"]).changed is False
    moved.parcels([square(LEFT + 20, TOP - 500, 50)], layer="new")
    moved.extract(S2, CLEAR, products=["s2", "s2_clear"])
    assert len(moved.rows("s2", scene=1)) == 8


def digests(settings) -> int:
    """Recompute, with the database's own COPY, the digest of slices of a single run."""
    import io

    checked = 0
    for scene, product, digest in sql(
        settings,
        """SELECT scene_id, product_id, min(digest::text)::bytea FROM cbm.run
           WHERE rows > 0 GROUP BY 1, 2 HAVING count(*) = 1""",
    ):
        out = io.BytesIO()
        with closing(database.connect(settings)) as connection, connection.cursor() as cursor:
            cursor.copy_expert(
                f"""COPY (SELECT obstime, geometry_id, scene_id, px_imaged, px_clear, dataset_id,
                      product_id, tile_rank, stats, class_counts FROM cbm.signature
                    WHERE scene_id = {scene} AND product_id = {product} ORDER BY geometry_id)
                    TO STDOUT (FORMAT binary)""",
                out,
            )
        assert hashlib.sha256(out.getvalue()[19:-2]).digest() == bytes(digest)
        checked += 1
    return checked


def test_a_database_with_other_ids_takes_the_rows_over(db, tmp_path, other):
    made = World.make(db, tmp_path)
    shapes = [square(LEFT + 110 * n, TOP - 200, 95) for n in range(6)]
    made.parcels(shapes)
    made.scene({"B04": texture(), "B08": texture(seed=3)}, reference="one", obstime=DATES[0])
    made.extract(S2, products=["s2"])
    folder = tmp_path / "archive"
    run(EXPORT, db, dataset="tt:2024", folder=folder)
    # The same parcels, imported there under other numbers; the scene's number is another's.
    with database.session(other, "owner") as connection, database.transaction(connection) as cursor:
        for table, number in (("dataset", 40), ("parcel_geometry", 900)):
            cursor.execute(f"SELECT setval('cbm.{table}_id_seq', {number})")
    target = World.make(other, tmp_path)
    target.parcels(shapes)
    target.scene({"B04": texture()}, reference="other", obstime=DATES[1])
    restored = run(RESTORE, other, folder=folder)
    assert restored.result["rows"] == 6
    assert sql(other, "SELECT min(id) FROM cbm.parcel_geometry") == [(901,)]
    view = """SELECT pid, obstime, reference, band, mean, p25, px_imaged
              FROM cbm.signature_all ORDER BY 1, 4"""
    assert sql(other, view) == sql(db, view)
    assert sql(other, "SELECT min(geometry_id) FROM cbm.signature") == [(901,)]
    assert digests(other) == 1
    assert not run(RESTORE, other, folder=folder).changed


def test_evidence_of_several_runs_follows_the_ids(world, archive, other):
    """A full run and one of later parcels, where these came first, and all have other numbers."""
    with database.session(other, "owner") as connection, database.transaction(connection) as cursor:
        for table, number in (("dataset", 40), ("parcel_geometry", 900), ("scene", 70)):
            cursor.execute(f"SELECT setval('cbm.{table}_id_seq', {number})")
    target = World.make(other, world.folder)
    shapes = [square(LEFT + 110 * n, TOP - 200 - 7 * n, 95) for n in range(6)]
    target.parcels([square(LEFT + 300, TOP - 400, 60)], layer="late")
    target.parcels(shapes)
    run(RESTORE, other, folder=archive)
    runs = "SELECT scope, rows, count(*) FROM cbm.run GROUP BY 1, 2 ORDER BY 1"
    assert {row[0] for row in sql(other, runs)} == {"full", "fill"}
    assert run(VERIFY, other, dataset="tt:2024", recompute=True).result["findings"] == []
    with database.session(other, "owner") as connection, database.transaction(connection) as cursor:
        cursor.execute("SET ROLE cbm_owner")
        cursor.execute("UPDATE cbm.signature SET px_imaged = px_imaged + 1 WHERE geometry_id = 901")
    with pytest.raises(CbmError, match="digest"):
        run(VERIFY, other, dataset="tt:2024")


def test_other_parcels_are_refused_and_nothing_is_changed(world, archive, other):
    target = World.make(other, world.folder)
    target.parcels([square(LEFT, TOP - 300)])
    before = contents(other)
    with pytest.raises(CbmError) as caught:
        run(RESTORE, other, folder=archive)
    assert caught.value.code == "archive_does_not_fit"
    assert "lacks 7" in caught.value.message
    assert contents(other) == before


def test_stored_rows_are_never_overwritten(world, archive):
    drop_month(world.settings, world.dataset)
    run(RESTORE, world.settings, folder=archive)
    with database.session(world.settings, "owner") as c, database.transaction(c) as cursor:
        cursor.execute("SET ROLE cbm_owner")
        cursor.execute("UPDATE cbm.signature SET stats[2] = 1 WHERE scene_id = 2 AND stats[2] > 1")
    before = contents(world.settings)
    with pytest.raises(CbmError) as caught:
        run(RESTORE, world.settings, folder=archive)
    assert caught.value.code == "slice_differs"
    assert contents(world.settings) == before


def test_a_damaged_or_unfinished_archive_is_refused(world, archive):
    (file,) = archive.glob("signatures/product=s2/*/month=2024-04/rows.parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CbmError) as caught:
        run(RESTORE, world.settings, folder=archive)
    assert caught.value.code == "archive_damaged"
    assert "month=2024-04" in caught.value.message
    (archive / "manifest.json").unlink()
    with pytest.raises(CbmError) as caught:
        run(RESTORE, world.settings, folder=archive)
    assert caught.value.code == "archive_missing"


def test_an_interrupted_export_leaves_no_half_file(world, tmp_path, monkeypatch):
    folder = tmp_path / "archive"
    calls = []
    whole = parquet.slice_table

    def interrupted(rows, schema):
        calls.append(rows)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(rows, schema)

    monkeypatch.setattr(parquet, "slice_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(EXPORT, world.settings, dataset="tt:2024", folder=folder)
    monkeypatch.undo()
    assert not (folder / "manifest.json").exists()
    for path in folder.rglob("*"):
        assert path.is_dir() or pq.ParquetFile(path).metadata.num_rows >= 0
        assert not path.name.startswith(".")
    run(EXPORT, world.settings, dataset="tt:2024", folder=folder)
    listed = {file["path"] for file in json.loads((folder / "manifest.json").read_text())["files"]}
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == listed | {"manifest.json"}


def test_a_part_can_be_exported_and_a_folder_is_not_mixed(world, archive, tmp_path):
    folder = tmp_path / "may"
    chosen = {"dataset": "tt:2024", "folder": folder, "products": ["s2"], "start": "2024-05-05"}
    checked = run(EXPORT, world.settings, **chosen, check=True)
    assert not folder.exists()
    done = run(EXPORT, world.settings, **chosen)
    assert done.plan == checked.plan
    assert [p for p in done.result["files"] if p.startswith("sig")] == [
        "signatures/product=s2/revision=1/month=2024-05/rows.parquet"
    ]
    with pytest.raises(CbmError) as caught:
        run(EXPORT, world.settings, **{**chosen, "products": ["s3"]})
    assert caught.value.code == "product_unknown"
    (folder / "thesis.docx").write_text("mine")
    with pytest.raises(CbmError) as caught:
        run(EXPORT, world.settings, **chosen)
    assert caught.value.code == "folder_occupied"
    # What an earlier export of more left behind goes.
    run(EXPORT, world.settings, **{**chosen, "folder": archive})
    assert len(list(archive.glob("signatures/**/*.parquet"))) == 1


@pytest.mark.parametrize(
    ("name", "code"), [("a_file", "cannot_read"), ("a_file/in", "cannot_write")]
)
def test_a_folder_that_cannot_be_one_is_named(world, tmp_path, name, code):
    (tmp_path / "a_file").write_text("mine")
    with pytest.raises(CbmError) as caught:
        run(EXPORT, world.settings, dataset="tt:2024", folder=tmp_path / name)
    assert (caught.value.code, str(tmp_path / name) in caught.value.message) == (code, True)
    assert (tmp_path / "a_file").read_text() == "mine"


def test_one_moment_is_exported(world, tmp_path):
    """Rows that come while files are written are in none of them."""
    with closing(export.snapshot(world.settings)) as connection:
        with connection.cursor() as cursor:
            plan = export.plan(cursor, "tt:2024", None, None, None)
        world.parcels([square(LEFT + 20, TOP - 500, 50)], layer="new")
        world.extract(S2, CLEAR, products=["s2", "s2_clear"])
        done = export.run(connection, plan, tmp_path / "archive")
    assert done.rows == 2 * 3 * 7
    assert pq.read_table(tmp_path / "archive/tables/parcel.parquet").num_rows == 7


def test_an_interrupted_restoration_goes_on(world, archive, other, monkeypatch):
    calls = []
    whole = signatures.insert

    def interrupted(cursor, leaf, rows):
        calls.append(rows)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(cursor, leaf, rows)

    monkeypatch.setattr(signatures, "insert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(RESTORE, other, folder=archive)
    monkeypatch.undo()
    # Months are whole, and nothing counts as done before all of it is.
    assert contents(other)["work_item"] == []
    assert len(contents(other)["signature"]) == 7
    run(RESTORE, other, folder=archive)
    assert contents(other) == contents(world.settings)
