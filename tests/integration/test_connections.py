"""Connections that break: said in one way, whatever the moment."""

from contextlib import closing
from dataclasses import replace

import psycopg2
import pytest

from cbm_core import db as database
from cbm_core.errors import CbmError
from tests import faults

pytestmark = pytest.mark.postgis


@pytest.fixture
def link(pg_server):
    with faults.proxy(pg_server.directory / f".s.PGSQL.{pg_server.port}") as running:
        yield running


@pytest.fixture
def far(db, link):
    """Settings of a server at the far end of the link."""
    host, port = link.address
    return replace(db, database={**db.database, "host": host, "port": str(port)})


@pytest.mark.parametrize("after", [0, 10, 5_000, 200_000])
def test_in_the_middle_of_an_answer(far, link, after):
    with pytest.raises(CbmError) as caught, database.session(far) as connection:
        link.cut(after, times=None)
        with database.transaction(connection) as cursor:
            cursor.execute("SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
    assert caught.value.code == "database_lost"


@pytest.mark.parametrize("after", range(0, 800, 25))
def test_while_a_session_is_opened(far, link, after):
    link.cut(after, times=None)
    try:
        database.connect(far).close()
    except CbmError as error:
        assert error.code in ("database_unreachable", "database_lost")


def test_an_error_of_the_server_is_no_loss(db):
    with (
        closing(database.connect(db)) as connection,
        pytest.raises(psycopg2.errors.DivisionByZero),
        database.readable_errors(),
        database.transaction(connection) as cursor,
    ):
        cursor.execute("SELECT 1 / 0")


def test_a_server_that_dies_while_it_answers():
    """What psycopg2 raises then is of its most general kind."""
    with pytest.raises(CbmError) as caught, database.readable_errors():
        raise psycopg2.DatabaseError("server closed the connection unexpectedly\n\tThis probably")
    assert caught.value.code == "database_lost"
    assert "server closed the connection unexpectedly" in caught.value.message
