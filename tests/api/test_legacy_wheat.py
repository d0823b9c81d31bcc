"""Real images by the predecessor's routes, worked on as its clients do."""

import io
import json
from collections import Counter
from datetime import date
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from rasterio.features import rasterize

from cbm_core.datasets import verbs as datasets
from cbm_core.verbs import Context
from cbm_extract.catalogue.verbs import ADD
from cbm_extract.parcels.verbs import IMPORT
from tests.extraction import run_extract, statistics

pytestmark = [pytest.mark.postgis, pytest.mark.data]

DESCRIPTION = Path(__file__).parents[1] / "data" / "swiss_wheat_scenes.yml"
SITE, FIELD = "Arenenberg", "Broatefaeld"
PLACE = {"aoi": "ch", "year": "2022", "ptype": FIELD.lower()}
CLOUDS = "3_8_9_10_11"


def run(verb, settings, **given):
    return verb.run(verb.arguments.model_validate(given), Context(settings=settings))


@pytest.fixture
def field(data_dir) -> Path:
    wheat = data_dir / "s2" / "swiss_wheat"
    return wheat / "data/auxiliary/field_parcels_ww_2022" / SITE / f"{FIELD}.shp"


@pytest.fixture
def anna(asking, db, data_dir, field, tmp_path):
    """May read one wheat field and what 61 images say of it."""
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / SITE).symlink_to(data_dir / "s2/swiss_wheat/stacks" / SITE)
    products = tmp_path / "products.yml"
    products.write_text(json.dumps({
        "products": [{"name": "wheat", "card": "s2", "bands": ["B04", "B8A"]}]
    }))  # fmt: skip
    run(datasets.ADD, db, aoi="ch", year=2022, imagery_start="2022-01-01",
        imagery_end="2022-07-31")  # fmt: skip
    run(IMPORT, db, dataset="ch:2022", layer=FIELD.lower(), id="filename", source=str(field))
    run(ADD, db, source=str(tmp_path / "stacks"), description=str(DESCRIPTION))
    run_extract(db, dataset="ch:2022", product_file=products)
    return asking("anna", 1)


def test_a_client_finds_the_field_and_its_season(anna, field, data_dir, tmp_path):
    shape = geopandas.read_file(field)
    middle = shape.to_crs(4326).geometry.iloc[0].representative_point()

    # From a place to the parcel, as `parcel_info.by_location` does.
    given = {**PLACE, "lon": middle.x, "lat": middle.y, "withGeometry": "True"}
    parcel = json.loads(anna.get("/query/parcelByLocation", **given).text)
    assert parcel["pid"] == parcel["ogc_fid"] == [FIELD]
    assert parcel["srid"] == [2056]
    assert parcel["area"][0] == pytest.approx(shape.to_crs(3035).area.iloc[0], abs=0.51)
    found = shapely.geometry.shape(json.loads(parcel["geom"][0]))
    assert found.symmetric_difference(shape.geometry.iloc[0]).area < 1e-3
    centre = shape.to_crs(4326).geometry.iloc[0].centroid
    assert (parcel["clon"][0], parcel["clat"][0]) == pytest.approx((centre.x, centre.y), abs=1e-9)

    # The series by way of the client's file.
    given = {**PLACE, "pid": parcel["pid"][0]}
    series = json.loads(anna.get("/query/parcelTimeSeries", tstype="s2", **given).text)
    path = tmp_path / "time_series_s2.csv"
    pd.DataFrame.from_dict(series, orient="columns").to_csv(path, index=True, header=True)
    frame = pd.read_csv(path, index_col=0)
    frame.index = pd.to_datetime(frame["date_part"], unit="s")
    red, infrared = (frame[frame.band == band] for band in ("B04", "B8A"))
    ndvi = (infrared["mean"] - red["mean"]) / (infrared["mean"] + red["mean"])
    classes = red["hist"].map(lambda text: set(json.loads(text.replace("'", '"'))))
    clear = ndvi[classes.map(lambda one: not one & set(CLOUDS.split("_")))]
    assert 10 < len(clear) < len(ndvi)
    assert date(2022, 5, 11) <= clear.idxmax().date() <= date(2022, 5, 19)
    assert 0.83 <= clear.max() <= 0.92

    # The example of the documentation reads the text straight away.
    direct = pd.read_json(io.StringIO(anna.get("/query/parcelTimeSeries", **given).text))
    assert direct["date_part"].tolist() == series["date_part"]
    assert direct["hist"].tolist() == series["hist"]


def test_every_number_is_that_of_the_image(anna, field, data_dir):
    given = {**PLACE, "pid": FIELD, "ref": "True"}
    series = anna.get("/query/parcelTimeSeries", **given).json
    # One row per acquisition and band, whatever tiles and processings there are.
    assert len(set(zip(series["date_part"], series["band"], strict=True))) == len(series["band"])
    shape = geopandas.read_file(field).to_crs(32632).geometry.iloc[0]
    assert len(series["band"]) > 40
    for row in zip(*series.values(), strict=True):
        answer = dict(zip(series, row, strict=True))
        stack = data_dir / "s2/swiss_wheat/stacks" / SITE / answer["reference"] / "SRF_S2.tiff"
        with rasterio.open(stack) as source:
            mask = rasterize([(shape, 1)], source.shape, transform=source.transform) == 1
            place = source.descriptions.index(answer["band"])
            raw, nodata = source.read(place + 1), source.nodatavals[place]
            scl = source.read(source.descriptions.index("SCL") + 1)[mask]
        values = raw[mask & np.isfinite(raw) & (raw != nodata)]
        count, mean, std, low, high, p25, p50, p75 = statistics(values, scale=10_000.0)
        names = ("count", "mean", "std", "min", "max", "p25", "p50", "p75")
        numbers = (count, mean, std, low, high, p25, p50, p75)
        assert {name: np.float32(answer[name]) for name in names} == dict(
            zip(names, numbers, strict=True)
        )
        expected = Counter(str(int(one)) if 0 <= one < 12 else "0" for one in scl)
        assert answer["hist"] == expected
