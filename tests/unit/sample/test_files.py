"""The files of the sample against its own truth, read with other tools than wrote them."""

import json
import re
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
import yaml
from rasterio.features import geometry_mask

from cbm_extract.parcels.mapping import parse_id
from cbm_extract.sample.crops import BANDS, BANDS_10M

CLEAR = (4, 5, 6)


def read(made: Path, item: str, band: str) -> np.ndarray:
    with rasterio.open(made / "scenes" / item / f"{band}.tif") as dataset:
        return dataset.read(1)


def doubled(classes: np.ndarray) -> np.ndarray:
    return np.kron(classes, np.ones((2, 2), classes.dtype))


def reflectance(made: Path, item: dict, band: str) -> np.ndarray:
    scaling = item["assets"][band]["raster:bands"][0]
    raw = read(made, item["id"], band).astype(np.float64)
    return np.where(raw == 0, np.nan, raw * scaling["scale"] + scaling["offset"])


@pytest.fixture(scope="module")
def parcels(made):
    meta, _, wkb, columns = pyogrio.raw.read(made / "parcels/parcels_2021.gpkg")
    assert meta["crs"] == "EPSG:25832"
    table = dict(zip(meta["fields"], columns, strict=True))
    return table, dict(zip(table["parcel_id"], shapely.from_wkb(wkb), strict=True))


def test_parcel_file_has_text_ids_crops_and_a_personal_column(parcels, truth):
    table, geometries = parcels
    assert set(table) == {"parcel_id", "crop_code", "crop_name", "declared_ha", "farmer_name"}
    assert len(set(table["parcel_id"])) == 60
    assert list(table["parcel_id"]) == list(truth["parcels"])
    assert all(re.fullmatch(r"\d{3}", code) for code in table["crop_code"])
    assert shapely.is_valid(list(geometries.values())).all()
    areas = shapely.area(list(geometries.values())) / 1e4
    assert np.allclose(table["declared_ha"], areas, atol=1e-4)


def test_few_parcels_are_declared_wrongly_and_the_truth_says_which(parcels, truth):
    table, _ = parcels
    wrong = [
        pid
        for pid, code in zip(table["parcel_id"], table["crop_code"], strict=True)
        if truth["parcels"][pid]["crop_code"] != code
    ]
    assert wrong == [pid for pid, known in truth["parcels"].items() if not known["declared_right"]]
    assert len(wrong) == 1


def test_rasters_hold_the_truth(made, truth, items, parcels):
    """Mean over a parcel's clear pixels, offset applied, against the noise-free series."""
    _, geometries = parcels
    to_raster = pyproj.Transformer.from_crs("EPSG:25832", "EPSG:32632", always_xy=True)
    compared = 0
    for scene in truth["scenes"]:
        item = items[scene["item"]]
        when = truth["series"]["dates"].index(scene["date"])
        clear = np.isin(doubled(read(made, item["id"], "SCL")), CLEAR)
        with rasterio.open(made / "scenes" / item["id"] / "B04.tif") as dataset:
            grid = {"out_shape": dataset.shape, "transform": dataset.transform, "invert": True}
        seen = {band: reflectance(made, item, band) for band in BANDS_10M}
        for pid, series in truth["series"]["parcels"].items():
            moved = shapely.transform(
                geometries[pid],
                lambda xy: np.column_stack(to_raster.transform(xy[:, 0], xy[:, 1])),
            )
            inside = geometry_mask([moved], **grid)
            assert inside.sum() == truth["parcels"][pid]["pixels_10m"]
            if not clear[inside].all():
                continue
            for band in BANDS_10M:
                true = series[band][when]
                noise = (0.0008 + 0.004 * true) / np.sqrt(inside.sum())
                mean = seen[band][inside].mean()
                assert mean == pytest.approx(true, abs=5 * noise + 1e-5), (pid, scene, band)
                compared += 1
            red, nir = seen["B04"][inside].mean(), seen["B08"][inside].mean()
            assert (nir - red) / (nir + red) == pytest.approx(series["NDVI"][when], abs=0.01)
    assert compared > 200


def test_bands_of_20_m_are_the_mean_of_their_10_m_pixels(made, truth, items, parcels):
    """Well inside a large parcel nothing is mixed, so the true value of 20 m bands shows."""
    _, geometries = parcels
    compared = 0
    for scene in truth["scenes"]:
        when = truth["series"]["dates"].index(scene["date"])
        clear = np.isin(read(made, scene["item"], "SCL"), CLEAR)
        with rasterio.open(made / "scenes" / scene["item"] / "B05.tif") as dataset:
            grid = {"out_shape": dataset.shape, "transform": dataset.transform, "invert": True}
        seen = {b: reflectance(made, items[scene["item"]], b) for b in ("B05", "B8A", "B12")}
        for pid, series in truth["series"]["parcels"].items():
            core = geometries[pid].buffer(-30)
            inside = geometry_mask([core], **grid) & clear if core.area > 10_000 else clear & False
            if inside.sum() < 20:
                continue
            for band, values in seen.items():
                # The texture has mean 1 over the whole parcel, not over its core.
                assert values[inside].mean() == pytest.approx(series[band][when], rel=0.06)
                compared += 1
    assert compared > 50


def test_both_baselines_of_an_acquisition_give_the_same_reflectance(made, truth, items):
    old, new = _pair(truth)
    for band in BANDS:
        first, second = (read(made, item, band).astype(np.int64) for item in (old, new))
        assert ((first == 0) == (second == 0)).all()
        valid = first > 1  # N0300 cuts at 1 what N0500 keeps: zero and negative reflectance
        assert valid.mean() > 0.9
        assert (second[valid] - first[valid] == 1000).all()
        left, right = (reflectance(made, items[item], band) for item in (old, new))
        assert np.allclose(left[valid], right[valid], atol=1e-12)


def _pair(truth: dict) -> tuple[str, str]:
    old = next(scene for scene in truth["scenes"] if scene["state"] == "superseded")
    new = next(s for s in truth["scenes"] if s["date"] == old["date"] and s is not old)
    return old["item"], new["item"]


def test_superseded_pair_is_one_acquisition_in_two_baselines(truth, items):
    old, new = (items[item]["properties"] for item in _pair(truth))
    assert old["platform"] == new["platform"]
    assert old["grid:code"] == new["grid:code"]
    for name, pattern in (
        ("s2:datatake_id", r"_(\d{8}T\d{6})_"),
        ("s2:datastrip_id", r"_S(\w{15})_"),
    ):
        start = [re.search(pattern, properties[name])[1] for properties in (old, new)]
        assert start[0] == start[1]
    assert (old["s2:processing_baseline"], new["s2:processing_baseline"]) == ("03.00", "05.00")
    assert old["s2:generation_time"] < new["s2:generation_time"]
    assert [s["state"] for s in truth["scenes"]].count("superseded") == 1


def test_catalogue_links_and_files_resolve_and_describe_what_is_there(made, items, truth):
    references = {item["properties"]["s2:product_uri"] for item in items.values()}
    assert references == {scene["reference"] for scene in truth["scenes"]}
    for name, item in items.items():
        folder = made / "scenes" / name
        for link in item["links"]:
            assert (folder / link["href"]).resolve().is_file()
        for band, asset in item["assets"].items():
            path = folder / asset["href"]
            assert path.stat().st_size == asset["file:size"]
            scaling = asset["raster:bands"][0]
            with rasterio.open(path) as dataset:
                assert dataset.crs.to_epsg() == item["properties"]["proj:epsg"] == 32632
                assert list(dataset.shape) == asset["proj:shape"]
                assert list(dataset.transform)[:6] == asset["proj:transform"]
                assert dataset.nodata == scaling["nodata"] == 0
                assert dataset.dtypes[0] == scaling["data_type"]
                assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
                assert dataset.compression.name == "deflate"
                assert dataset.transform.c % 20 == dataset.transform.f % 20 == 0
            if band != "SCL":
                baseline = item["properties"]["s2:processing_baseline"]
                assert scaling["offset"] == (-0.1 if baseline == "05.00" else 0.0)
                assert scaling["scale"] == 0.0001


def test_clouds_are_bright_shadows_dark_and_shares_as_told(made, truth, items):
    seen = dict.fromkeys((3, 4, 9), 0)
    for scene in truth["scenes"]:
        classes = read(made, scene["item"], "SCL")
        valid = classes > 0
        assert set(np.unique(classes)) <= {0, 3, 4, 5, 6, 8, 9, 10}
        assert np.isin(classes[valid], (8, 9, 10)).mean() == pytest.approx(
            scene["cloud_share"], abs=1e-5
        )
        assert (classes[valid] == 3).mean() == pytest.approx(scene["shadow_share"], abs=1e-5)
        assert 1 - valid.mean() == pytest.approx(scene["unseen_share"], abs=1e-5)
        fine, item = doubled(classes), items[scene["item"]]
        blue, nir = (reflectance(made, item, band) for band in ("B02", "B08"))
        for value in seen:
            seen[value] += (classes == value).sum()
        if (classes == 9).any():
            assert blue[fine == 9].min() > 0.5
        if (classes == 8).any():
            assert blue[fine == 8].mean() > blue[np.isin(fine, CLEAR)].mean() + 0.1
        if (classes == 3).any():
            assert nir[fine == 3].mean() < 0.8 * nir[np.isin(fine, CLEAR)].mean()
        assert blue[np.isin(fine, CLEAR)].max() < 0.2
    assert all(count > 100 for count in seen.values())


def test_swath_edge_leaves_no_data_in_all_bands_and_outside_the_footprint(made, truth, items):
    scene = next(scene for scene in truth["scenes"] if scene["unseen_share"] > 0)
    assert 0.2 < scene["unseen_share"] < 0.6
    unseen = read(made, scene["item"], "SCL") == 0
    for band in BANDS:
        raw = read(made, scene["item"], band)
        assert ((raw == 0) == (doubled(unseen) if band in BANDS_10M else unseen)).all()
    item = items[scene["item"]]
    to_raster = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32632", always_xy=True)
    ring = item["geometry"]["coordinates"][0]
    footprint = shapely.Polygon([to_raster.transform(*point) for point in ring])
    assert footprint.exterior.is_ccw
    with rasterio.open(made / "scenes" / scene["item"] / "SCL.tif") as dataset:
        rows, columns = np.indices(dataset.shape)
        x, y = dataset.xy(rows.ravel(), columns.ravel())
    inside = shapely.contains_xy(footprint, x, y).reshape(unseen.shape)
    assert (inside != unseen).mean() > 0.999
    lonlat = np.array(ring)
    box = [*lonlat.min(axis=0), *lonlat.max(axis=0)]
    assert box == item["bbox"]


def test_missing_band_is_missing_from_item_and_folder(made, truth, items):
    scene = next(scene for scene in truth["scenes"] if scene["missing_bands"])
    assert scene["missing_bands"] == ["B11"]
    assert set(items[scene["item"]]["assets"]) == ({*BANDS, "SCL"} - {"B11"})
    assert not (made / "scenes" / scene["item"] / "B11.tif").exists()
    others = [items[s["item"]]["assets"] for s in truth["scenes"] if s is not scene]
    assert all(set(assets) == {*BANDS, "SCL"} for assets in others)


def test_demo_description_names_what_is_there(made, parcels):
    table, _ = parcels
    demo = yaml.safe_load((made / "demo.yml").read_text())
    source = demo["parcels"][0]
    assert pyogrio.list_layers(made / source["source"])[0][0] == source["source_layer"]
    kept = source["keep_columns"]
    read = {*parse_id(source["id"]).columns, source["crop_code"], source["crop_name"], *kept}
    assert read <= set(table)
    assert "farmer_name" not in kept
    assert (made / demo["scenes"][0]["source"]).is_file()
    dates = [s["date"] for s in json.loads((made / "truth.json").read_text())["scenes"]]
    assert demo["dataset"]["imagery_start"].isoformat() <= min(dates)
    assert demo["dataset"]["imagery_end"].isoformat() >= max(dates)


def test_readme_names_the_special_dates(made, truth):
    text = (made / "README.txt").read_text()
    special = [s for s in truth["scenes"] if s["state"] != "active" or s["missing_bands"]]
    special += [s for s in truth["scenes"] if s["unseen_share"] > 0]
    assert len(special) == 3
    assert all(scene["date"] in text for scene in special)
    assert f"{len(truth['scenes'])} scenes" in text
