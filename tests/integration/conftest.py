"""Fixtures with a real PostGIS."""

from collections.abc import Iterator

import pytest

from cbm_core.settings import Settings
from tests import postgis


@pytest.fixture
def empty_db(pg_server: postgis.Server) -> Iterator[Settings]:
    """Settings for a bootstrapped database without the schema."""
    with postgis.copied(pg_server, "cbm_empty") as settings:
        yield settings
