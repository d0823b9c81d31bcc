"""Many dispatchers, each a process, at one backlog; eight with ``CBM_CHAOS_SEEDS``."""

import os
import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from tests.extraction import World, texture
from tests.factories import sql, square
from tests.integration.test_cluster import FIELDS, LEFT, TOP

pytestmark = pytest.mark.postgis

PRODUCTS = [{"name": name, "card": "s2", "bands": ["B04"]} for name in ("p", "q")]
SCENES, DISPATCHERS = 200, (8 if "CBM_CHAOS_SEEDS" in os.environ else 4)


def test_many_dispatchers_do_no_item_twice(cluster, database, tmp_path):
    cluster.use(database)
    world = World.make(database, tmp_path)
    world.parcels([*FIELDS, square(LEFT + 600, TOP - 300)])
    path = world.raster("all", texture())
    for number in range(SCENES):
        when = datetime(2024, 3, 1, 10, tzinfo=UTC) + timedelta(days=number)
        world.scene({"B04": path}, reference=f"s{number}", obstime=when)
    world.extract(*PRODUCTS, engine="cluster", wait=False)

    crowd = [
        cluster.start_dispatcher(f"dispatcher-{number}", "--once", keep=False)
        for number in range(DISPATCHERS)
    ]
    assert [one.wait(120) for one in crowd] == [0] * DISPATCHERS
    reported = [int(re.search(r"(\d+) scenes done, \d+ rows", one.text())[1]) for one in crowd]
    runs = Counter(sql(database, "SELECT scene_id, dataset_id, product_id FROM cbm.run"))
    assert len(runs) == runs.total() == len(PRODUCTS) * SCENES
    # Nobody even began what another had.
    claimed = sql(database, "SELECT state, attempts, count(*) FROM cbm.work_item GROUP BY 1, 2")
    assert claimed == [("done", 1, len(PRODUCTS) * SCENES)]
    assert sql(database, "SELECT count(*) FROM cbm.signature")[0][0] == 3 * runs.total()
    assert sum(reported) == SCENES
    assert sum(number > 0 for number in reported) > 1
