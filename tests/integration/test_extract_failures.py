"""Extractions that fail: how, and what is done about it."""

import numpy as np
import pytest

from tests.extraction import (
    COLS,
    LEFT,
    ROWS,
    inside,
    statistics,
    texture,
)
from tests.factories import asset, sql, transformed
from tests.integration import extractions
from tests.integration.extractions import B04, FIELD, MAY, count, refused, retry

pytestmark = pytest.mark.postgis


@pytest.fixture
def world(db, tmp_path):
    return extractions.world(db, tmp_path)


class TestFailure:
    def test_a_truncated_file_fails_its_item_alone(self, world):
        (number,) = world.parcels([FIELD])
        good = world.scene({"B04": texture()}, reference="good")
        path = world.raster("bad", texture(300, 300), compress="none")
        whole = path.read_bytes()
        bad = world.scene({"B04": path}, reference="bad", obstime=MAY[3])
        path.write_bytes(whole[: len(whole) // 3])
        error = refused(world, B04)
        assert error.code == "extraction_incomplete"
        assert "bad.tif" in error.message
        assert "truncated" in error.message
        assert error.details["result"]["done"] == 1
        assert set(world.rows(scene=good)) == {number}
        assert world.rows(scene=bad) == {}
        # It stays failed, and said, until someone has repaired it and says so.
        assert refused(world, B04).code == "extraction_incomplete"
        assert count(world, "run") == 1
        path.write_bytes(whole)
        assert retry(world, code="raster_damaged").result == {"retried": 1}
        assert world.extract(B04).result["failed"] == 0
        assert set(world.rows(scene=bad)) == {number}

    def test_a_bad_band_fails_only_the_products_that_read_it(self, world):
        world.parcels([FIELD])
        path = world.folder / "gone.tif"
        world.scene({"B04": texture(), "B08": asset(path)})
        error = refused(world, B04, {**B04, "name": "q", "bands": ["B04", "B08"]})
        assert [(f["product"], f["code"]) for f in error.details["failed"]] == [
            ("q", "raster_missing")
        ]
        assert len(world.rows("p")) == 1
        assert world.rows("q") == {}

    def test_a_mask_that_cannot_be_made_fails_only_the_products_that_have_it(self, world):
        world.parcels([FIELD])
        degrees = {"crs": "EPSG:4326", "res": 1e-4}
        left, _, _, top = transformed(FIELD, "EPSG:32632").bounds
        place = {"left": round(left - 1e-3, 4), "top": round(top + 1e-3, 4), **degrees}
        classes = np.full((60, 80), 4, "uint8")
        bands = {"B04": texture(), "SCL": classes}
        world.scene({band: world.raster(band, array, **place) for band, array in bands.items()})
        masked = {**B04, "name": "q", "mask_classes": [8], "mask_dilation_m": 20}
        error = refused(world, B04, masked)
        assert [(f["product"], f["code"]) for f in error.details["failed"]] == [
            ("q", "dilation_in_degrees")
        ]
        assert len(world.rows("p")) == 1
        assert world.rows("q") == {}

    def test_a_scene_without_any_of_the_bands(self, world):
        world.parcels([FIELD])
        world.scene({"red": texture()})
        error = refused(world, B04)
        assert [f["code"] for f in error.details["failed"]] == ["no_bands"]
        assert "red" in error.message

    def test_a_raster_that_is_not_where_its_scene_is(self, world):
        (number,) = world.parcels([FIELD])
        moved = {"other zone": {"crs": "EPSG:32633"}, "other place": {"left": LEFT + 10 * COLS}}
        for day, (name, given) in enumerate(moved.items(), 4):
            paths = {"B08": world.raster(f"{day}_B08", texture())}
            paths["B04"] = world.raster(f"{day}_B04", texture(), **given)
            world.scene(paths, reference=name, obstime=MAY[day])
        error = refused(world, B04, {**B04, "name": "infrared", "bands": ["B08"]})
        assert [f["code"] for f in error.details["failed"]] == ["raster_misplaced"] * 2
        assert "EPSG:32633; expected a raster within (600000, 5299440, 600800," in error.message
        assert world.rows() == {}
        assert count(world, "run") == len(moved)
        for day in (4, 5):
            world.raster(f"{day}_B04", texture())
        retry(world)
        world.extract(B04)
        assert set(world.rows(scene=1)) == set(world.rows(scene=2)) == {number}

    def test_files_that_are_no_rasters_or_lie_on_no_lattice(self, world):
        world.parcels([FIELD])
        text = world.folder / "text.tif"
        text.write_text("nothing")
        good = world.raster("good", texture())
        world.scene({"B08": good, "B04": text}, reference="text")
        error = refused(world, B04)
        assert [f["code"] for f in error.details["failed"]] == ["not_a_raster"]

    def test_a_fault_of_the_software_is_kept_with_its_place(self, world, monkeypatch):
        from cbm_extract.engine import scene_reading

        def broken(*_):
            raise ZeroDivisionError("by nought")

        world.parcels([FIELD])
        world.scene({"B04": texture()}, reference="a")
        world.scene({"B04": texture()}, reference="b", obstime=MAY[4])
        monkeypatch.setattr(scene_reading, "tile_rank", broken)
        error = refused(world, B04)
        assert [f["code"] for f in error.details["failed"]] == ["internal_error"] * 2
        assert "by nought" in error.message
        assert "test_extract_failures.py" in error.message

    def test_more_than_a_fifth_negative_holds_the_scene(self, world):
        (number,) = world.parcels([FIELD])
        shifted = texture(low=200, high=1300)
        path = world.raster("shifted", shifted)
        scene = world.scene({"B04": asset(path, offset=-1000.0), "B08": texture()})
        done = world.extract(B04, {**B04, "name": "infrared", "bands": ["B08"]})
        assert done.result["held"] == 2
        assert "held" in done.text
        assert sql(world.settings, "SELECT state, state_reason FROM cbm.scene") == [
            ("held", "suspect_offset")
        ]
        assert count(world, "signature") == count(world, "run") == 0
        assert sql(world.settings, "SELECT DISTINCT state, error_code FROM cbm.work_item") == [
            ("pending", "suspect_offset")
        ]
        assert not world.extract(B04).changed
        # Catalogued anew with the right offset, it is extracted without further ado.
        sql(world.settings, "UPDATE cbm.scene SET state = 'active', assets = jsonb_set(assets,"
                            " '{B04,offset}', '0') WHERE id = %s", scene)  # fmt: skip
        world.extract(B04)
        pixels = shifted[inside(FIELD, path)]
        np.testing.assert_array_equal(world.rows()[number].stats["B04"], statistics(pixels))

    def test_a_product_without_the_red_band_is_checked_too(self, world):
        world.parcels([FIELD])
        path = world.raster("shifted", texture(low=200, high=1300))
        world.scene({"B04": asset(path, offset=-1000.0), "B08": texture()})
        done = world.extract({**B04, "bands": ["B08"]})
        assert (done.result["held"], done.result["rows"]) == (1, 0)

    def test_a_fifth_negative_is_tolerated_and_nodata_does_not_count(self, world):
        world.parcels([FIELD])
        data = np.full((ROWS, COLS), 1500, np.uint16)
        data[:12] = 900  # a fifth of all
        data[30:] = 0
        data[:6] = 1500  # a fifth of what is valid
        path = world.raster("dark", data, nodata=0)
        world.scene({"B04": asset(path, offset=-1000.0)})
        assert world.extract(B04).result["held"] == 0

    def test_a_purge_in_the_middle_leaves_nothing_behind(self, world, monkeypatch):
        from cbm_extract.store import signatures

        inner = signatures.ensure_partition

        def purged_first(*arguments):
            sql(world.settings, "SELECT cbm.purge_dataset(%s::smallint)", world.dataset)
            return inner(*arguments)

        world.parcels([FIELD])
        world.scene({"B04": texture()})
        monkeypatch.setattr(signatures, "ensure_partition", purged_first)
        world.extract(B04)
        assert count(world, "signature") == count(world, "run") == count(world, "work_item") == 0
