"""Real input end to end by the command line: wheat fields, every statistic against numpy."""

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import date
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import yaml
from rasterio.features import rasterize

from tests.extraction import Row, statistics
from tests.factories import sql

pytestmark = [pytest.mark.postgis, pytest.mark.data]

REPO = Path(__file__).parents[2]
DESCRIPTION = REPO / "tests" / "data" / "swiss_wheat_scenes.yml"
FIELDS = {
    "arenenberg": "Arenenberg/Broatefaeld",
    "witzwil": "Witzwil/Parzelle35",
    "ruetteli": "SwissFutureFarm/Ruetteli",
    "altkloster": "SwissFutureFarm/Altkloster",
    "bramenwies": "Strickhof/Bramenwies",
    "fluegenrain": "Strickhof/Fluegenrain",
    "hohrueti": "Strickhof/Hohrueti",
}
BANDS = ["B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12"]
# `tiles: all`, so that every active chip can be compared.
PRODUCT = {"name": "wheat", "card": "s2", "bands": BANDS, "indices": ["NDVI_B8A"], "tiles": "all"}


@pytest.fixture
def cbm(db, tmp_path):
    """The command as a person types it; gives its answer as JSON."""
    config = tmp_path / "cbm.toml"
    lines = [f'{key} = "{value}"' for key, value in db.database.items()]
    config.write_text("\n".join(["[database]", *lines, ""]))

    def call(verb: str, **arguments):
        done = subprocess.run(
            [sys.executable, "-m", "cbm_extract.cli", "--json", *verb.split()],
            input=json.dumps(arguments), capture_output=True, text=True, cwd=REPO,
            env=os.environ | {"CBM_CONFIG": str(config)}, check=False,
        )  # fmt: skip
        answer = json.loads(done.stdout)
        assert answer["ok"], answer
        return answer

    return call


def steps(cbm, wheat: Path, product: Path) -> list[dict]:
    """Everything from nothing to signatures."""
    shapes = wheat / "data" / "auxiliary" / "field_parcels_ww_2022"
    answers = [
        cbm("dataset add", aoi="ch", year=2022,
            imagery_start="2019-01-01", imagery_end="2022-07-31")
    ]  # fmt: skip
    answers += [
        cbm("parcels import", dataset="ch:2022", layer=layer, id="filename",
            source=str(shapes / f"{path}.shp"))
        for layer, path in FIELDS.items()
    ]  # fmt: skip
    answers.append(cbm("scenes add", source=str(wheat / "stacks"), description=str(DESCRIPTION)))
    answers.append(cbm("extract", dataset="ch:2022", product_file=str(product)))
    return answers


def test_every_statistic_of_every_chip_equals_numpy(cbm, db, data_dir, tmp_path):
    wheat = data_dir / "s2" / "swiss_wheat"
    product = tmp_path / "products.yml"
    product.write_text(yaml.safe_dump({"products": [PRODUCT]}))
    answers = steps(cbm, wheat, product)
    assert all(answer["changed"] for answer in answers)

    states = Counter(row[0] for row in sql(db, "SELECT state FROM cbm.scene"))
    assert states == {"active": 140, "superseded": 9}
    crs = sql(db, "SELECT DISTINCT c.definition FROM cbm.parcel_set p JOIN cbm.crs c"
                  " ON c.id = p.crs_id ORDER BY 1")  # fmt: skip
    assert len(crs) == 3
    assert answers[-1]["result"]["done"] == 140
    again = steps(cbm, wheat, product)
    assert not any(answer["changed"] for answer in again)

    found = _stored(db)
    compared = 0
    shapes = wheat / "data" / "auxiliary" / "field_parcels_ww_2022"
    parcels = {
        layer: geopandas.read_file(shapes / f"{path}.shp").to_crs(32632).geometry.union_all()
        for layer, path in FIELDS.items()
    }
    active = sql(db, "SELECT id, assets -> 'B02' ->> 'href' FROM cbm.scene"
                     " WHERE state = 'active'")  # fmt: skip
    for scene, href in active:
        with rasterio.open(href) as source:
            names = list(source.descriptions)
            data = source.read()
            nodata = source.nodatavals
            masks = {
                layer: rasterize([(shape, 1)], source.shape, transform=source.transform)
                for layer, shape in parcels.items()
            }
        for layer, mask in masks.items():
            compared += _compare(found.pop((layer, scene), None), data, nodata, names, mask == 1)
    assert found == {}
    assert compared == 230
    _check_season(db, parcels)


def _stored(settings) -> dict[tuple[str, int], Row]:
    rows = sql(
        settings,
        """SELECT p.layer, s.scene_id, s.px_imaged, s.px_clear, s.tile_rank, s.stats,
                  s.class_counts, r.variables
           FROM cbm.signature s JOIN cbm.parcel p USING (geometry_id)
           JOIN cbm.product r ON r.id = s.product_id""",
    )
    return {(row[0], row[1]): Row.of(*row[2:]) for row in rows}


def _compare(row, data, nodata, names, mask) -> bool:
    """Check one parcel in one chip; tells whether it has a row."""
    stack = dict(zip(names, data, strict=True))
    values = {}
    for band in BANDS:
        raw = stack[band]
        own = nodata[names.index(band)]
        valid = np.isfinite(raw) & (raw != (np.nan if own is None else own))
        values[band] = np.where(valid, raw.astype(np.float64), np.nan)
    most = max(int(np.isfinite(values[band][mask]).sum()) for band in BANDS)
    if not most:
        assert row is None
        return False
    assert row.imaged == row.clear == most
    for band in BANDS:
        inside = values[band][mask]
        expected = statistics(inside[np.isfinite(inside)], scale=10_000.0)
        np.testing.assert_array_equal(row.stats[band], expected, err_msg=band)
    red, infrared = values["B04"][mask], values["B8A"][mask]
    with np.errstate(invalid="ignore", divide="ignore"):
        ndvi = np.where(infrared + red > 0, (infrared - red) / (infrared + red), np.nan)
    expected = statistics(ndvi[np.isfinite(ndvi)])
    np.testing.assert_allclose(row.stats["NDVI_B8A"], expected, rtol=1e-6, atol=1e-7)
    scl = stack["SCL"][mask].astype(np.float64)
    with np.errstate(invalid="ignore"):
        classes = np.where((scl >= 0) & (scl < 12), scl, 0).astype(int)
    assert row.classes == dict(Counter(classes.tolist()))
    return True


def _check_season(settings, parcels) -> None:
    """Winter wheat is at its greenest in the middle of May."""
    for layer in parcels:
        series = sql(
            settings,
            """SELECT s.obstime::date, s.mean FROM cbm.signature_long s
               JOIN cbm.monitorability m ON m.geometry_id = s.geometry_id
               WHERE s.layer = %s AND s.band = 'NDVI_B8A'
                 AND s.count >= 0.9 * m.pixels_planned ORDER BY 2 DESC LIMIT 1""",
            layer,
        )
        (when, peak) = series[0]
        assert 0.83 <= peak <= 0.92, (layer, when, peak)
        assert date(2022, 5, 11) <= when <= date(2022, 5, 19), (layer, when, peak)
