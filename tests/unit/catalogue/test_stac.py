"""Static STAC: real items of several publishers, and catalogues made to be awkward."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import shapely

from cbm_extract.catalogue import stac
from cbm_extract.catalogue.documents import Rewrites
from cbm_extract.read.strips import open_band
from tests.unit.catalogue.stac_files import COGS, NAME, asset, item, only, put, refusal

# Real items.


def sample(data_dir: Path, relative: str) -> Path:
    path = data_dir / relative
    if not path.exists():
        pytest.skip(f"no {path}")
    return path


def test_earth_search_item_with_a_local_mirror(data_dir):
    root = sample(data_dir, "s2/sentinel_cogs")
    path = next(root.rglob("S2A_29RKH_20200219_0_L2A.json"))
    scene = only(str(path), f"{COGS}={root}/")
    assert scene.reference == ("S2A_MSIL2A_20200219T112111_N0214_R037_T29RKH_20200219T123947.SAFE")
    assert (scene.platform, scene.tile, scene.baseline) == ("S2A", "29RKH", "N0214")
    assert scene.relative_orbit == 37
    assert scene.datatake_start == datetime(2020, 2, 19, 11, 21, 11, tzinfo=UTC)
    assert scene.datastrip == datetime(2020, 2, 19, 11, 31, 5, tzinfo=UTC)
    assert scene.obstime == datetime(2020, 2, 19, 11, 34, 25, 405000, tzinfo=UTC)
    assert scene.generation_time == datetime(2020, 2, 19, 12, 39, 47, tzinfo=UTC)
    assert scene.cloud_percent == 4.051854
    assert scene.extent.crs == "EPSG:32629"
    assert scene.extent.bounds == (199980, 2690220, 309780, 2800020)
    assert len(scene.assets) == 13
    assert all(a.href.startswith(str(root)) for a in scene.assets.values())
    # JP2 copies of the same bands are not taken.
    assert all(a.href.endswith(".tif") for a in scene.assets.values())
    with open_band(scene.assets["B8A"]) as band:
        # The mirror has the whole tile at reduced size.
        assert band.header.extent == scene.extent
        assert band.nodata == (0.0, 65535.0)


def test_earth_search_item_without_the_mirror_stays_remote(data_dir):
    root = sample(data_dir, "s2/sentinel_cogs")
    scene = only(str(next(root.rglob("S2A_31NBJ_20190524_0_L2A.json"))))
    assert (scene.platform, scene.tile, scene.baseline) == ("S2A", "31NBJ", "N0212")
    assert scene.assets["B04"].href.startswith(COGS)
    assert scene.assets["B04"].offset_source == "collection_rule"
    assert scene.datastrip is None


def test_recursive_catalogue(data_dir):
    address = sample(data_dir, "s2/openeo_recursive_stac/recursive-stac-example/collection.json")
    reading = stac.read(str(address))
    assert [scene.reference[7:17] for scene in reading.scenes] == [
        "2023-06-01",
        "2023-06-04",
        "2023-06-06",
    ]
    for scene in reading.scenes:
        assert {band: a.index for band, a in scene.assets.items()} == {"B04": 1, "B03": 2, "B02": 3}
        # The items do not say their extent; the header does.
        assert scene.extent.bounds == (644550, 5675770, 645280, 5676350)
        with open_band(scene.assets["B02"]) as band:
            assert band.header.count == 3
    assert any("no platform" in text for text in reading.warnings)
    assert any("no scale for B02, B03, B04" in text for text in reading.warnings)


def test_nested_catalogue_of_two_levels(data_dir):
    address = sample(data_dir, "catalogue/stactools_sentinel2/examples/catalog.json")
    mirror = f"{address.parents[1]}/tests/=https://example.org/"
    reading = stac.read(str(address), Rewrites.parse([mirror]))
    assert [scene.tile for scene in reading.scenes] == ["07HFE"]
    assert [skipped.error.code for skipped in reading.skipped] == ["item_unsupported"]
    scene = reading.scenes[0]
    assert scene.extent.crs == "EPSG:32707"
    assert scene.assets["B04"].href.endswith("R10m/T07HFE_20190212T192651_B04_10m.tif")
    assert scene.assets["B11"].href.endswith("_B11_20m.tif")
    assert scene.assets["B01"].href.endswith("_B01_60m.tif")
    assert scene.assets["B04"].offset_source == "raster_bands"


def test_the_same_product_from_stac_and_safe_is_the_same_acquisition(data_dir):
    from cbm_extract.catalogue.identity import acquisition

    files = sample(data_dir, "catalogue/stactools_sentinel2/tests/data-files")
    folder = files / f"{NAME}.SAFE"
    scene = only(str(folder / "expected_output.json"), f"{files}/=https://example.org/")
    key = acquisition(scene)
    assert (key.platform, key.tile) == ("S2B", "33XWJ")
    assert key.datatake_start == datetime(2022, 4, 13, 15, 7, 59, tzinfo=UTC)
    assert scene.reference == f"{NAME}.SAFE"
    assert scene.datastrip == datetime(2022, 4, 13, 15, 7, 56, tzinfo=UTC)
    assert scene.assets["B04"].offset == -1000


# Publishers' habits.


def test_planetary_computer(tmp_path):
    scene = only(put(tmp_path / "i.json", item()))
    assert (scene.assets["B04"].offset, scene.assets["B04"].offset_source) == (
        -1000,
        "collection_rule",
    )
    assert scene.assets["B04"].nodata == (0.0, 65535.0)
    assert scene.extent.bounds == (500000, 5190000, 520000, 5200000)
    assert (scene.tile, scene.relative_orbit) == ("33XWJ", 25)


def test_copernicus_data_space_names_and_resolutions(tmp_path):
    def jp2(band: str, metres: int) -> dict[str, Any]:
        return {
            "href": f"s3://eodata/x_{band}_{metres}m.jp2",
            "type": "image/jp2",
            "roles": ["data", "reflectance"],
            "nodata": 0,
            "proj:code": "EPSG:32633",
            "proj:transform": [metres, 0, 499980, 0, -metres, 8900040, 0, 0, 1],
            "proj:shape": [10980 * 10 // metres] * 2,
            "bands": [{"name": band, "eo:common_name": "x"}],
            "raster:scale": 0.0001,
            "raster:offset": -0.1,
        }

    assets = {f"{b}_{m}m": jp2(b, m) for b in ("B04", "SCL", "B8A") for m in (60, 20)}
    assets |= {"B04_10m": jp2("B04", 10), "TCI_10m": jp2("TCI", 10)}
    properties = {
        "datetime": "2022-04-13T15:07:59.024Z",
        "platform": "sentinel-2b",
        "processing:version": "05.11",
        "processing:datetime": "2022-04-14T08:21:26Z",
        "grid:code": "MGRS-33XWJ",
        "eopf:datatake_id": "GS2B_20220413T150759_026649_N05.11",
        "eopf:datastrip_id": "S2B_OPER_MSI_L2A_DS_ESRI_20220414T082127_S20220413T150756_N05.11",
        "sat:orbit_state": "ascending",
    }
    document = item(f"{NAME.replace('N0400', 'N0511')}", assets=assets, properties=properties)
    scene = only(put(tmp_path / "i.json", document))
    assert {b: a.href[-11:] for b, a in scene.assets.items()} == {
        "B04": "B04_10m.jp2",
        "B8A": "B8A_20m.jp2",
        "SCL": "SCL_20m.jp2",
    }
    assert scene.baseline == "N0511"
    assert scene.datastrip == datetime(2022, 4, 13, 15, 7, 56, tzinfo=UTC)
    assert scene.extent.bounds == (499980, 8790240, 609780, 8900040)
    # Without the rule for this collection the item's own statement gives the same.
    own = only(put(tmp_path / "own.json", {**document, "collection": "own"}))
    assert own.assets["B04"].offset_source == "raster_bands"
    assert own.assets["B04"].offset == pytest.approx(scene.assets["B04"].offset) == -1000
    assert own.assets["B04"].nodata == (0.0,)


def test_common_names_and_pictures(tmp_path):
    pictured = [{"name": "red"}, {"name": "green"}, {"name": "blue"}]
    assets = {
        "red": asset("https://h/r.tif"),
        "red-jp2": asset("https://h/r.jp2", type="image/jp2"),
        "rededge2": asset("https://h/e.tif"),
        "nir08": asset("https://h/n.tif"),
        "visual": asset("https://h/v.tif", **{"eo:bands": pictured}),
        "natural": asset("https://h/c.tif", roles=["visual"], **{"eo:bands": pictured}),
        "product": asset("https://h/p.zip", type="application/zip"),
        "band-x": asset("https://h/x.tif", **{"eo:bands": [{"name": "B12"}]}),
    }
    scene = only(put(tmp_path / "i.json", item(assets=assets)))
    assert {band: a.href for band, a in scene.assets.items()} == {
        "B04": "https://h/r.tif",
        "B06": "https://h/e.tif",
        "B8A": "https://h/n.tif",
        "B12": "https://h/x.tif",
    }


# What is refused.


def properties(**changes: Any) -> dict[str, Any]:
    return {**item()["properties"], **changes}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"assets": {}}, "scene_without_images"),
        ({"assets": {"data": asset()}}, "scene_without_images"),
        ({"properties": None}, "item_invalid"),
        ({"properties": properties(datetime=None)}, "item_invalid"),
        (
            {"properties": {**item()["properties"], "datetime": "2022-04-13T15:07"}},
            "time_without_zone",
        ),
        ({"properties": {**item()["properties"], "eo:cloud_cover": "much"}}, "item_invalid"),
        ({"properties": {**item()["properties"], "processing:level": "L1C"}}, "item_unsupported"),
        ({"id": NAME.replace("L2A", "L1C")}, "item_unsupported"),
        ({"id": None}, "item_invalid"),
        ({"geometry": {"type": "Point", "coordinates": [1, 2]}}, "footprint_invalid"),
        ({"assets": {"B04": asset(nodata="none")}}, "nodata_invalid"),
    ],
)
def test_unusable_items(tmp_path, changes, code):
    assert refusal(put(tmp_path / "i.json", item(**changes))).code == code


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"links": []}', '{"type": "FeatureCollection"}'])
def test_not_stac(tmp_path, body):
    (tmp_path / "c.json").write_text(body)
    assert refusal(str(tmp_path / "c.json")).code == "stac_invalid"


def test_no_geometry_and_no_identity(tmp_path):
    properties = {"datetime": None, "start_datetime": "2022-04-13T15:07:59Z", "proj:epsg": 32719}
    document = item("mine", geometry=None, properties=properties, collection="own")
    reading = stac.read(put(tmp_path / "i.json", document))
    scene = reading.scenes[0]
    assert scene.extent.crs == "EPSG:32719"
    assert shapely.from_wkb(scene.footprint).bounds[1] < -40
    assert (scene.reference, scene.platform, scene.tile) == ("mine", "unknown", "")
    assert scene.obstime == scene.datatake_start
    assert len(reading.warnings) == 4


def test_antimeridian(tmp_path):
    ring = [[179, 60], [-179, 60], [-179, 61], [179, 61], [179, 60]]
    document = item(geometry={"type": "Polygon", "coordinates": [ring]})
    scene = only(put(tmp_path / "i.json", document))
    assert shapely.from_wkb(scene.footprint).area == pytest.approx(2)
