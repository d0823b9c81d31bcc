"""Described folders: one file per scene, one per band, and every way to get it wrong."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml

from cbm_core.errors import CbmError
from cbm_extract.catalogue import description as descriptions
from cbm_extract.catalogue import folder
from cbm_extract.catalogue.description import Description
from cbm_extract.catalogue.identity import acquisition, candidate, resolve
from cbm_extract.read.strips import open_band
from tests.unit.read.rasters import texture, write

SWISS = Path(__file__).parents[2] / "data" / "swiss_wheat_scenes.yml"
NAME = r"(?P<reference>(?P<platform>S2\w)_(?P<datatake>\d{8}T\d{6})_(?P<tile>T\w{5}))"
ONE_FILE = {
    "card": "s2",
    "files": "**/*.tif",
    "pattern": NAME + r"\.tif",
    "bands": {"B04": {"index": 1, "scale": 10000, "nodata": 0}, "SCL": {"index": 2}},
}
PER_BAND = {
    "card": "s2",
    "files": "**/*.*",
    "pattern": NAME + r"/(?P<band>\w+)\.(tif|img)",
    "bands": {"B04": {"token": "red", "offset": -1000}, "B05": {}},
}
SCENE = "S2A_20220620T102041_T32TMT"


def read(path: Path, document: dict) -> folder.Reading:
    return folder.read(path, Description.model_validate(document))


def refusal(path: Path, document: dict) -> CbmError:
    with pytest.raises(CbmError) as caught:
        read(path, document)
    return caught.value


def two_bands() -> np.ndarray:
    return np.stack([texture(20, 30), texture(20, 30) % 12])


def test_one_file_per_scene(tmp_path):
    path = write(tmp_path / f"{SCENE}.tif", two_bands())
    scene = read(tmp_path, ONE_FILE).scenes[0]
    assert (scene.reference, scene.platform, scene.tile) == (SCENE, "S2A", "32TMT")
    assert scene.obstime == scene.datatake_start == datetime(2022, 6, 20, 10, 20, 41, tzinfo=UTC)
    assert scene.extent.crs == "EPSG:32632"
    red = scene.assets["B04"]
    assert (red.href, red.index, red.scale, red.offset) == (str(path), 1, 10000.0, 0.0)
    assert (red.nodata, red.offset_source) == ((0.0,), "declared")
    assert scene.assets["SCL"].offset_source == "none"
    assert scene.datastrip is None


def test_one_file_per_band_takes_the_finest_grid(tmp_path):
    write(tmp_path / SCENE / "red.tif", texture(20, 30))
    coarse = rasterio.Affine(20, 0, 500_000, 0, -20, 5_200_010)
    write(tmp_path / SCENE / "B05.img", texture(11, 15), driver="ENVI", transform=coarse)
    write(tmp_path / SCENE / "AOT.tif", texture(5, 5))
    (tmp_path / "README.md").write_text("about these files")
    reading = read(tmp_path, PER_BAND)
    scene = reading.scenes[0]
    assert set(scene.assets) == {"B04", "B05"}
    assert scene.assets["B04"].offset == -1000
    assert scene.extent.bounds == (500_000, 5_199_800, 500_300, 5_200_000)
    # ENVI's header is no raster, and is reported among the strangers like the README.
    assert any("do not match" in text and "README.md" in text for text in reading.warnings)
    assert any("1 bands are not described" in text and "AOT" in text for text in reading.warnings)


def test_a_band_missing_from_one_scene(tmp_path):
    write(tmp_path / SCENE / "red.tif", texture(20, 30))
    other = SCENE.replace("20220620", "20220625")
    write(tmp_path / other / "red.tif", texture(20, 30))
    write(tmp_path / other / "B05.tif", texture(10, 15))
    scenes = read(tmp_path, PER_BAND).scenes
    assert [set(scene.assets) for scene in scenes] == [{"B04"}, {"B04", "B05"}]


def test_everything_a_name_can_say(tmp_path):
    document = {
        **ONE_FILE,
        "card": "bs",
        "pattern": r"(?P<part>\w+)/(?P<reference>(?P<sensing>\d+T\d+\+\d+)_(?P<orbit>\d+)"
        r"_(?P<orbit_direction>[AD])_(?P<cloud>[\d.]+)_(?P<datastrip>\d+T\d+))\.tif",
        "constants": {"platform": "Sentinel-1A", "baseline": "03.71", "tile": "slice 4"},
        "times": {"sensing": "%Y%m%dT%H%M%S%z"},
        "bands": {"VV": {}},
    }
    name = "20220620T122041+0200_44_A_12.5_20220620T101959"
    write(tmp_path / "west" / f"{name}.tif", texture(20, 30, "float32"))
    scene = read(tmp_path, document).scenes[0]
    assert (scene.card, scene.platform, scene.part) == ("bs", "S1A", "west")
    assert (scene.relative_orbit, scene.orbit_direction) == (44, "ascending")
    assert (scene.baseline, scene.tile, scene.cloud_percent) == ("N0371", "slice 4", 12.5)
    assert scene.obstime == scene.datatake_start == datetime(2022, 6, 20, 10, 20, 41, tzinfo=UTC)
    assert scene.datastrip == datetime(2022, 6, 20, 10, 19, 59, tzinfo=UTC)


def test_a_damaged_file_leaves_its_scene_out(tmp_path):
    write(tmp_path / f"{SCENE}.tif", two_bands())
    broken = tmp_path / f"{SCENE.replace('20220620', '20220625')}.tif"
    broken.write_bytes(b"nothing")
    reading = read(tmp_path, ONE_FILE)
    assert [scene.reference for scene in reading.scenes] == [SCENE]
    assert [skipped.error.code for skipped in reading.skipped] == ["not_a_raster"]
    (tmp_path / f"{SCENE}.tif").unlink()
    assert refusal(tmp_path, ONE_FILE).code == "not_a_raster"


def test_an_index_that_the_file_does_not_have(tmp_path):
    write(tmp_path / f"{SCENE}.tif", texture(20, 30))
    assert refusal(tmp_path, ONE_FILE).code == "band_missing"


def test_a_band_that_the_file_calls_otherwise(tmp_path):
    path = write(tmp_path / f"{SCENE}.tif", two_bands())
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("SCL", "B04")
    error = refusal(tmp_path, ONE_FILE)
    assert error.code == "band_mismatch"
    assert "Band 1" in error.message


def test_two_files_of_one_scene(tmp_path):
    document = {**ONE_FILE, "pattern": rf"\w+/{NAME}\.tif"}
    for place in ("a", "b"):
        write(tmp_path / place / f"{SCENE}.tif", two_bands())
    assert refusal(tmp_path, document).code == "scene_ambiguous"
    parted = {**document, "pattern": rf"(?P<part>\w+)/{NAME}\.tif"}
    assert [scene.part for scene in read(tmp_path, parted).scenes] == ["a", "b"]


def test_bands_that_contradict_each_other(tmp_path):
    document = {**PER_BAND, "pattern": NAME + r"_(?P<cloud>\d+)_(?P<band>\w+)\.tif"}
    write(tmp_path / f"{SCENE}_10_red.tif", texture(20, 30))
    write(tmp_path / f"{SCENE}_20_B05.tif", texture(20, 30))
    error = refusal(tmp_path, document)
    assert error.code == "scene_ambiguous"
    assert "cloud" in error.message


def test_bands_in_two_zones(tmp_path):
    write(tmp_path / SCENE / "red.tif", texture(20, 30))
    write(tmp_path / SCENE / "B05.tif", texture(20, 30), crs="EPSG:32633")
    assert refusal(tmp_path, PER_BAND).code == "scene_mixed_crs"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"files": "*.jp2"}, "no_files"),
        ({"pattern": "x" + NAME}, "no_match"),
        ({"times": {"datatake": "%Y-%m-%d"}}, "time_invalid"),
        ({"constants": {"cloud": "many"}}, "cloud_invalid"),
        ({"constants": {"cloud": "101"}}, "cloud_invalid"),
        ({"constants": {"orbit_direction": "up"}}, "orbit_direction_invalid"),
    ],
)
def test_folders_that_cannot_be_read(tmp_path, changes, code):
    write(tmp_path / f"{SCENE}.tif", two_bands())
    assert refusal(tmp_path, {**ONE_FILE, **changes}).code == code


def test_no_folder(tmp_path):
    assert refusal(tmp_path / "none", ONE_FILE).code == "source_missing"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": r"(?P<colour>\w+)"}, "unknown group colour"),
        ({"pattern": r"(?P<datatake>\w+)", "constants": {"platform": "S2A"}}, "`reference`"),
        ({"pattern": r"(?P<reference>\w+)", "constants": {"platform": "S2A"}}, "`datatake`"),
        ({"pattern": r"(?P<reference>(?P<datatake>\w+))"}, "`platform`"),
        ({"constants": {"platform": "S2A"}}, "both in pattern and constants: platform"),
        ({"constants": {"colour": "red"}}, "unknown constant colour"),
        ({"times": {"tile": "%Y"}}, "times has tile"),
        ({"files": "../*.tif"}, "inside the folder"),
        ({"files": "/data/*.tif"}, "inside the folder"),
        ({"bands": {}}, "bands"),
        ({"bands": {"B04": {"index": 0}}}, "bands.B04.index"),
        ({"bands": {"B04": {"colour": 1}}}, "bands.B04.colour"),
        ({"bands": {"B04": {"token": "red"}}}, "`token`"),
        ({"card": "S2!"}, "card"),
        (
            {"constants": {"datastrip": "20220620T102041"}, "single_datastrip": True},
            "single_datastrip contradicts",
        ),
    ],
)
def test_wrong_descriptions(tmp_path, changes, said):
    path = tmp_path / "scenes.yml"
    path.write_text(yaml.safe_dump({**ONE_FILE, **changes}))
    with pytest.raises(CbmError) as caught:
        descriptions.load(path)
    assert caught.value.code == "description_invalid"
    assert said in caught.value.message


@pytest.mark.parametrize("text", ["[1, 2", "- a list", "", "!!python/object:os.system {}"])
def test_no_description_at_all(tmp_path, text):
    path = tmp_path / "scenes.yml"
    path.write_text(text)
    with pytest.raises(CbmError) as caught:
        descriptions.load(path)
    assert caught.value.code == "description_invalid"
    with pytest.raises(CbmError) as caught:
        descriptions.load(tmp_path / "none.yml")
    assert caught.value.code == "description_missing"


def test_nan_in_a_description_is_redundant():
    band = descriptions.BandDescription.model_validate({"nodata": [float("nan"), -9999]})
    assert band.nodata == (-9999.0,)


@pytest.fixture(scope="module")
def swiss(data_dir) -> folder.Reading:
    stacks = data_dir / "s2" / "swiss_wheat" / "stacks"
    if not stacks.is_dir():
        pytest.skip(f"no {stacks}")
    return folder.read(stacks, descriptions.load(SWISS))


def test_swiss_wheat_has_149_chips_of_140_acquisitions(swiss):
    scenes = swiss.scenes
    assert not swiss.warnings
    assert not swiss.skipped
    assert Counter(scene.part for scene in scenes) == {
        "Arenenberg": 60,
        "Strickhof": 37,
        "SwissFutureFarm": 36,
        "Witzwil": 15,
        "SwissFutureFarm_2019": 1,
    }
    groups: dict = {}
    for scene in scenes:
        groups.setdefault(acquisition(scene), []).append(scene)
    assert len(groups) == 140
    fallen = {
        (key.part, name): winner
        for key, group in groups.items()
        for name, winner in resolve(map(candidate, group)).items()
        if winner
    }
    assert len(fallen) == 9
    # N9999 falls although it is newer; of two N0400 the newer one stays.
    first = "S2A_MSIL2A_20220620T102041_N9999_R065_T32TNT_20221231T145333.SAFE"
    assert fallen["Arenenberg", first].split("_")[3] == "N0400"
    older = "S2B_MSIL2A_20220516T101559_N0400_R065_T32TMT_20220516T133430.SAFE"
    assert fallen["Strickhof", older].endswith("20220722T190205.SAFE")
    assert sum("_N9999_" in name for _, name in fallen) == 5


def test_swiss_wheat_bands_and_nodata(swiss):
    own = Counter()
    for scene in swiss.scenes:
        assert scene.extent.crs == "EPSG:32632"
        assert scene.relative_orbit in {65, 108}
        assert scene.assets["B8A"].index == 7
        with open_band(scene.assets["B8A"]) as band:
            own[band.nodata] += 1
            assert band.header.pixel_size == (10, 10)
            left, _, _, top = scene.extent.bounds
            assert left % 10 == top % 10 == 0
    assert own == {(0.0,): 109, (): 40}  # 40 chips have NaN, which is always invalid
