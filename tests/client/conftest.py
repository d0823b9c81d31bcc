"""The client asks a real server: gunicorn as it is configured, PostGIS, the process of jobs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cbm_client import Client
from tests import postgis
from tests.api.conftest import PASSWORD, add_user
from tests.api.serving import ROOT, gunicorn
from tests.client import world
from tests.extraction import World

# More than so many parcels make a job.
MOST_INLINE = 10
_PATCH = f"from cbm_api.routes import bulk\nbulk.MOST_PARCELS = {MOST_INLINE}"


@dataclass(frozen=True)
class Site:
    """A running API with tt_2024, which the user anna may read."""

    url: str
    port: int
    world: World
    config: Path


@pytest.fixture(scope="session")
def site(pg_server, migrated_template, tmp_path_factory) -> Iterator[Site]:
    name = postgis.new_database(pg_server, migrated_template)
    settings = pg_server.settings(name)
    made = world.make(settings, tmp_path_factory.mktemp("images"))
    add_user(settings, "anna", made.dataset)
    folder = tmp_path_factory.mktemp("served")
    jobs = str(folder / "jobs")
    with gunicorn(settings, folder, _PATCH, workers=1, threads=4, jobs_folder=jobs) as served:
        yield Site(served.url, served.port, made, folder / "cbm.toml")
    postgis.drop_database(pg_server, name)


@pytest.fixture
def client(site) -> Iterator[Client]:
    with Client(site.url, "anna", PASSWORD, timeout=60, patience=10) as made:
        yield made
        for job in made.jobs():
            job.delete()


@pytest.fixture
def working(site) -> Iterator[subprocess.Popen]:
    """The process that works on jobs."""
    environment = {**os.environ, "CBM_CONFIG": str(site.config), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "cbm_api.jobs"], env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)
