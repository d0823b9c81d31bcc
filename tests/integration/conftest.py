"""Fixtures with a real PostGIS."""

from collections.abc import Iterator

import pytest

from cbm_core.migrations import runner
from cbm_core.settings import Settings
from tests import postgis


@pytest.fixture(scope="session")
def pg_server() -> Iterator[postgis.Server]:
    """A throw-away cluster with roles, logins and the empty, bootstrapped database `cbm_empty`."""
    with postgis.server() as running:
        yield running


@pytest.fixture(scope="session")
def migrated_template(pg_server: postgis.Server) -> str:
    """A database with the whole schema, to be copied."""
    name = postgis.new_database(pg_server, "cbm_empty")
    runner.migrate(pg_server.settings(name))
    return name


@pytest.fixture
def empty_db(pg_server: postgis.Server) -> Iterator[Settings]:
    """Settings for a bootstrapped database without the schema."""
    name = postgis.new_database(pg_server, "cbm_empty")
    yield pg_server.settings(name)
    postgis.drop_database(pg_server, name)


@pytest.fixture
def db(pg_server: postgis.Server, migrated_template: str) -> Iterator[Settings]:
    """Settings for a fresh database with the whole schema; logins cbm_extractor and cbm_admin."""
    name = postgis.new_database(pg_server, migrated_template)
    yield pg_server.settings(name)
    postgis.drop_database(pg_server, name)
