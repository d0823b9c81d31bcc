"""Fixtures every kind of test may use."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cbm_core.settings import Settings
    from tests.postgis import Server
    from tests.seaweed import Seaweed

# A session in a shell's background ignores interrupts, and so would the programs it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real data; its absence skips, or fails where CBM_REQUIRE_DATA is set."""
    folder = Path(os.environ.get("CBM_TEST_DATA", DEFAULT_DATA))
    if not folder.is_dir():
        reason = f"no real data at {folder} (set CBM_TEST_DATA)"
        if os.environ.get("CBM_REQUIRE_DATA") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def seaweed() -> Iterator["Seaweed"]:
    """A real S3 server (SeaweedFS) with the bucket `cbm`; see tests/seaweed.py."""
    from tests.seaweed import server

    with server() as running:
        yield running


@pytest.fixture(scope="session")
def pg_server() -> Iterator["Server"]:
    """A throw-away cluster with roles, logins and the empty, bootstrapped database `cbm_empty`."""
    from tests import postgis

    with postgis.server(postgis.HURRIED, postgis.in_memory()) as running:
        yield running


@pytest.fixture(scope="session")
def migrated_template(pg_server: "Server") -> str:
    """A database with the whole schema, to be copied."""
    from cbm_core.migrations import runner
    from tests import postgis

    name = postgis.new_database(pg_server, "cbm_empty")
    runner.migrate(pg_server.settings(name))
    return name


@pytest.fixture
def db(pg_server: "Server", migrated_template: str) -> Iterator["Settings"]:
    """Settings for a fresh database with the whole schema; logins cbm_extractor and cbm_admin."""
    from tests import postgis

    with postgis.copied(pg_server, migrated_template) as settings:
        yield settings
