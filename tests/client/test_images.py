"""Chips by the client: the pixels of the scenes' own files."""

import numpy as np
import pytest
import rasterio
from rasterio.windows import from_bounds

from cbm_client import ApiError, Chip, Picture, plot
from tests.client.world import CLOUDED, COLLECTION, DAYS
from tests.factories import sql

pytestmark = pytest.mark.postgis


def test_the_list(client):
    found = client.chips(COLLECTION, "p12")
    assert list(found.obstime) == DAYS and found.attrs["complete"] is True
    assert found.bands[0] == ["B03", "B04", "B08", "SCL"]
    clear = client.chips(COLLECTION, "p12", max_cloud=10, limit=2)
    assert list(clear.obstime) == [DAYS[0], DAYS[2]] and clear.attrs["complete"] is False
    assert list(client.chips(COLLECTION, "p12", card="bs").columns[:2]) == ["scene", "obstime"]


def test_numbers_are_the_files(client, site):
    listed = client.chips(COLLECTION, "p12").iloc[0]
    chip = client.chip(COLLECTION, "p12", listed.scene, bands=("B04", "B08"), size=320)
    assert isinstance(chip, Chip) and chip.values.dtype == np.float32
    assert (chip.bands, chip.crs, chip.obstime) == (("B04", "B08"), "EPSG:32632", DAYS[0])
    assert chip.reference == listed.reference
    rows, columns = chip["B08"].shape
    corners = chip.transform @ (0, rows), chip.transform @ (columns, 0)
    with rasterio.open(site.world.folder / f"{listed.reference}_B08.tif") as source:
        window = from_bounds(*corners[0], *corners[1], source.transform)
        raw = source.read(1, window=window).astype(np.float32)
    np.testing.assert_array_equal(chip["B08"], raw - 1000)
    with pytest.raises(KeyError, match="B04, B08"):
        chip["B11"]


def test_pictures(client):
    scene = int(client.chips(COLLECTION, "p12").scene[0])
    shown = client.picture(COLLECTION, "p12", scene, side=64, range="0,3000", outline=False)
    assert shown.shape == (64, 64, 4) and shown.dtype == np.uint8
    assert (shown[..., 3] == 255).any()
    grey = client.picture(COLLECTION, "p12", scene, side=64, bands="B08", outline=False)
    assert (grey[..., 0] == grey[..., 2]).all()
    assert not np.array_equal(grey, shown)
    sheet = client.sheet(COLLECTION, "p12", columns=3, side=64, max_cloud=0)
    assert sheet.shape[1] >= 3 * 64 and sheet.shape[0] >= 2 * 64


def test_a_strip_leaves_the_place_of_a_lost_file_empty(client, site):
    found = client.pictures(COLLECTION, "p12", shown={"side": 32})
    assert [one.obstime for one in found] == DAYS
    assert [one.cloud_percent for one in found][: CLOUDED[0] + 1] == [0, 50]
    assert all(one.pixels is not None and one.pixels.shape == (32, 32, 4) for one in found)
    path = site.world.folder / f"S2A_MSIL2A_{DAYS[2]:%Y%m%dT%H%M%S}_N0510_B08.tif"
    path.rename(path.with_suffix(".away"))
    try:
        gone = client.pictures(COLLECTION, "p12", limit=4, size=320)
    finally:
        path.with_suffix(".away").rename(path)
    assert [one.pixels is None for one in gone] == [False, False, True, False]
    figure = plot.chips(gone, columns=3)
    assert [len(ax.images) for ax in figure.axes] == [1, 1, 0, 1, 0, 0]
    assert figure.axes[1].get_title() == "2024-04-11  50 %"


def test_a_strip_leaves_the_place_of_a_damaged_file_empty(client, site):
    path = site.world.folder / f"S2A_MSIL2A_{DAYS[1]:%Y%m%dT%H%M%S}_N0510_B04.tif"
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    try:
        found = client.pictures(COLLECTION, "p12", limit=3, size=340)
    finally:
        path.write_bytes(whole)
    assert [one.pixels is None for one in found] == [False, True, False]


def test_a_strip_of_nothing():
    with pytest.raises(ValueError, match="no pictures"):
        plot.chips([])
    assert len(plot.chips([Picture(None, DAYS[0], None)]).axes) == 1


def test_no_orthophoto(client, site):
    with pytest.raises(ApiError) as failure:
        client.background(COLLECTION, "p12")
    assert failure.value.code == "not_found"


def test_an_image_of_elsewhere(client, site):
    ((last,),) = sql(site.world.settings, "SELECT max(id) FROM cbm.scene")
    with pytest.raises(ApiError) as failure:
        client.chip(COLLECTION, "p12", last + 1)
    assert failure.value.code == "scene_unknown"
