"""SAFE folders: real metadata of four baselines, with small band files put beside it."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import shapely

from cbm_core.errors import CbmError
from cbm_extract.catalogue import offsets, safe
from cbm_extract.read.header import inspect
from tests.unit.read.rasters import texture, write

FILES = "catalogue/stactools_sentinel2/tests/data-files"
OLD = "S2A_MSIL2A_20190212T192651_N0212_R013_T07HFE_20201007T160857.SAFE"
SOUTH = "esa_S2B_MSIL2A_20210122T133229_N0214_R081_T22HBD_20210122T155500.SAFE"
NORTH = "S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126.SAFE"
DATELINE = "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCS_20230626T022157.SAFE"
BANDS = {"B02": 10, "B04": 10, "B05": 20, "SCL": 20}


@pytest.fixture
def product(data_dir: Path, tmp_path: Path):
    """Copy a product's metadata and write the named bands where the metadata says they are."""

    def make(name: str, bands: dict[str, int] = BANDS, folder: str = "") -> Path:
        source = data_dir / FILES / name
        if not source.is_dir():
            pytest.skip(f"no {source}")
        target = tmp_path / folder / name
        shutil.copytree(source, target)
        text = (target / "MTD_MSIL2A.xml").read_text()
        for band, resolution in bands.items():
            suffix = f"_{band}_{resolution}m</IMAGE_FILE>"
            line = next(line for line in text.splitlines() if line.endswith(suffix))
            relative = line.split(">")[1].split("<")[0] + ".jp2"
            write(target / relative, texture(16, 16), driver="JP2OpenJPEG", nodata=None)
        return target

    return make


def code_of(call) -> str:
    with pytest.raises(CbmError) as caught:
        call()
    return caught.value.code


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("name", [OLD, SOUTH, NORTH, DATELINE])
def test_what_is_read_equals_what_another_program_reads(product, name):
    """stactools-sentinel2's own item of the same product is the reference."""
    folder = product(name)
    scene, _ = safe.read_product(folder)
    item = json.loads((folder / "expected_output.json").read_text())
    said = item["properties"]
    assert scene.reference == said["s2:product_uri"]
    assert scene.tile == said["grid:code"].removeprefix("MGRS-")
    assert scene.cloud_percent == said["eo:cloud_cover"]
    assert scene.relative_orbit == said["sat:relative_orbit"]
    assert scene.orbit_direction == said["sat:orbit_state"]
    assert scene.baseline == "N" + said["s2:processing_baseline"].replace(".", "")
    assert scene.generation_time == datetime.fromisoformat(said["s2:generation_time"])
    assert scene.datatake_start == datetime.fromisoformat(said["datetime"]).replace(microsecond=0)
    assert f"_S{scene.datastrip:%Y%m%dT%H%M%S}_" in said["s2:datastrip_id"]
    assert scene.extent.crs == said["proj:code"]
    red = item["assets"]["red"]
    assert list(scene.extent.bounds) == red["proj:bbox"]
    declared = red["raster:bands"][0]
    asset = scene.assets["B04"]
    expected = offsets.from_raster_bands("s2", declared)
    assert (asset.scale, asset.offset) == pytest.approx((expected.scale, expected.offset))
    footprint = shapely.from_wkb(scene.footprint)
    theirs = shapely.geometry.shape(item["geometry"])
    if footprint.bounds[0] > -180:
        assert footprint.bounds == pytest.approx(theirs.bounds, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "offset"), [(OLD, 0.0), (SOUTH, 0.0), (NORTH, -1000.0), (DATELINE, -1000.0)]
)
def test_offset_comes_from_the_xml(product, name, offset):
    scene, _ = safe.read_product(product(name))
    asset = scene.assets["B04"]
    assert (asset.scale, asset.offset, asset.offset_source) == (1.0, offset, "product_xml")
    assert asset.nodata == (0.0, 65535.0)
    classes = scene.assets["SCL"]
    assert (classes.scale, classes.offset, classes.nodata) == (1.0, 0.0, ())


def test_offsets_are_per_band(product):
    folder = product(NORTH)
    edit(folder / "MTD_MSIL2A.xml", 'band_id="4">-1000', 'band_id="4">-500')
    edit(
        folder / "MTD_MSIL2A.xml",
        '<BOA_QUANTIFICATION_VALUE unit="none">10000',
        '<BOA_QUANTIFICATION_VALUE unit="none">20000',
    )
    scene, _ = safe.read_product(folder)
    assert (scene.assets["B04"].scale, scene.assets["B04"].offset) == (0.5, -500.0)
    assert (scene.assets["B05"].scale, scene.assets["B05"].offset) == (0.5, -250.0)


def test_times_and_datastrip(product):
    scene, _ = safe.read_product(product(NORTH))
    assert scene.platform == "S2B"
    assert scene.obstime == datetime(2022, 4, 13, 15, 8, 7, 846358, tzinfo=UTC)
    assert scene.datatake_start == datetime(2022, 4, 13, 15, 7, 59, tzinfo=UTC)
    assert scene.datastrip == datetime(2022, 4, 13, 15, 7, 56, tzinfo=UTC)


def test_the_dateline_product_is_split_there(product):
    scene, _ = safe.read_product(product(DATELINE))
    parts = shapely.from_wkb(scene.footprint)
    assert len(parts.geoms) == 2
    assert parts.area < 5
    # ESA's own ring has points on either side, such as (180, 69.2707) and (-179.297, 69.3945).
    assert parts.buffer(1e-9).covers(shapely.Point(-179.297, 69.39446086298774))


def test_native_resolution_and_absent_bands(product):
    folder = product(NORTH, {**BANDS, "B03": 20})
    scene, warnings = safe.read_product(folder)
    assert set(scene.assets) == {"B02", "B04", "B05", "SCL"}
    assert scene.assets["B04"].href.endswith("_B04_10m.jp2")
    assert inspect(scene.assets["B04"].href).width == 16
    assert len(warnings) == 13 - 4
    assert any(text.startswith("B03 at 10 m is named") for text in warnings)


def test_layout_without_resolution_folders(product):
    folder = product(NORTH)
    images = next(folder.glob("GRANULE/*/IMG_DATA"))
    for path in list(images.rglob("*.jp2")):
        path.rename(images / path.name)
    assert set(safe.read_product(folder)[0].assets) == {"B02", "B04", "B05", "SCL"}


def test_granule_folder_that_was_moved_up(product):
    folder = product(DATELINE)
    for path in folder.glob("GRANULE/*/MTD_TL.xml"):
        path.unlink()
    assert safe.read_product(folder)[0].extent.crs == "EPSG:32601"


def test_a_path_in_the_metadata_cannot_lead_out(product, tmp_path):
    outside = write(tmp_path / "x_B08_10m.jp2", texture(8, 8), driver="JP2OpenJPEG")
    folder = product(NORTH)
    line = "GRANULE/L2A_T33XWJ_A026649_20220413T150756/IMG_DATA/R10m/T33XWJ_20220413T150759_B08_10m"
    edit(folder / "MTD_MSIL2A.xml", line, f"../{outside.stem}")
    assert "B08" not in safe.read_product(folder)[0].assets


def test_no_images_at_all(product):
    assert code_of(lambda: safe.read(product(NORTH, {}))) == "scene_without_images"


def test_several_products_one_broken(product, tmp_path):
    for name in (OLD, NORTH):
        product(name, folder="2022/04")
    broken = product(SOUTH, folder="2022/04")
    (broken / "MTD_MSIL2A.xml").write_text("<a>")
    reading = safe.read(tmp_path)
    assert len(reading.scenes) == 2
    assert [(s.name, s.error.code) for s in reading.skipped] == [(SOUTH, "xml_invalid")]
    for name in (OLD, NORTH):
        (tmp_path / "2022" / "04" / name / "MTD_MSIL2A.xml").write_text("<a>")
    with pytest.raises(CbmError) as caught:
        safe.read(tmp_path)
    assert caught.value.code == "no_scenes"
    assert len(caught.value.details["skipped"]) == 3


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("<PROCESSING_LEVEL>Level-2A", "<PROCESSING_LEVEL>Level-1C", "safe_unsupported"),
        ('unit="none">10000<', 'unit="none">many<', "xml_invalid"),
        ("<PROCESSING_BASELINE>04.00</PROCESSING_BASELINE>", "", "xml_invalid"),
        ("BOA_ADD_OFFSET band", "NO_OFFSET band", "xml_invalid"),
        ("<EXT_POS_LIST>80.", "<EXT_POS_LIST>8x.", "xml_invalid"),
        ("2022-04-13T15:07:59.024Z</DATATAKE", "soon</DATATAKE", "time_invalid"),
    ],
)
def test_unusable_metadata(product, old, new, code):
    folder = product(NORTH)
    path = folder / "MTD_MSIL2A.xml"
    text = path.read_text().replace(old, new).replace("/NO_OFFSET", "/BOA_ADD_OFFSET")
    if "NO_OFFSET" in text:
        text = text.replace("</BOA_ADD_OFFSET>", "</NO_OFFSET>")
    path.write_text(text)
    assert code_of(lambda: safe.read(folder)) == code


def test_entities_are_refused(product):
    folder = product(NORTH)
    path = folder / "MTD_MSIL2A.xml"
    text = path.read_text()
    head, _, rest = text.partition("?>")
    path.write_text(f'{head}?><!DOCTYPE x [<!ENTITY a "b">]>{rest}')
    with pytest.raises(CbmError) as caught:
        safe.read(folder)
    assert caught.value.code == "xml_invalid"
    assert "document type" in caught.value.message


def test_two_granules(product):
    folder = product(NORTH)
    other = folder / "GRANULE" / "another"
    other.mkdir()
    (other / "MTD_TL.xml").write_text("<a/>")
    assert code_of(lambda: safe.read(folder)) == "safe_unsupported"


def test_not_a_product(data_dir, tmp_path):
    assert code_of(lambda: safe.read(tmp_path)) == "no_products"
    # AWS's layout of a tile: metadata.xml and tileInfo.json, no product metadata.
    aws = data_dir / FILES / "S2A_OPER_MSI_L2A_TL_2APS_20240108T121951_A044635_T34VEL"
    assert code_of(lambda: safe.read(aws)) == "no_products"
