"""Scenes on S3 that are damaged or not as catalogued: they fail with the reason, alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from psycopg2.extras import Json
from rasterio.transform import from_origin

from tests.chaos.season import cbm
from tests.extraction import LEFT, TOP, World, texture
from tests.factories import add_scene, asset, sql, square
from tests.unit.read import rasters

pytestmark = pytest.mark.postgis

PRODUCTS = (
    {"name": "both", "card": "s2", "bands": ["B04", "B08"], "indices": ["NDVI"]},
    {"name": "infrared", "card": "s2", "bands": ["B08"]},
)
ROWS, COLS = 300, 400
COG = {"driver": "COG", "compress": "deflate", "blocksize": 128}
JP2 = {"driver": "JP2OpenJPEG"}
# What is wrong with a scene, and what its item of product `both` fails with.
DEFECTS = {
    "flipped": "raster_damaged",
    "truncated": "raster_damaged",
    "truncated_jp2": "raster_damaged",
    "gone": "raster_missing",
    "other_crs": "raster_misplaced",
}


def flipped(body: bytes) -> bytes:
    """The file with one bit turned in the middle of its pixels."""
    changed = bytearray(body)
    changed[2 * len(body) // 3] ^= 0x10
    return bytes(changed)


class Archive:
    """Scenes that all show the same: a good one, and one of each defect in its B04."""

    def __init__(self, settings, store, folder: Path) -> None:
        self.world, self.store, self.folder = World.make(settings, folder), store, folder
        self.ids = self.world.parcels(
            [square(LEFT + 205 + 600 * i, TOP - 1405, 910) for i in range(5)]
        )
        self.good = {
            band: self.file(f"{band}.tif", texture(ROWS, COLS, seed=seed), **COG)
            for band, seed in (("B04", 4), ("B08", 8))
        }
        self.jp2 = self.file("B04.jp2", texture(ROWS, COLS, seed=4), **JP2)
        self.scenes = {
            name: self.scene(name, days, self.asset_of(name))
            for days, name in enumerate(("first", *DEFECTS, "last"))
        }

    def file(self, name: str, values, crs="EPSG:32632", **options) -> bytes:
        given = {"transform": from_origin(LEFT, TOP, 10, 10), "crs": crs}
        return rasters.write(self.folder / name, values, **given, **options).read_bytes()

    def asset_of(self, name: str) -> tuple[str, bytes | None]:
        """The key of a scene's B04, and what lies there."""
        whole = self.good["B04"]
        moved = self.file("moved.tif", texture(ROWS, COLS, seed=4), "EPSG:32633", **COG)
        bodies = {
            "flipped": flipped(whole),
            "truncated": whole[: 2 * len(whole) // 3],
            "truncated_jp2": self.jp2[: len(self.jp2) // 2],
            "gone": None,
            "other_crs": moved,
        }
        return f"bad/{name}.{name[-3:] if name.endswith('jp2') else 'tif'}", bodies.get(name, whole)

    def scene(self, name: str, days: int, red: tuple[str, bytes | None]) -> int:
        key, body = red
        if body is not None:
            self.store.put(key, body)
        infrared = self.store.put(f"bad/{name}_B08.tif", self.good["B08"])
        return add_scene(
            self.world.settings,
            {"B04": asset(f"s3://{self.store.bucket}/{key}"), "B08": asset(infrared)},
            reference=name,
            obstime=datetime(2024, 5, 1, 10, tzinfo=UTC) + timedelta(days=days),
            bounds=(LEFT, TOP - 10 * ROWS, LEFT + 10 * COLS, TOP),
        )

    def repair(self) -> None:
        for name in DEFECTS:
            key, _ = self.asset_of(name)
            self.store.put(key, self.jp2 if key.endswith("jp2") else self.good["B04"])

    def items(self) -> dict[tuple[str, str], tuple]:
        found = sql(
            self.world.settings,
            """SELECT s.reference, p.name, w.state, w.attempts, w.error_code, w.error
               FROM cbm.work_item w JOIN cbm.scene s ON s.id = w.scene_id
               JOIN cbm.product p ON p.id = w.product_id""",
        )
        return {row[:2]: row[2:] for row in found}

    def rows(self, name: str, product: str) -> list[tuple]:
        return sql(
            self.world.settings,
            """SELECT geometry_id, px_imaged, px_clear, tile_rank, stats::text
               FROM cbm.signature s JOIN cbm.product p ON p.id = s.product_id
               WHERE scene_id = %s AND p.name = %s ORDER BY 1""",
            self.scenes[name], product,
        )  # fmt: skip


@pytest.fixture
def limit() -> int:
    """MB of copies."""
    return 4096


@pytest.fixture
def archive(limit, cluster, database, seaweed, tmp_path):
    (tmp_path / "staging").mkdir()
    storage = seaweed.settings(
        tmp_path, staging_folder=str(tmp_path / "staging"), staging_limit_mb=limit
    )
    settings = replace(database, storage=storage)
    cluster.use(settings)
    made = Archive(settings, seaweed, tmp_path)
    yield made
    for name in DEFECTS:
        seaweed.delete(made.asset_of(name)[0])


@pytest.mark.parametrize("limit", [0, 4096], ids=["over the network", "as copies"])
def test_they_fail_alone_and_are_done_once_repaired(archive, cluster):
    world = archive.world
    world.extract(*PRODUCTS, engine="cluster", wait=False)
    said = cluster.dispatch_once()
    items = archive.items()
    for name, code in DEFECTS.items():
        state, attempts, found, error = items[name, "both"]
        assert (state, attempts, found) == ("failed", 1, code), error
        assert f"bad/{name}" in error
        assert archive.rows(name, "both") == []
        assert f"failed: {name} (both" in said
        # Bands that are whole serve the other product.
        assert items[name, "infrared"][0] == "done"
        assert archive.rows(name, "infrared") == archive.rows("first", "infrared")
    expected = archive.rows("first", "both")
    assert len(expected) == len(archive.ids)
    assert archive.rows("last", "both") == expected
    assert not any(world.folder.glob("staging/w-*/*.*"))

    archive.repair()
    assert "5 failed items" in cbm(cluster.config, "ledger", "retry", "tt:2024")
    cluster.dispatch_once()
    assert {state for state, *_ in archive.items().values()} == {"done"}
    for name in DEFECTS:
        assert archive.rows(name, "both") == expected, name
    cbm(cluster.config, "signatures", "verify", "tt:2024", "--recompute")


def test_a_band_that_was_not_catalogued(archive, cluster):
    """A product that has other bands does without; one that has none fails until it is there."""
    settings = archive.world.settings
    query = "SELECT assets FROM cbm.scene WHERE id = %s"
    whole = sql(settings, query, archive.scenes["last"])[0][0]
    change = "UPDATE cbm.scene SET assets = %s WHERE id = %s"
    sql(settings, change, Json({"B04": whole["B04"]}), archive.scenes["last"])
    archive.repair()
    archive.world.extract(*PRODUCTS, engine="cluster", wait=False)
    cluster.dispatch_once()
    state, attempts, code, error = archive.items()["last", "infrared"]
    assert (state, attempts, code) == ("failed", 1, "no_bands"), error
    missing = sql(
        settings,
        """SELECT r.missing_bands FROM cbm.run r WHERE r.scene_id = %s""",
        archive.scenes["last"],
    )
    assert missing == [(["B08"],)]
    sql(settings, change, Json(whole), archive.scenes["last"])
    cbm(cluster.config, "ledger", "retry", "tt:2024", "--code", "no_bands")
    cbm(cluster.config, "ledger", "redo", "tt:2024", "--scene", "last", "--reason", "B08 is there")
    cluster.dispatch_once()
    for product in ("both", "infrared"):
        assert archive.rows("last", product) == archive.rows("first", product)
