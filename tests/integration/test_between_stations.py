"""What one station leaves for the next: histories of parcels and scenes, as an operator makes them.

Parcels and scenes are files, imported and catalogued by the commands themselves.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
import yaml

from cbm_core.datasets.verbs import PURGE
from cbm_core.errors import CbmError
from cbm_core.settings import Settings
from cbm_core.verbs import Answer, Context
from cbm_extract.catalogue.verbs import ADD
from cbm_extract.engine.verbs import EXTRACT
from cbm_extract.ledger.verbs import RETRY
from cbm_extract.parcels.verbs import IMPORT
from tests.extraction import LEFT, TOP, texture
from tests.factories import add_dataset, sql, write_raster

pytestmark = pytest.mark.postgis

FIELD = shapely.box(LEFT + 100, TOP - 200, LEFT + 200, TOP - 100)
NEIGHBOUR = shapely.box(LEFT + 300, TOP - 200, LEFT + 400, TOP - 100)
B04 = {"name": "p", "card": "s2", "bands": ["B04"]}
PATTERN = (
    r"(?P<reference>(?P<platform>S2\w)_(?P<datatake>\d{8}T\d{6})_(?P<baseline>N\d{4})"
    r"_(?P<tile>T\w{5}))\.tif"
)


@dataclass
class Farm:
    """A dataset in a database, with a file of parcels and a folder of scenes."""

    settings: Settings
    folder: Path

    def run(self, verb, **arguments) -> Answer:
        return verb.run(verb.arguments.model_validate(arguments), Context(self.settings))

    def parcels(self, parcels: dict, **arguments) -> Answer:
        """Import id -> (geometry, crop code)."""
        file = self.folder / "parcels.gpkg"
        file.unlink(missing_ok=True)
        shapes, crops = zip(*parcels.values(), strict=True)
        pyogrio.raw.write(
            file,
            shapely.to_wkb(np.array(shapes)),
            [np.array(list(parcels)), np.array(crops, dtype=object)],
            ["pid", "crop"],
            geometry_type="Polygon",
            crs="EPSG:32632",
        )
        given = {"id": "column:pid", "crop_code": "crop", **arguments}
        return self.run(IMPORT, dataset="tt:2024", source=file, **given)

    def scene(self, day: str, baseline: str = "N0500", tile: str = "T32UPU", **given) -> str:
        name = f"S2A_{day}T103000_{baseline}_{tile}"
        data = given.pop("data", None)
        data = texture(seed=int(day) % 97) if data is None else data
        given = {"left": LEFT, "top": TOP, **given}
        (self.folder / "scenes").mkdir(exist_ok=True)
        write_raster(self.folder / "scenes" / f"{name}.tif", data, **given)
        return name

    def catalogue(self, check: bool = False, **band) -> Answer:
        described = {
            "card": "s2",
            "files": "*.tif",
            "pattern": PATTERN,
            "single_datastrip": True,
            "bands": {"B04": {"index": 1, "nodata": 0, **band}},
        }
        folder = self.folder / "scenes"
        (folder / "scenes.yml").write_text(yaml.safe_dump(described))
        return self.run(ADD, source=str(folder), check=check)

    def extract(self, **arguments) -> Answer:
        file = self.folder / "products.yml"
        file.write_text(yaml.safe_dump({"products": [B04 | arguments.pop("product", {})]}))
        return self.run(EXTRACT, dataset="tt:2024", product_file=file, **arguments)

    def sql(self, statement: str, *values) -> list[tuple]:
        return sql(self.settings, statement, *values)


@pytest.fixture
def farm(db, tmp_path) -> Farm:
    add_dataset(db)
    return Farm(db, tmp_path)


class TestParcelsInTime:
    def test_a_crop_that_changes_in_the_season_shows_each_date_once(self, farm):
        for day in ("20240501", "20240801"):
            farm.scene(day)
        farm.catalogue()
        farm.parcels({"a": (FIELD, "wheat")})
        farm.extract()
        farm.parcels({"a": (FIELD, "mustard")}, valid_from=date(2024, 7, 1))
        assert not farm.extract(check=True).changed
        assert farm.sql(
            "SELECT obstime::date::text, crop_code FROM cbm.signature_long ORDER BY 1, 2"
        ) == [("2024-05-01", "wheat"), ("2024-08-01", "mustard")]
        assert farm.sql(
            "SELECT obstime::date::text, code FROM cbm.parcel_coverage('tt', 2024, '', 'a')"
        ) == [("2024-05-01", "ok"), ("2024-08-01", "ok")]

    @pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
    def test_the_day_of_a_change_is_a_day_of_utc(self, farm, zone):
        farm.scene("20240630")
        farm.catalogue()
        # Just before midnight, UTC.
        farm.sql("UPDATE cbm.scene SET obstime = '2024-06-30 23:30Z'")
        farm.parcels({"a": (FIELD, "wheat")})
        farm.parcels({"a": (FIELD, "mustard")}, valid_from=date(2024, 7, 1))
        farm.extract()
        asked = f"SET TIME ZONE '{zone}'; SELECT "
        assert farm.sql(asked + "crop_code FROM cbm.signature_long") == [("wheat",)]
        assert farm.sql(asked + "code FROM cbm.parcel_coverage('tt', 2024, '', 'a')") == [("ok",)]


class TestScenesInTime:
    def shown(self, farm):
        return farm.sql("SELECT reference, mean::float FROM cbm.signature_long ORDER BY 1")

    def states(self, farm):
        return dict(farm.sql("SELECT reference, state FROM cbm.scene"))

    def test_a_newer_product_after_the_extraction(self, farm):
        old = farm.scene("20240501", "N0400", data=texture(seed=1))
        farm.catalogue()
        farm.parcels({"a": (FIELD, "wheat")})
        farm.extract()
        new = farm.scene("20240501", "N0510", data=texture(seed=2))
        farm.catalogue()
        assert self.shown(farm) == []
        assert farm.extract().result["rows"] == 1
        assert [name for name, _ in self.shown(farm)] == [new]
        assert farm.sql("SELECT count(*) FROM cbm.signature_all") == [(2,)]
        assert self.states(farm) == {old: "superseded", new: "active"}
        assert not farm.extract().changed

    def test_a_held_scene_is_released_by_cataloguing_it_aright(self, farm):
        name = farm.scene("20240501", data=texture(low=200, high=1300))
        farm.catalogue(offset=-1000)
        farm.parcels({"a": (FIELD, "wheat")})
        assert farm.extract().result["held"] == 1
        # Nothing is said anew: it stays held.
        assert not farm.catalogue(offset=-1000).changed
        assert self.states(farm) == {name: "held"}
        checked = farm.catalogue(offset=0, check=True)
        done = farm.catalogue(offset=0)
        assert done.plan == checked.plan == [f"change s2 {name}: assets", f"use s2 {name} again"]
        assert (checked.before, checked.after) == (done.before, done.after)
        assert farm.sql("SELECT state, state_reason FROM cbm.scene") == [("active", None)]
        assert farm.extract().result["done"] == 1
        assert len(self.shown(farm)) == 1
        assert not farm.catalogue(offset=0).changed

    def test_what_a_held_scene_had_superseded_serves_again(self, farm):
        old = farm.scene("20240501", "N0400", data=texture(low=1100, high=4000))
        farm.catalogue(offset=-1000)
        farm.parcels({"a": (FIELD, "wheat")})
        farm.extract()
        before = self.shown(farm)
        new = farm.scene("20240501", "N0510", data=texture(low=100, high=1100))
        assert farm.catalogue(offset=-1000).result["superseded"] == 1
        assert farm.extract().result["held"] == 1
        assert self.states(farm) == {old: "active", new: "held"}
        assert self.shown(farm) == before != []
        assert not farm.catalogue(offset=-1000).changed

    def test_other_numbers_of_extracted_scenes_are_pointed_out(self, farm):
        name = farm.scene("20240501", data=texture(low=1100, high=4000))
        farm.catalogue(offset=-1000)
        farm.parcels({"a": (FIELD, "wheat")})
        farm.extract()
        before = self.shown(farm)
        warned = [farm.catalogue(offset=0, check=check).result["warnings"] for check in (1, 0)]
        assert warned[0] == warned[1]
        assert name in warned[0][0]
        assert "stay as they are" in warned[0][0]
        # Evidence is not overwritten; the run tells which offset was used.
        assert not farm.extract().changed
        assert self.shown(farm) == before
        assert farm.sql("SELECT (assets #>> '{B04,offset}')::float FROM cbm.run") == [(-1000.0,)]
        # Files that only moved say nothing new.
        moved = (farm.folder / "scenes").rename(farm.folder / "moved")
        again = farm.run(ADD, source=str(moved))
        assert (again.result["changed"], again.result["warnings"]) == (1, [])


def test_the_planner_knows_what_was_stored(farm):
    for day in ("20240501", "20240601"):
        farm.scene(day)
    farm.catalogue()
    farm.parcels({"a": (FIELD, "wheat"), "b": (NEIGHBOUR, "maize")})
    farm.extract(start=date(2024, 6, 1))
    known = """SELECT relname, reltuples::integer FROM pg_class
               WHERE relispartition AND relkind = 'r' ORDER BY 1"""
    assert farm.sql(known) == [("signature_d1_202406", 2)]
    farm.parcels({"a": (FIELD, "wheat"), "b": (FIELD.buffer(5), "maize")})
    farm.extract()
    assert farm.sql(known) == [("signature_d1_202405", 2), ("signature_d1_202406", 3)]
    farm.run(PURGE, aoi="tt", year=2024, confirm="tt:2024")
    farm.sql("SELECT cbm.analyze_signature_partition(1::smallint, '2024-06-01')")
    assert farm.sql(known) == []


class TestTilesInTime:
    """Two tiles of a datatake overlap by 200 m; the parcel lies in both, at home in T32UPU."""

    def neighbour(self, farm, **given):
        data = texture(seed=5, low=2000)
        return farm.scene("20240501", tile="T32UQU", left=LEFT, top=TOP + 100, data=data, **given)

    def shown(self, farm):
        return farm.sql("SELECT pid, tile FROM cbm.signature_long ORDER BY 1, 2")

    def test_home_that_comes_late_takes_over(self, farm):
        farm.parcels({"a": (FIELD, "wheat")})
        self.neighbour(farm)
        farm.catalogue()
        farm.extract()
        assert self.shown(farm) == [("a", "32UQU")]
        farm.scene("20240501")
        farm.catalogue()
        assert farm.extract().result["rows"] == 1
        assert self.shown(farm) == [("a", "32UPU")]
        assert farm.sql("SELECT count(*) FROM cbm.signature_all") == [(2,)]


class TestFailures:
    def test_what_is_stored_stays_ok_while_a_delta_is_open_or_failed(self, farm):
        name = farm.scene("20240501")
        farm.catalogue()
        farm.parcels({"a": (FIELD, "wheat")})
        farm.extract()
        farm.parcels({"a": (FIELD, "wheat"), "b": (NEIGHBOUR, "maize")})
        codes = """SELECT p, (SELECT code FROM cbm.parcel_coverage('tt', 2024, '', p))
                   FROM unnest(ARRAY['a', 'b']) p"""
        assert farm.sql(codes) == [("a", "ok"), ("b", "not_yet")]
        raster = farm.folder / "scenes" / f"{name}.tif"
        away = raster.rename(farm.folder / "away.tif")
        with pytest.raises(CbmError, match="does not exist"):
            farm.extract()
        assert farm.sql(codes) == [("a", "ok"), ("b", "failed")]
        # A check says that the run would fail, and of a retry what it would do, not what it did.
        checked = farm.extract(check=True)
        assert (checked.changed, checked.result["failed"]) == (False, 1)
        assert "ledger retry tt:2024" in checked.text
        assert farm.run(RETRY, dataset="tt:2024", check=True).text == ""
        away.rename(raster)
        farm.run(RETRY, dataset="tt:2024")
        assert farm.sql(codes) == [("a", "ok"), ("b", "not_yet")]
        farm.extract()
        assert farm.sql(codes) == [("a", "ok"), ("b", "ok")]
