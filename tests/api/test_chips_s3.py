"""Chips from a real S3 server: the same pixels, and an outage said as it is."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import Affine

from cbm_api.app import create_app
from tests import faults
from tests.api.chips import LEFT, TOP, image, tiff, world
from tests.api.conftest import Asking
from tests.factories import add_scene, asset
from tests.faults import Proxy
from tests.unit.read import rasters

pytestmark = pytest.mark.postgis
BASE = "/v1/collections/tt_2024/items/p0"
GRID = Affine(10, 0, LEFT, 0, -10, TOP)
COG = {"driver": "COG", "compress": "deflate", "blocksize": 128, "transform": GRID}
JP2 = {"driver": "JP2OpenJPEG", "transform": GRID}
VALUES = rasters.texture(600, 800)
BOUNDS = (LEFT, TOP - 6000, LEFT + 8000, TOP)


@dataclass
class Far:
    """A scene on S3 behind a proxy, and a user who asks for it."""

    anna: Asking
    link: Proxy
    scene: int
    folder: Path

    def window(self, band="B04"):
        return self.anna.get(f"{BASE}/chips/{self.scene}.tif", bands=band, size=640)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """The scene's bands."""
    folder = tmp_path_factory.mktemp("bands")
    return {
        "B04": rasters.write(folder / "b04.tif", VALUES, **COG),
        "B08": rasters.write(folder / "b08.jp2", VALUES, **JP2),
    }


@pytest.fixture
def far(db, files, tmp_path, seaweed, asking):
    made = world(db, tmp_path)
    assets = {
        band: asset(seaweed.put(f"chips/{path.name}", path.read_bytes()))
        for band, path in files.items()
    }
    scene = add_scene(db, assets, bounds=BOUNDS)
    with faults.proxy(seaweed.address) as link:
        given = replace(
            db,
            database={**db.database, "user": "cbm_web"},
            storage=seaweed.settings(tmp_path, endpoint=link.url),
            api=replace(db.api, raster_seconds=30, requests_at_once=24),
        )
        app = create_app(given)
        headers = asking("anna", made.dataset).headers
        yield Far(Asking(app.test_client(), headers), link, scene, tmp_path)
        app.extensions["cbm_database"].close()


def expect(answer, more: int = 0) -> None:
    """The chip's pixels are the file's."""
    with tiff(answer.data) as found:
        row, column = round((TOP - found.bounds.top) / 10), round((found.bounds.left - LEFT) / 10)
        rows, columns = slice(max(row, 0), row + 64), slice(max(column, 0), column + 64)
        inside = found.read(1)[max(-row, 0) :, max(-column, 0) :]
        np.testing.assert_array_equal(inside, VALUES[rows, columns] + more)


@pytest.mark.parametrize("band", ["B04", "B08"])
def test_the_pixels_are_those_of_the_file_and_little_else_is_fetched(far, band):
    expect(far.window(band))
    if band == "B04":
        assert len(far.link.requests) <= 4


def test_many_at_once(far):
    with ThreadPoolExecutor(6) as pool:
        for answer in pool.map(lambda _: far.window(), range(24)):
            expect(answer)


def test_an_outage_is_503_and_passes(far):
    far.link.refuse()
    for path in (f"chips/{far.scene}.tif", f"chips/{far.scene}.png", "chips.png"):
        answer = far.anna.get(f"{BASE}/{path}", bands="B04")
        assert (answer.status_code, answer.json["code"]) == (503, "raster_unreachable")
        assert int(answer.headers["Retry-After"]) > 0
    far.link.heal()
    expect(far.window())
    sheet = image(far.anna.get(f"{BASE}/chips.png", bands="B04", datetime="2024-05-01").data)
    assert sheet.shape[2] == 3


@pytest.mark.parametrize("after", [0, 500, 10_000, 16_500, 25_000, 60_000])
def test_cut_connections_never_give_wrong_pixels(far, after):
    far.link.cut(after=after, times=None)
    answer = far.window()
    if answer.status_code == 200:
        expect(answer)
    else:
        assert (answer.status_code, answer.json["code"]) == (503, "raster_unreachable")
    far.link.heal()
    expect(far.window())


def test_a_storage_that_says_nothing_is_given_up_and_stops_nobody_else(far):
    far.window()
    rasters_of_app = far.anna.client.application.extensions["cbm_rasters"]
    rasters_of_app.seconds = 2
    far.link.stall(after=0, times=None)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(far.window)
        while not far.link.struck["stall"]:
            time.sleep(0.01)
        assert far.anna.get(f"{BASE}/chips").status_code == 200
        assert not waiting.done()
        answer = waiting.result()
    assert (answer.status_code, answer.json["code"]) == (503, "raster_unreachable")
    far.link.heal()
    rasters_of_app.seconds = 30
    expect(far.window())


def test_storage_that_is_busy_is_asked_again(far):
    far.link.answer(503, "SlowDown", 1)
    expect(far.window())


def test_what_was_deleted_is_missing_and_what_was_replaced_is_read_anew(far, seaweed):
    expect(far.window())
    path = rasters.write(far.folder / "new.tif", VALUES + 1, **COG)
    seaweed.put("chips/b04.tif", path.read_bytes())
    expect(far.window(), more=1)
    seaweed.delete("chips/b04.tif")
    answer = far.window()
    assert (answer.status_code, answer.json["code"]) == (404, "raster_missing")
