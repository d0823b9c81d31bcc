"""Extractions of a field in May."""

from datetime import UTC, datetime

import pytest

from cbm_core.errors import CbmError
from cbm_core.verbs import Context
from cbm_extract.ledger import verbs as ledger_verbs
from tests.extraction import (
    LEFT,
    TOP,
    World,
)
from tests.factories import sql, square

B04 = {"name": "p", "card": "s2", "bands": ["B04"]}

MAY = [datetime(2024, 5, day, 10, tzinfo=UTC) for day in range(1, 30)]

FIELD = square(LEFT + 105, TOP - 395, 211)


def world(db, tmp_path):
    return World.make(db, tmp_path)


def refused(world, *definitions, **arguments) -> CbmError:
    with pytest.raises(CbmError) as caught:
        world.extract(*definitions, **arguments)
    return caught.value


def retry(world, **arguments):
    verb = ledger_verbs.RETRY
    given = {"dataset": "tt:2024", **arguments}
    return verb.run(verb.arguments.model_validate(given), Context(world.settings))


def count(world, table) -> int:
    return sql(world.settings, f"SELECT count(*) FROM cbm.{table}")[0][0]
