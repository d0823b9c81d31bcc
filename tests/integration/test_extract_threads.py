"""Blocks decoded by any number of threads: the same rows, and nothing of a band that fails."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
import tifffile

from cbm_core.errors import CbmError
from cbm_core.settings import EngineSettings
from cbm_extract.engine import scene_reading
from cbm_extract.read.strips import Strip
from tests.extraction import LEFT, TOP, World, inside, statistics, texture
from tests.factories import sql, square

pytestmark = pytest.mark.postgis

ROWS, COLS = 1300, 200
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}
P = {"card": "s2", "bands": ["B04", "B11"], "indices": ["NDVI", "NDMI"], "tiles": "all"}
SHAPES = [square(LEFT + 10 * c, TOP - 10 * r, 290) for r in (40, 500, 790, 1290) for c in (3, 120)]


@pytest.fixture
def world(db, tmp_path):
    return World.make(db, tmp_path)


def with_threads(world, threads):
    world.settings = replace(world.settings, engine=EngineSettings(threads=threads))
    return world


def scene(world):
    classes = np.full((ROWS // 2, COLS // 2), 4, np.uint8)
    classes[:, 15:60] = 9
    paths = {
        "B04": world.raster("B04", texture(ROWS, COLS, seed=1), **TILED),
        "B08": world.raster("B08", texture(ROWS, COLS, seed=2), blockysize=7),
        "B11": world.raster("B11", texture(ROWS // 2, COLS // 2, seed=3), res=20, **TILED),
        "SCL": world.raster("SCL", classes, res=20, **TILED),
    }
    world.scene(paths)
    return paths


def test_rows_do_not_depend_on_the_threads(world):
    ids = world.parcels(SHAPES)
    paths = scene(world)
    for threads in (1, 2, 4):
        plain = {**P, "name": f"plain{threads}"}
        clear = {**P, "name": f"clear{threads}", "mask_classes": [9]}
        with_threads(world, threads).extract(plain, clear)
    found = sql(
        world.settings,
        """SELECT p.name, s.geometry_id, s.px_imaged, s.px_clear, s.tile_rank,
                  encode(s.class_counts, 'hex'), encode(array_send(s.stats), 'hex')
           FROM cbm.signature s JOIN cbm.product p ON p.id = s.product_id""",
    )
    rows = {(product, number): row for product, number, *row in found}
    assert len(rows) == 6 * len(ids)
    for name in ("plain", "clear"):
        for number in ids:
            one, two, four = (rows[f"{name}{threads}", number] for threads in (1, 2, 4))
            assert one == two == four
    with rasterio.open(paths["B04"]) as source:
        pixels = source.read(1)
    for number, shape in zip(ids, SHAPES, strict=True):
        expected = statistics(pixels[inside(shape, paths["B04"])])
        np.testing.assert_array_equal(world.rows("plain4")[number].stats["B04"], expected)


def damage_a_block(path, row, col):
    with tifffile.TiffFile(path) as file:
        offset = file.pages.first.dataoffsets[row * -(-COLS // 64) + col]
    body = bytearray(path.read_bytes())
    body[offset + 50 : offset + 250] = bytes(200)
    path.write_bytes(body)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_damage_in_the_middle_of_a_band_leaves_nothing_and_names_it(world, threads):
    world.parcels(SHAPES)
    paths = scene(world)
    damage_a_block(paths["B04"], 12, 2)
    with pytest.raises(CbmError) as caught:
        with_threads(world, threads).extract({**P, "name": "p"})
    (failed,) = caught.value.details["failed"]
    assert failed["code"] == "raster_damaged"
    assert str(paths["B04"]) in caught.value.message
    assert "rows 768-831 of 1300" in caught.value.message
    assert sql(world.settings, "SELECT count(*) FROM cbm.signature") == [(0,)]
    assert sql(world.settings, "SELECT count(*) FROM cbm.run") == [(0,)]


def test_damage_where_no_parcel_is_does_not_matter(world):
    ids = world.parcels(SHAPES[:2])
    paths = scene(world)
    damage_a_block(paths["B04"], 12, 2)
    with_threads(world, 2).extract({**P, "name": "p"})
    assert set(world.rows()) == set(ids)


def test_blocks_without_a_wanted_pixel_are_not_decoded(world, monkeypatch):
    world.parcels(SHAPES)
    paths = scene(world)
    decoded = []
    inner = Strip.decode

    def noted(strip, row, col, values):
        decoded.append((strip.band.asset.href, row, col))
        inner(strip, row, col, values)

    monkeypatch.setattr(Strip, "decode", noted)
    masked = {**P, "bands": ["B04"], "indices": [], "mask_classes": [9]}
    with_threads(world, 2).extract({**masked, "name": "p"}, {**masked, "name": "q"})
    assert len(decoded) == len(set(decoded))
    with rasterio.open(paths["SCL"]) as source:
        clear = (source.read(1) != 9).repeat(2, 0).repeat(2, 1)
    wanted = np.zeros((ROWS, COLS), bool)
    for shape in SHAPES:
        wanted |= inside(shape, paths["B04"])
    rows, cols = np.nonzero(wanted & clear)
    expected = {
        (str(paths["B04"]), int(r) // 64, int(c) // 64) for r, c in zip(rows, cols, strict=True)
    }
    assert {one for one in decoded if one[0] == str(paths["B04"])} == expected
    assert 0 < len(expected) < 21 * 4


def test_an_interrupt_between_strips_leaves_no_thread(world, monkeypatch):
    import threading

    world.parcels(SHAPES)
    scene(world)
    inner, beats = scene_reading.SceneReading._between, []

    def interrupted(self, *given):
        beats.append(1)
        if len(beats) == 3:
            raise KeyboardInterrupt
        inner(self, *given)

    monkeypatch.setattr(scene_reading.SceneReading, "_between", interrupted)
    with pytest.raises(KeyboardInterrupt):
        with_threads(world, 4).extract({**P, "name": "p"})
    assert not [one for one in threading.enumerate() if one.name.startswith("decode")]
    assert sql(world.settings, "SELECT DISTINCT state FROM cbm.work_item") == [("pending",)]
