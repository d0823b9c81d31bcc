"""A PostgreSQL of its own, which is restarted while it is used, and what is in it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from cbm_core.migrations import runner
from cbm_core.settings import Settings
from tests import postgis
from tests.api import busy
from tests.chaos import season
from tests.cluster import Cluster, write_config

# A commit that was acknowledged survives a crash of the server, as installed. Only that of the
# machine it need not survive here.
DURABLE = "-c synchronous_commit=on -c fsync=off -c shared_buffers=128MB -c max_connections=60"


@pytest.fixture(scope="session")
def server() -> Iterator[postgis.Server]:
    with postgis.server(DURABLE) as running:
        yield running


@pytest.fixture(scope="session")
def migrated(server) -> str:
    name = postgis.new_database(server, "cbm_empty")
    runner.migrate(server.settings(name))
    return name


@pytest.fixture(scope="session")
def catalogued(server, migrated, seaweed, tmp_path_factory) -> str:
    """A database with the season in its catalogue, to be copied."""
    name = postgis.new_database(server, migrated)
    season.build(server.settings(name), seaweed, tmp_path_factory.mktemp("bands"))
    return name


@pytest.fixture(scope="session")
def undisturbed(server, catalogued, seaweed, tmp_path_factory) -> dict[str, list[tuple]]:
    """What the serial engine leaves of the season when nobody disturbs it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "staging").mkdir()
    name = postgis.new_database(server, catalogued)
    storage = seaweed.settings(folder, staging_folder=str(folder / "staging"))
    settings = replace(server.settings(name), storage=storage)
    write_config(folder / "cbm.toml", settings)
    for dataset in season.DATASETS:
        words = ("extract", dataset, "--product-file", season.product_file(folder))
        season.cbm(folder / "cbm.toml", *words)
    found = season.contents(settings)
    postgis.drop_database(server, name)
    assert len(found["runs"]) == season.ITEMS
    assert len(found["signatures"]) == season.ROWS_LEFT
    return found


@pytest.fixture
def database(server, migrated) -> Iterator:
    """Settings for a fresh database with the whole schema."""
    name = postgis.new_database(server, migrated)
    yield server.settings(name)
    postgis.drop_database(server, name)


@pytest.fixture(scope="session")
def busy_world(server, migrated, seaweed, tmp_path_factory) -> Iterator[tuple[Settings, busy.Busy]]:
    """What the API is asked for, in a database of its own."""
    name = postgis.new_database(server, migrated)
    settings = server.settings(name)
    yield settings, busy.make(settings, seaweed, tmp_path_factory.mktemp("busy"), images=4)
    postgis.drop_database(server, name)


@pytest.fixture(scope="session")
def cluster(server, tmp_path_factory) -> Iterator[Cluster]:
    """A cluster with two workers, to be moved to a test's own database."""
    folder = tmp_path_factory.mktemp("cluster")
    with Cluster.started(folder, server.settings("cbm_empty"), workers=2) as running:
        yield running


@pytest.fixture(autouse=True)
def no_dispatchers(request) -> Iterator[None]:
    """Let no dispatcher of a test go on in the next one."""
    yield
    if "cluster" in request.fixturenames:
        running = request.getfixturevalue("cluster")
        for name in [name for name in running.processes if name.startswith("dispatcher")]:
            running.processes.pop(name).stop()
        running.wait_for_slots(2)
