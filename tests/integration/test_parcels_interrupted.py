"""Imports that are killed, interrupted or run at the same time.

Where an import is stopped is chosen from outside: a lock held by the test makes it wait at a known
point, as a busy database would.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager

import pytest

from cbm_core import db as database
from cbm_core.datasets import verbs as datasets
from cbm_core.errors import CbmError
from cbm_core.verbs import Context
from cbm_extract.parcels import verbs
from cbm_extract.parcels.load.apply import LOCK_CLASS
from tests import postgis
from tests.unit.parcels import files

pytestmark = pytest.mark.postgis

PATIENCE_SECONDS = 60

# Name of the point -> what the test locks so that the import waits there.
POINTS = {
    "after reading, before the first write": f"SELECT pg_advisory_xact_lock({LOCK_CLASS}, 1)",
    "parcel set written, before the geometries": "LOCK cbm.parcel_geometry IN EXCLUSIVE MODE",
    "geometries written, before the parcels": "LOCK cbm.parcel IN EXCLUSIVE MODE",
}


def run(verb, settings, **arguments):
    return verb.run(verb.arguments.model_validate(arguments), Context(settings))


def query(settings, statement):
    with closing(database.connect(settings)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def content(settings):
    """All that an import leaves, with ids as ranks: a sequence does not take numbers back."""
    return {
        "sets": query(
            settings, "SELECT dataset_id, layer, parcels, added, changed, removed FROM parcel_set"
        ),
        "crs": query(settings, "SELECT * FROM crs"),
        "parcels": query(
            settings,
            """SELECT p.layer, p.pid, p.crop_code, p.attributes::text, p.valid_from::text,
                      p.valid_to::text, p.known_to = 'infinity',
                      dense_rank() OVER (ORDER BY g.id), encode(g.hash, 'hex'),
                      ST_AsEWKB(g.geom_src)::text, ST_AsEWKB(g.geom)::text, g.area_m2,
                      g.retired_at IS NULL
               FROM parcel p JOIN parcel_geometry g ON g.id = p.geometry_id ORDER BY p.id""",
        ),
        "geometries": query(settings, "SELECT count(*) FROM parcel_geometry"),
    }


@pytest.fixture
def config(tmp_path):
    """Writes the configuration file of a database."""

    def write(settings):
        path = tmp_path / f"{settings.database['dbname']}.toml"
        lines = [f'{key} = "{value}"' for key, value in settings.database.items()]
        path.write_text("\n".join(["[database]", *lines]))
        return path

    return write


@pytest.fixture(scope="module")
def two_files(tmp_path_factory):
    """A first and a changed file: additions, both kinds of change, removals."""
    folder = tmp_path_factory.mktemp("files")
    first = files.frame(200)
    second = files.frame(210).iloc[5:].copy()
    second.loc[20, "crop"] = 7
    second.loc[30, "geometry"] = first.geometry[30].buffer(-10)
    return files.gpkg(folder / "1.gpkg", first), files.gpkg(folder / "2.gpkg", second)


def start(config_file, source):
    """The import as a process of its own, as an operator or Ansible starts it."""
    command = [sys.executable, "-m", "cbm_extract.cli", "--json", "--config", str(config_file)]
    process = subprocess.Popen(
        [*command, "parcels", "import"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "TMPDIR": str(config_file.parent)},
    )  # fmt: skip
    arguments = {"dataset": "ie:2024", "source": str(source), "id": "column:pid",
                 "crop_code": "crop"}  # fmt: skip
    process.stdin.write(json.dumps(arguments))
    process.stdin.close()
    process.stdin = None
    return process


@contextmanager
def held(server, settings, statement):
    """Hold a lock as superuser for the length of the block."""
    with closing(server.superuser(settings.database["dbname"])) as connection:
        connection.autocommit = False
        with connection.cursor() as cursor:
            cursor.execute(statement)
            yield
        connection.rollback()


def backends(server, settings, condition):
    with closing(server.superuser()) as connection, connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT count(*) FROM pg_stat_activity
                WHERE datname = %s AND usename = 'cbm_extractor' AND {condition}""",
            (settings.database["dbname"],),
        )
        return cursor.fetchone()[0]


def wait_until(condition, process=None):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def stop_at(point, how, server, settings, config_file, source):
    """Start an import, send it a signal while it waits at the point; return the process."""
    with held(server, settings, POINTS[point]):
        process = start(config_file, source)
        waiting = "wait_event_type = 'Lock'"
        wait_until(lambda: backends(server, settings, waiting) == 1, process)
        os.killpg(process.pid, how)
        if how == signal.SIGKILL:
            process.wait(PATIENCE_SECONDS)
    # Only when the lock is gone does the server look at its client and find it dead.
    process.output = process.communicate(timeout=PATIENCE_SECONDS)
    wait_until(lambda: backends(server, settings, "true") == 0)
    return process


def again(settings, source):
    """The same import as that of `start`, in this process."""
    return run(verbs.IMPORT, settings, dataset="ie:2024", source=source, id="column:pid",
               crop_code="crop")  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(pg_server, migrated_template, two_files):
    """The content after each of the same imports in a database of their own."""
    found = []
    with postgis.copied(pg_server, migrated_template) as settings:
        run(datasets.ADD, settings, aoi="ie", year=2024)
        for source in two_files:
            again(settings, source)
            found.append(content(settings))
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
@pytest.mark.parametrize("point", POINTS)
def test_a_stopped_import_leaves_nothing_and_the_next_is_as_if_undisturbed(
    db, pg_server, undisturbed, config, two_files, point, how, monkeypatch
):
    run(datasets.ADD, db, aoi="ie", year=2024)
    config_file = config(db)
    monkeypatch.setattr(tempfile, "tempdir", str(config_file.parent))
    for source, expected in zip(two_files, undisturbed, strict=True):
        before = content(db)
        process = stop_at(point, how, pg_server, db, config_file, source)
        assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130)
        assert content(db) == before
        assert again(db, source).changed
        assert not list(config_file.parent.glob("cbm-parcels-*")), "nor anything on disk"
        assert content(db) == expected


def test_an_import_that_fails_at_the_end_leaves_nothing(db, pg_server, two_files):
    run(datasets.ADD, db, aoi="ie", year=2024)
    with closing(pg_server.superuser(db.database["dbname"])) as c, c.cursor() as cursor:
        cursor.execute("ALTER TABLE cbm.parcel ADD CHECK (pid <> 'p150')")
    before = content(db)
    with pytest.raises(Exception, match="violates check constraint"):
        run(verbs.IMPORT, db, dataset="ie:2024", source=two_files[0], id="column:pid")
    assert content(db) == before


def test_imports_at_once_take_turns(db, two_files):
    run(datasets.ADD, db, aoi="ie", year=2024)
    answers, problems = [], []

    def importing(layer, source):
        try:
            answers.append(run(verbs.IMPORT, db, dataset="ie:2024", layer=layer, source=source,
                               id="column:pid", crop_code="crop"))  # fmt: skip
        except CbmError as error:
            problems.append(error)

    threads = [
        threading.Thread(target=importing, args=(layer, source))
        for layer in ("a", "b", "b")
        for source in two_files[:1]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert sorted(a.changed for a in answers) == [False, True, True]
    rows = query(db, "SELECT id, imported_at FROM parcel_set ORDER BY id")
    assert len(rows) == 2
    assert rows[0][1] < rows[1][1]
    assert query(db, "SELECT count(*) FROM parcel_geometry") == [(200,)]


def test_a_dataset_purged_meanwhile(db, pg_server, config, two_files):
    run(datasets.ADD, db, aoi="ie", year=2024)
    with held(pg_server, db, POINTS["after reading, before the first write"]):
        process = start(config(db), two_files[0])
        waiting = "wait_event_type = 'Lock'"
        wait_until(lambda: backends(pg_server, db, waiting) == 1, process)
        run(datasets.PURGE, db, aoi="ie", year=2024, confirm="ie:2024")
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert json.loads(output)["error"]["code"] == "dataset_unknown"
    assert query(db, "SELECT count(*) FROM parcel_set") == [(0,)]


def test_a_database_that_is_down_is_told(tmp_path, two_files, config, db):
    gone = type(db)(database={**db.database, "port": "1"})
    process = start(config(gone), two_files[0])
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert json.loads(output)["error"]["code"] == "database_unreachable"
