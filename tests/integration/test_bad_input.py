"""Bad input through the command line: one clear message, no traceback, nothing written."""

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import shapely
from pyogrio.raw import write

from cbm_core.settings import Settings
from tests import postgis
from tests.factories import sql

pytestmark = pytest.mark.postgis

TABLES = ["dataset", "parcel_set", "parcel", "parcel_geometry", "scene", "product", "work_item"]


def configure(settings: Settings, path: Path) -> dict[str, str]:
    lines = ["[database]", *(f"{key} = {json.dumps(v)}" for key, v in settings.database.items())]
    lines += ["[database.owner]", *(f"{k} = {json.dumps(v)}" for k, v in settings.owner.items())]
    path.write_text("\n".join(lines))
    return {**os.environ, "CBM_CONFIG": str(path)}


class Command:
    """`cbm` as a user calls it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.environment = configure(settings, folder / "cbm.toml")

    def __call__(self, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cbm_extract.cli", *map(str, words)],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.folder,
        )

    def ok(self, *words: object) -> str:
        done = self(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *words: object) -> str:
        """Run what must fail and return its message (without progress lines)."""
        before = self.counts()
        done = self(*words)
        assert done.returncode == 1, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        errors = [line for line in done.stderr.splitlines() if line.startswith("cbm: error: ")]
        assert len(errors) == 1, done.stderr
        assert self.counts() == before
        return errors[0]

    def counts(self) -> list[int]:
        return [sql(self.settings, f"SELECT count(*) FROM cbm.{table}")[0][0] for table in TABLES]


@pytest.fixture
def cbm(db, tmp_path, monkeypatch) -> Command:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    command = Command(db, tmp_path)
    command.ok("dataset", "add", "tt", "2024")
    return command


def parcels_file(path: Path, *, crs="EPSG:25832", count=3, **columns) -> Path:
    squares = [
        shapely.box(500000 + 200 * i, 5000000, 500100 + 200 * i, 5000100) for i in range(count)
    ]
    columns = columns or {"pid": np.array([f"p{i}" for i in range(count)])}
    write(
        path,
        geometry=np.array([s.wkb for s in squares]),
        field_data=list(columns.values()),
        fields=list(columns),
        geometry_type="Polygon",
        crs=crs,
        driver="GPKG",
    )
    return path


def test_parcels_that_are_no_vector_file(cbm, tmp_path):
    (tmp_path / "noise.gpkg").write_bytes(os.urandom(4096))
    assert "noise.gpkg" in cbm.refused(
        "parcels", "import", "tt:2024", "noise.gpkg", "--id", "column:a"
    )


def test_parcels_that_are_not_there(cbm):
    assert "none.gpkg" in cbm.refused(
        "parcels", "import", "tt:2024", "none.gpkg", "--id", "column:a"
    )


def test_missing_column_names_those_that_exist(cbm, tmp_path):
    parcels_file(tmp_path / "p.gpkg")
    message = cbm.refused("parcels", "import", "tt:2024", "p.gpkg", "--id", "column:ident")
    assert "ident" in message
    assert "pid" in message


def test_empty_layer(cbm, tmp_path):
    parcels_file(tmp_path / "p.gpkg", count=0, pid=np.array([], dtype=object))
    assert "p" in cbm.refused("parcels", "import", "tt:2024", "p.gpkg", "--id", "column:pid")


def test_contradicting_crs(cbm, tmp_path):
    parcels_file(tmp_path / "p.gpkg")
    message = cbm.refused(
        "parcels", "import", "tt:2024", "p.gpkg", "--id", "column:pid", "--crs", "EPSG:2154"
    )
    assert "2154" in message
    assert "25832" in message


def test_dataset_that_does_not_exist(cbm, tmp_path):
    parcels_file(tmp_path / "p.gpkg")
    message = cbm.refused("parcels", "import", "xx:2024", "p.gpkg", "--id", "column:pid")
    assert "xx:2024" in message
    assert "tt:2024" in message


def test_scenes_that_are_no_raster(cbm, tmp_path):
    folder = tmp_path / "scenes"
    folder.mkdir()
    (folder / "A_S2A_20240501T100000.tif").write_text("this is text")
    (folder / "scenes.yml").write_text(
        "card: s2\nfiles: '*.tif'\n"
        "pattern: '(?P<reference>(?P<part>A)_(?P<platform>S2A)_(?P<datatake>[0-9T]{15}))\\.tif'\n"
        "bands: {B04: {index: 1}}\n"
    )
    assert "A_S2A_20240501T100000" in cbm("scenes", "add", folder).stderr
    cbm.refused("scenes", "add", folder)


def test_folder_without_anything_known(cbm, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in cbm.refused("scenes", "add", tmp_path / "empty")


def test_extraction_without_parcels(cbm):
    assert "no parcels" in cbm.refused("extract", "tt:2024", "--products", "s2")


def test_unknown_product_names_those_that_exist(cbm, tmp_path):
    message = cbm.refused("extract", "tt:2024", "--products", "s3")
    assert "s3" in message


def test_unknown_band_in_a_product(cbm, tmp_path):
    file = tmp_path / "products.yml"
    file.write_text("products:\n  - {name: mine, card: s2, bands: [B04, B99]}\n")
    message = cbm.refused("extract", "tt:2024", "--products", "mine", "--product-file", file)
    assert "B99" in message


def test_database_down(cbm, tmp_path):
    settings = Settings(database={**cbm.settings.database, "port": "1"})
    cbm.environment = configure(settings, tmp_path / "down.toml")
    for words in (
        ["dataset", "list"],
        ["schema", "status"],
        ["extract", "tt:2024", "--products", "s2"],
    ):
        assert "No connection to the database" in cbm.refused(*words)


def test_login_without_permission(cbm, tmp_path):
    settings = Settings(database={**cbm.settings.database, "user": "cbm_analyst"})
    cbm.environment = configure(settings, tmp_path / "analyst.toml")
    parcels_file(tmp_path / "p.gpkg")
    for words in (
        ["dataset", "add", "zz", "2024"],
        ["parcels", "import", "tt:2024", "p.gpkg", "--id", "column:pid"],
    ):
        assert "refused this user" in cbm.refused(*words)


def test_schema_not_migrated(empty_db, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    done = Command(empty_db, tmp_path)("dataset", "list")
    assert done.returncode == 1
    assert "cbm schema migrate" in done.stderr
    assert "Traceback" not in done.stderr


def test_database_migrated_by_a_later_release(cbm):
    settings = Settings(database={**cbm.settings.database, "user": "cbm_admin"})
    sql(
        settings,
        "SET ROLE cbm_owner; INSERT INTO cbm.schema_migration (name, kind, checksum,"
        " software_version) VALUES ('0999_future', 'contract', 'x', '9.0.0')",
    )
    assert "0999_future" in cbm.refused("schema", "migrate")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_disk_full(cbm, pg_server, tmp_path):
    """An import that fills the server's disk says so and leaves nothing."""
    small = pg_server.directory / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)], check=True)
    try:
        space = small / "space"
        space.mkdir()
        account = pwd.getpwnam(postgis.SUPERUSER)
        os.chown(space, account.pw_uid, account.pw_gid)
        connection = pg_server.superuser()
        name = cbm.settings.database["dbname"]
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLESPACE small LOCATION '{space}'")
            cursor.execute(f"ALTER DATABASE {name} SET TABLESPACE small")
        connection.close()
        parcels_file(tmp_path / "p.gpkg", count=60_000)
        message = cbm.refused("parcels", "import", "tt:2024", "p.gpkg", "--id", "column:pid")
        assert "out of space" in message
    finally:
        connection = pg_server.superuser()
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
            cursor.execute("DROP TABLESPACE IF EXISTS small")
        connection.close()
        subprocess.run(["umount", str(small)], check=True)
