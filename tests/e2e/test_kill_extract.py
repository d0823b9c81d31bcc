"""Extractions that are killed, interrupted or put to sleep, as processes of their own.

Where a process stands still is decided from outside: a lock in the database that it runs into.
With ``CBM_CHAOS_SEEDS`` set every signal comes at every point, otherwise each comes at some.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests import postgis
from tests.extraction import COLS, LEFT, ROWS, TOP, World, texture
from tests.factories import sql, square

pytestmark = pytest.mark.postgis

REPO = Path(__file__).parents[2]
PRODUCTS = (
    {"name": "p", "card": "s2", "bands": ["B04", "B11"], "indices": ["NDMI"]},
    {"name": "clear", "card": "s2", "bands": ["B04"], "mask_classes": [3, 8, 9]},
)
SCENES = 4
PATIENCE = 60.0

# A lock the last statement of the third scene's second item runs into.
GATE = """
CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN new; END';
CREATE TRIGGER gate BEFORE UPDATE ON cbm.work_item FOR EACH ROW
  WHEN (new.state = 'done' AND new.scene_id = 3 AND new.product_id = 2)
  EXECUTE FUNCTION public.gate()"""

# Where an extraction is stopped: what is locked, and how the statement begins that runs into it.
POINTS = {
    "saving the plan": ("LOCK TABLE cbm.plan IN SHARE MODE", "INSERT INTO cbm.plan"),
    "writing the second month": ("LOCK TABLE cbm.signature_d1_202406 IN SHARE MODE", "COPY"),
    "rows written, evidence not": ("LOCK TABLE cbm.run IN SHARE MODE", "INSERT INTO cbm.run"),
    "at the last statement": ("SELECT pg_advisory_lock(7)", "UPDATE cbm.work_item"),
}
EVERY = "CBM_CHAOS_SEEDS" in os.environ
# Workers of a cluster are always killed at the others: tests/chaos/test_points.py.
KILLED_AT = list(POINTS)[: None if EVERY else 2]
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# They take turns.
INTERRUPTED_AT = [
    (point, how)
    for number, point in enumerate(POINTS)
    for how in (SIGNALS if EVERY else [SIGNALS[number % 2]])
]


def build(settings, folder) -> World:
    """Two scenes in May, two in June; forty parcels; partitions exist."""
    world = World.make(settings, folder)
    world.parcels([
        square(LEFT + 13 + 90 * (k % 8), TOP - 95 - 100 * (k // 8), 61) for k in range(40)
    ])  # fmt: skip
    for number in range(SCENES):
        coarse = world.raster(
            f"s{number}_B11", texture(ROWS // 2, COLS // 2, seed=20 + number), res=20
        )
        classes = texture(ROWS // 2, COLS // 2, 0, 12, "uint8", seed=30 + number)
        bands = {
            "B04": texture(seed=number),
            "B08": texture(seed=10 + number),
            "B11": coarse,
            "SCL": world.raster(f"s{number}_SCL", classes, res=20),
        }
        when = datetime(2024, 5 + number // 2, 10 + number, 10, tzinfo=UTC)
        world.scene(bands, reference=f"s{number}", obstime=when)
    world.products(*PRODUCTS)
    for month in ("2024-05-01", "2024-06-01"):
        sql(settings, "SELECT cbm.ensure_signature_partition(1::smallint, %s::date)", month)
    return world


def contents(settings) -> dict:
    """All that an extraction leaves, without times and names of workers."""
    queries = {
        "rows": "SELECT * FROM cbm.signature ORDER BY scene_id, product_id, geometry_id",
        "runs": """SELECT scene_id, dataset_id, product_id, scope, parcel_set_from, parcel_set_to,
                     plans, rows, digest FROM cbm.run ORDER BY scene_id, product_id""",
        "plans": "SELECT parcel_set_id, lattice, content_hash FROM cbm.plan ORDER BY 2",
        "monitorability": "SELECT * FROM cbm.monitorability ORDER BY lattice, geometry_id",
        "items": """SELECT scene_id, product_id, state, parcel_set_id FROM cbm.work_item
                    ORDER BY 1, 2""",
    }
    plain = {name: sql(settings, query) for name, query in queries.items()}
    return {
        name: [tuple(bytes(v) if isinstance(v, memoryview) else v for v in row) for row in rows]
        for name, rows in plain.items()
    }


@pytest.fixture(scope="module")
def undisturbed(pg_server, migrated_template, tmp_path_factory):
    """What an extraction of the same world leaves that nobody disturbs."""
    name = postgis.new_database(pg_server, migrated_template)
    settings = pg_server.settings(name)
    world = build(settings, tmp_path_factory.mktemp("undisturbed"))
    assert world.extract(*PRODUCTS).result["done"] == 2 * SCENES
    found = contents(settings)
    postgis.drop_database(pg_server, name)
    assert len(found["rows"]) == 2 * SCENES * 40
    return found


@pytest.fixture
def world(db, tmp_path):
    return build(db, tmp_path)


@contextmanager
def extraction(world, lease=2):
    """Run `cbm extract` as a process; killed at the end if it still runs."""
    config = world.folder / "cbm.toml"
    lines = [f'{key} = "{value}"' for key, value in world.settings.database.items()]
    config.write_text("\n".join(["[database]", *lines, ""]))
    command = [
        sys.executable, "-m", "cbm_extract.cli", "extract", "tt:2024",
        "--product-file", str(world.folder / "products.yml"), "--lease-seconds", str(lease),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=REPO, env=os.environ | {"CBM_CONFIG": str(config)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process) -> tuple[int, str]:
    output, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, output


@contextmanager
def barrier(pg_server, world, point):
    """Lock a point; give a function that waits until somebody has run into it."""
    lock, statement = POINTS[point]
    name = world.settings.database["dbname"]
    with closing(pg_server.superuser(name)) as owner, closing(pg_server.superuser(name)) as eye:
        with owner.cursor() as cursor:
            cursor.execute(GATE)
        owner.autocommit = False
        with owner.cursor() as cursor:
            cursor.execute(lock)

        def reached(times=1):
            limit = time.monotonic() + PATIENCE
            while True:
                with eye.cursor() as cursor:
                    cursor.execute(
                        """SELECT count(*) FROM pg_stat_activity
                           WHERE datname = %s AND wait_event_type = 'Lock'
                             AND ltrim(query, E' \\n') LIKE %s""",
                        (name, statement + "%"),
                    )
                    if cursor.fetchone()[0] >= times:
                        return
                assert time.monotonic() < limit, f"nobody came to {point}"
                time.sleep(0.05)

        yield reached
        owner.close()


def rerun(world) -> None:
    with extraction(world) as process:
        code, output = ended(process)
    assert code == 0, output


@pytest.mark.parametrize("point", KILLED_AT)
def test_kill_9_then_again(world, undisturbed, pg_server, point):
    with barrier(pg_server, world, point) as reached, extraction(world) as process:
        reached()
        process.send_signal(signal.SIGKILL)
        assert ended(process)[0] == -signal.SIGKILL
        running = sql(world.settings, "SELECT count(*) FROM cbm.work_item WHERE state = 'running'")
        assert running[0][0] > 0
    rerun(world)
    assert contents(world.settings) == undisturbed
    with extraction(world) as process:
        code, output = ended(process)
    assert (code, "Nothing to do" in output) == (0, True)


@pytest.mark.parametrize(("point", "how"), INTERRUPTED_AT)
def test_interrupt_then_again(world, undisturbed, pg_server, point, how):
    with extraction(world, lease=600) as process:
        with barrier(pg_server, world, point) as reached:
            reached()
            process.send_signal(how)
        code, output = ended(process)
    assert code == 130
    assert "Interrupted" in output
    assert "Traceback" not in output
    left = dict(sql(world.settings, "SELECT state, count(*) FROM cbm.work_item GROUP BY 1"))
    assert set(left) <= {"pending", "done"}
    assert left["pending"] > 0
    # At once: nothing waits for a lease of ten minutes.
    rerun(world)
    assert contents(world.settings) == undisturbed


def test_asleep_past_its_lease(world, undisturbed, pg_server):
    """Rows written, not yet committed; another worker has taken over when it wakes."""
    with extraction(world) as sleeper:
        with barrier(pg_server, world, "rows written, evidence not") as reached:
            reached()
            sleeper.send_signal(signal.SIGSTOP)
        with extraction(world) as successor:
            limit = time.monotonic() + PATIENCE
            while not sql(
                world.settings,
                "SELECT 1 FROM cbm.work_item WHERE state = 'running' AND attempts = 2",
            ):
                assert time.monotonic() < limit
                time.sleep(0.05)
            sleeper.send_signal(signal.SIGCONT)
            assert ended(successor)[0] == 0
            assert ended(sleeper)[0] == 0
    assert contents(world.settings) == undisturbed


def test_two_processes_at_once(world, undisturbed):
    with extraction(world) as one, extraction(world) as two:
        assert ended(one)[0] == ended(two)[0] == 0
    assert contents(world.settings) == undisturbed
