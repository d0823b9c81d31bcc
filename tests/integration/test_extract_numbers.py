"""What must be right: every stored number against numpy and GDAL's rasterize."""

import numpy as np
import pytest
import rasterio
import shapely

from tests.extraction import COLS, LEFT, ROWS, TOP, World, inside, statistics, texture
from tests.factories import asset, sql, square, transformed

pytestmark = pytest.mark.postgis

B04 = {"name": "p", "card": "s2", "bands": ["B04"], "tiles": "all"}
MASKED = {**B04, "mask_classes": [0, 3, 8, 9, 10]}
RING = shapely.Polygon(
    [
        (LEFT + 33, TOP - 33),
        (LEFT + 303, TOP - 41),
        (LEFT + 260, TOP - 290),
        (LEFT + 50, TOP - 250),
    ],
    [[(LEFT + 100, TOP - 100), (LEFT + 200, TOP - 110), (LEFT + 150, TOP - 200)]],
)


@pytest.fixture
def world(db, tmp_path):
    return World.make(db, tmp_path)


def check(world, shapes, ids, band="B04", *, values=None, valid=None, scale=1.0, offset=0.0,
          crs="EPSG:32632", scene=None, product="p"):  # fmt: skip
    """Compare the rows of all geometries with numpy; returns the rows."""
    path = world.folder / f"scene_{band}.tif"
    with rasterio.open(path) as source:
        data = source.read(1) if values is None else values
    usable = np.ones(data.shape, bool) if valid is None else valid
    rows = world.rows(product, scene)
    for number, shape in zip(ids, shapes, strict=True):
        pixels = data[inside(shape, path, crs) & usable]
        if pixels.size == 0:
            assert number not in rows
            continue
        np.testing.assert_array_equal(
            rows[number].stats[band], statistics(pixels, scale, offset), err_msg=f"{number}"
        )
        assert rows[number].imaged == rows[number].clear == pixels.size
    return rows


def test_holes_multipolygons_overlaps_edges_and_slivers(world):
    shapes = [
        RING,
        shapely.MultiPolygon([square(LEFT + 400, TOP - 200), square(LEFT + 600, TOP - 400, 57)]),
        square(LEFT + 420, TOP - 190, 120),  # overlaps the one before
        square(LEFT - 55, TOP - 300),  # over the left edge
        square(LEFT + 10 * COLS - 33, TOP - 10 * ROWS - 27),  # over the lower right corner
        square(LEFT + 501, TOP - 401, 3),  # smaller than a pixel, without a centre
        square(LEFT + 513, TOP - 417, 4),  # smaller than a pixel, with its centre
        shapely.box(LEFT + 4, TOP - 590, LEFT + 6, TOP - 10),  # a strip over centres
        square(LEFT + 2000, TOP - 400),  # elsewhere
    ]
    ids = world.parcels(shapes)
    world.scene({"B04": texture()})
    world.extract(B04)
    rows = check(world, shapes, ids)
    assert set(rows) == {ids[k] for k in (0, 1, 2, 3, 4, 6, 7)}
    assert rows[ids[6]].imaged == 1
    assert rows[ids[6]].stats["B04"][2] == 0
    ranks = {k: rows[ids[k]].rank for k in (0, 3, 4)}
    assert ranks == {0: 0, 3: 2, 4: 2}


def test_more_than_65535_pixels(world):
    shapes = [square(LEFT + 7, TOP - 2993, 2970), square(LEFT + 50, TOP - 200)]
    ids = world.parcels(shapes)
    world.scene({"B04": texture(300, 300)})
    world.extract(B04)
    rows = check(world, shapes, ids)
    assert rows[ids[0]].imaged == 297 * 297 > 65_535


def test_bands_of_20_m_keep_their_grid(world):
    shapes = [RING, square(LEFT + 502, TOP - 408, 6)]  # the second holds a 10 m centre only
    ids = world.parcels(shapes)
    coarse = world.raster("scene_B11", texture(ROWS // 2, COLS // 2, seed=5), res=20)
    world.scene({"B04": texture(), "B11": coarse})
    world.extract({**B04, "bands": ["B11", "B04"]})
    rows = world.rows()
    fine = world.folder / "scene_B04.tif"
    for band, path in (("B04", fine), ("B11", coarse)):
        with rasterio.open(path) as source:
            data = source.read(1)
        for number, shape in zip(ids, shapes, strict=True):
            expected = statistics(data[inside(shape, path)])
            np.testing.assert_array_equal(rows[number].stats[band], expected)
    assert rows[ids[0]].imaged == inside(RING, fine).sum()
    assert rows[ids[1]].imaged == 1
    assert rows[ids[1]].stats["B11"][0] == 0


def test_nodata_inside_a_parcel(world):
    data = texture()
    data[10:16, 8:14] = 0
    data[3, 20] = 65535
    shapes = [RING, shapely.box(LEFT + 80, TOP - 160, LEFT + 140, TOP - 100)]
    ids = world.parcels(shapes)
    path = world.raster("scene_B04", data, nodata=0)
    world.scene({"B04": asset(path, nodata=(65535.0,))})
    world.extract(B04)
    rows = check(world, shapes, ids, valid=(data != 0) & (data != 65535))
    assert set(rows) == {ids[0]}


def test_raw_1000_and_900_with_an_offset_of_minus_1000(world):
    data = texture(low=1100)
    data[4:8, 4:8] = 1000
    data[20:22, 4:8] = 900
    data[30:34, 4:8] = 0
    shapes = [shapely.box(LEFT + 40, TOP - t - 40, LEFT + 80, TOP - t) for t in (40, 200, 300)]
    ids = world.parcels(shapes)
    path = world.raster("scene_B04", data, nodata=0)
    world.scene({"B04": asset(path, offset=-1000.0)})
    world.extract(B04)
    rows = check(world, shapes, ids, valid=data != 0, offset=-1000.0)
    assert rows[ids[0]].stats["B04"][:5].tolist() == [16, 0, 0, 0, 0]
    assert rows[ids[1]].stats["B04"][3] == -100
    assert ids[2] not in rows


@pytest.mark.parametrize("nodata", [0.0, np.nan], ids=["zero", "nan"])
def test_float_rasters(world, nodata):
    data = (texture() / 10_000).astype(np.float32)
    hole = np.zeros(data.shape, bool)
    hole[8:15, 6:12] = True
    hole[25:30, 10:30] = True
    data[hole] = nodata
    data[2, 2], data[5, 9] = np.nan, np.inf
    shapes = [RING, square(LEFT, TOP - 100), square(LEFT + 60, TOP - 140, 40)]
    ids = world.parcels(shapes)
    path = world.raster("scene_B04", data, nodata=nodata)
    world.scene({"B04": asset(path, scale=10_000.0, nodata=())})
    world.extract(B04)
    rows = check(world, shapes, ids, valid=~hole & np.isfinite(data), scale=10_000.0)
    assert ids[2] not in rows


def test_parcels_in_degrees_and_in_another_zone(world):
    shapes = [RING, square(LEFT + 500, TOP - 500, 77)]
    degrees = [transformed(shape, "EPSG:32632", "EPSG:4326") for shape in shapes]
    other = [transformed(shape, "EPSG:32632", "EPSG:32633") for shape in shapes]
    ids = [
        world.parcels(degrees, crs="EPSG:4326", layer="a"),
        world.parcels(other, crs="EPSG:32633", layer="b"),
    ]
    world.scene({"B04": texture()})
    world.extract(B04)
    check(world, degrees, ids[0], crs="EPSG:4326")
    check(world, other, ids[1], crs="EPSG:32633")
    assert len(sql(world.settings, "SELECT DISTINCT parcel_set_id FROM cbm.plan")) == 2


def test_a_chip_off_the_lattice_of_the_tiles(world):
    ids = world.parcels([RING])
    path = world.raster("scene_B04", texture(), left=LEFT + 3.7, top=TOP - 1.2)
    world.scene({"B04": path})
    world.extract(B04)
    check(world, [RING], ids)


def test_a_band_missing_from_one_scene(world):
    ids = world.parcels([RING])
    whole = world.scene({"B04": texture(), "B08": texture(seed=2)}, reference="whole")
    part = world.scene({"B04": texture()}, reference="part", tile="32TMS")
    world.extract({**B04, "bands": ["B08", "B04"], "indices": ["NDVI"]})
    (full,), (less,) = world.rows(scene=whole).values(), world.rows(scene=part).values()
    np.testing.assert_array_equal(full.stats["B04"], less.stats["B04"])
    for absent in ("B08", "NDVI"):
        assert full.stats[absent][0] > 0
        assert less.stats[absent][0] == 0
        assert np.isnan(less.stats[absent][1:]).all()
    missing = sql(world.settings, "SELECT scene_id, missing_bands FROM cbm.run ORDER BY 1")
    assert missing == [(whole, []), (part, ["B08"])]
    assert ids
    shown = sql(world.settings, "SELECT mean, count FROM cbm.signature_all WHERE band = 'B08'"
                                " AND scene_id = %s", part)  # fmt: skip
    assert shown == [(None, 0)]


def test_index_on_one_grid_and_over_two(world):
    red, infrared = texture(seed=3), texture(seed=4)
    red[5, 5] = 0
    swir = texture(ROWS // 2, COLS // 2, seed=6)
    ids = world.parcels([RING])
    paths = {
        "B04": world.raster("i_B04", red, nodata=0),
        "B08": world.raster("i_B08", infrared, nodata=0),
        "B11": world.raster("i_B11", swir, nodata=0, res=20),
    }
    world.scene(paths)
    world.extract({**B04, "bands": ["B04"], "indices": ["NDVI", "NDMI"]})
    (row,) = world.rows().values()

    def quotient(a, b):
        return (a - b) / (a + b)

    valid = inside(RING, paths["B04"]) & (red != 0)
    a, b = infrared.astype(float) / 10_000, red.astype(float) / 10_000
    np.testing.assert_allclose(row.stats["NDVI"], statistics(quotient(a, b)[valid]), rtol=1e-6)
    blocks = (infrared.astype(float) / 10_000).reshape(ROWS // 2, 2, COLS // 2, 2).mean((1, 3))
    coarse = quotient(blocks, swir.astype(float) / 10_000)[inside(RING, paths["B11"])]
    np.testing.assert_allclose(row.stats["NDMI"], statistics(coarse), rtol=1e-6)
    assert ids


class TestClassesAndMasks:
    @pytest.fixture
    def scene(self, world):
        """A band at 10 m with nodata, and a classification at 20 m that holds every class."""
        band, classes = texture(), texture(ROWS // 2, COLS // 2, 0, 12, "uint8", seed=9)
        band[:, 20:23] = 0
        paths = {
            "B04": world.raster("scene_B04", band, nodata=0),
            "SCL": world.raster("scene_SCL", classes, res=20),
        }
        world.scene(paths)
        return band, classes, paths

    def test_counts_are_of_all_pixels_on_their_own_grid(self, world, scene):
        _, classes, paths = scene
        (number,) = world.parcels([RING])
        world.extract(B04)
        values, counts = np.unique(classes[inside(RING, paths["SCL"])], return_counts=True)
        assert world.rows()[number].classes == dict(
            zip(values.tolist(), counts.tolist(), strict=True)
        )

    def test_the_mask_cuts_pixels_not_the_evidence_of_imaging(self, world, scene):
        band, classes, paths = scene
        clouds = square(LEFT + 300, TOP - 300, 40)
        (number, hidden) = world.parcels([RING, clouds])
        with rasterio.open(paths["SCL"], "r+") as target:
            classes[inside(clouds, paths["SCL"])] = 9
            target.write(classes, 1)
        world.extract(MASKED, {**B04, "name": "plain"})
        masked = np.isin(classes, MASKED["mask_classes"]).repeat(2, 0).repeat(2, 1)
        ring = inside(RING, paths["B04"])
        usable = ring & (band != 0)
        hidden_here = ring & masked & (classes != 0).repeat(2, 0).repeat(2, 1)
        row = world.rows()[number]
        np.testing.assert_array_equal(row.stats["B04"], statistics(band[usable & ~masked]))
        clear = (usable & ~masked).sum()
        assert (row.imaged, row.clear) == (clear + hidden_here.sum(), clear)
        plain = world.rows("plain")[number]
        np.testing.assert_array_equal(plain.stats["B04"], statistics(band[usable]))
        assert plain.classes == row.classes
        covered = world.rows()[hidden]
        assert covered.stats is None
        assert (covered.imaged, covered.clear, covered.classes) == (16, 0, {9: 4})

    def test_too_small_a_clear_share_is_clouded(self, world, scene):
        _, classes, paths = scene
        (number,) = world.parcels([RING])
        seen = classes[inside(RING, paths["SCL"])]
        seen = seen[seen != 0]
        share = float((~np.isin(seen, MASKED["mask_classes"])).mean())
        assert 0.1 < share < 0.9
        above = {**MASKED, "name": "above", "min_clear_share": share + 0.05}
        world.extract(above, {**MASKED, "name": "below", "min_clear_share": share - 0.05}, MASKED)
        below, plain = world.rows("below")[number], world.rows(MASKED["name"])[number]
        np.testing.assert_array_equal(below.stats["B04"], plain.stats["B04"])
        assert (below.imaged, below.clear) == (plain.imaged, plain.clear)
        row = world.rows("above")[number]
        with_data = (classes != 0).repeat(2, 0).repeat(2, 1) & inside(RING, paths["B04"])
        assert row.stats is None
        assert (row.imaged, row.clear, row.classes) == (with_data.sum(), 0, plain.classes)

    def test_dilation_spreads_the_mask(self, world, scene):
        band, classes, paths = scene
        classes[:] = 4
        classes[10, 10] = 9
        with rasterio.open(paths["SCL"], "r+") as target:
            target.write(classes, 1)
        (number,) = world.parcels([RING])
        world.extract({**MASKED, "mask_dilation_m": 45})
        rows, cols = np.mgrid[: ROWS // 2, : COLS // 2]
        near = np.hypot(rows - 10, cols - 10) * 20 <= 45
        usable = inside(RING, paths["B04"]) & (band != 0) & ~near.repeat(2, 0).repeat(2, 1)
        np.testing.assert_array_equal(world.rows()[number].stats["B04"], statistics(band[usable]))

    def test_what_is_no_class_counts_as_class_0(self, world):
        classes = np.full((ROWS, COLS), 4, np.float32)
        shape = square(LEFT, TOP - 100)
        classes[0, :6] = [1e20, np.nan, -1, 12, np.inf, 11]
        (number,) = world.parcels([shape])
        world.scene({"B04": texture(), "SCL": classes})
        world.extract(B04)
        assert world.rows()[number].classes == {0: 5, 4: 94, 11: 1}

    def test_a_card_without_its_classes_is_extracted_but_not_masked(self, world):
        (number,) = world.parcels([RING])
        world.scene({"B04": texture()})
        from cbm_core.errors import CbmError

        with pytest.raises(CbmError) as caught:
            world.extract(MASKED, {**B04, "name": "plain"})
        assert [f["code"] for f in caught.value.details["failed"]] == ["class_band_missing"]
        assert world.rows("p") == {}
        assert world.rows("plain")[number].classes is None


def test_an_inward_buffer(world):
    shapes = [RING, square(LEFT + 500, TOP - 500, 25)]
    ids = world.parcels(shapes)
    world.scene({"B04": texture()})
    world.extract({**B04, "buffer_m": 15})
    rows = check(world, [RING.buffer(-15, quad_segs=8)], ids[:1])
    assert ids[1] not in rows
    codes = sql(
        world.settings, "SELECT code FROM cbm.monitorability WHERE geometry_id = %s", ids[1]
    )
    assert codes == [("too_small",)]


def test_backscatter_with_an_angle_left_alone(world):
    """Float card without classes: linear power, negative values kept."""
    power = (texture() / 1e4).astype(np.float32)
    power[4, 4] = -0.01
    shape = square(LEFT, TOP - 200, 200)
    (number,) = world.parcels([shape])
    path = world.raster("scene_VV", power)
    world.scene({"VV": asset(path, nodata=(0.0,))}, card="bs", tile="")
    world.extract({"name": "p", "card": "bs", "bands": ["VV"]})
    row = world.rows()[number]
    np.testing.assert_array_equal(row.stats["VV"], statistics(power[inside(shape, path)]))
    assert row.stats["VV"][3] == np.float32(-0.01)
    assert row.classes is None
