"""STAC items of Sentinel-1: real ones of AWS Open Data, and some like Planetary Computer's."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cbm_core.errors import CbmError
from cbm_extract.catalogue import stac
from cbm_extract.scene import Scene

GRD = "S1A_IW_GRDH_1SDV_20240511T053201_20240511T053226_053813_0689D1"


def item(**properties: Any) -> dict[str, Any]:
    """An item of Planetary Computer's RTC: it calls itself GRD, as what it was made from."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"{GRD}_rtc",
        "collection": "sentinel-1-rtc",
        "geometry": None,
        "properties": {
            "datetime": "2024-05-11T05:32:13.7Z",
            "start_datetime": "2024-05-11T05:32:01.2Z",
            "platform": "SENTINEL-1A",
            "sar:product_type": "GRD",
            "sat:orbit_state": "descending",
            "proj:epsg": 32632,
            "proj:transform": [10, 0, 500000, 0, -10, 5200000],
            "proj:shape": [1000, 2000],
            **properties,
        },
        "links": [],
        "assets": {
            "vh": {"href": "https://example.org/vh.tif", "raster:bands": [{"nodata": -32768}]},
            "vv": {"href": "https://example.org/vv.tif", "type": "image/tiff", "roles": ["data"]},
            "tilejson": {"href": "https://example.org/t.json", "type": "application/json"},
            "rendered_vv": {"href": "https://example.org/p.tif", "roles": ["overview"]},
        },
    }


def read(tmp_path: Path, document: dict[str, Any]) -> Scene:
    path = tmp_path / "item.json"
    path.write_text(json.dumps(document))
    (scene,) = stac.read(str(path)).scenes
    return scene


def refusal(tmp_path: Path, document: dict[str, Any]) -> str:
    with pytest.raises(CbmError) as caught:
        read(tmp_path, document)
    return caught.value.code


def test_planetary_computer(tmp_path):
    scene = read(tmp_path, item(**{"view:incidence_angle": 38.9}))
    assert (scene.card, scene.platform, scene.reference) == ("bs", "S1A", f"{GRD}_rtc")
    assert scene.datatake_start == datetime(2024, 5, 11, 5, 32, 1, tzinfo=UTC)
    assert (scene.absolute_orbit, scene.relative_orbit) == (53813, (53813 - 73) % 175 + 1)
    assert (scene.orbit_direction, scene.incidence_angle) == ("descending", 38.9)
    assert {band: asset.nodata for band, asset in scene.assets.items()} == {
        "VV": (0.0,),
        "VH": (-32768.0, 0.0),
    }
    assert scene.extent.bounds == (500000, 5190000, 520000, 5200000)


def test_aws_open_data(data_dir):
    folder = data_dir / "catalogue/stactools_sentinel1/examples/rtc/sentinel1-rtc-aws"
    path = folder / "2020/S1A_20200103_17RMJ_ASC/S1A_20200103_17RMJ_ASC.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    (scene,) = stac.read(str(path)).scenes
    assert (scene.card, scene.platform, scene.tile) == ("bs", "S1A", "17RMJ")
    assert scene.obstime == datetime(2020, 1, 3, 23, 35, 56, tzinfo=UTC)
    orbit = (scene.absolute_orbit, scene.relative_orbit, scene.orbit_direction)
    assert orbit == (30643, 121, "ascending")
    assert scene.assets["VV"].href.endswith("Gamma0_VV.tif")
    assert set(scene.assets) == {"VV", "VH"}
    assert scene.extent.crs == "EPSG:32617"


def test_level_1_is_refused(tmp_path, data_dir):
    document = item()
    assert refusal(tmp_path, {**document, "collection": "sentinel-1-grd"}) == "item_unsupported"
    folder = data_dir / "catalogue/stactools_sentinel1/examples/grd"
    for path in folder.glob("S1A*/*.json"):
        with pytest.raises(CbmError) as caught:
            stac.read(str(path))
        assert caught.value.code == "item_unsupported"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"view:incidence_angle": "steep"}, "item_invalid"),
        ({"sat:absolute_orbit": "x"}, "absolute_orbit_invalid"),
        ({"sat:orbit_state": "up"}, "orbit_direction_invalid"),
    ],
)
def test_wrong_properties(tmp_path, changes, code):
    assert refusal(tmp_path, item(**changes)) == code


def test_items_without_backscatter(tmp_path):
    document = item()
    document["assets"] = {"hh": document["assets"]["vv"], "visual": document["assets"]["vv"]}
    assert refusal(tmp_path, document) == "scene_without_images"
    document = item()
    document["assets"]["vh"]["raster:bands"] = [{"nodata": "none"}]
    assert refusal(tmp_path, document) == "item_invalid"
