"""Real images: the chips of a wheat field are its files' pixels, in the unit of the statistics."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import from_bounds

from cbm_core.datasets import verbs as datasets
from cbm_core.verbs import Context
from cbm_extract.catalogue.verbs import ADD
from cbm_extract.parcels.verbs import IMPORT
from tests.api.chips import image, tiff

pytestmark = [pytest.mark.postgis, pytest.mark.data]
DESCRIPTION = Path(__file__).parents[1] / "data" / "swiss_wheat_scenes.yml"
SITE, FIELD = "Arenenberg", "Broatefaeld"
BASE = f"/v1/collections/ch_2022.field/items/{FIELD}"


def run(verb, settings, **given):
    return verb.run(verb.arguments.model_validate(given), Context(settings))


@pytest.fixture
def anna(asking, db, data_dir, tmp_path):
    """May read one field, which some sixty images show."""
    wheat = data_dir / "s2" / "swiss_wheat"
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / SITE).symlink_to(wheat / "stacks" / SITE)
    shape = wheat / "data/auxiliary/field_parcels_ww_2022" / SITE / f"{FIELD}.shp"
    run(datasets.ADD, db, aoi="ch", year=2022)
    run(IMPORT, db, dataset="ch:2022", layer="field", id="filename", source=str(shape))
    run(ADD, db, source=str(tmp_path / "stacks"), description=str(DESCRIPTION))
    return asking("anna", 1)


def test_chips_of_a_season(anna, data_dir):
    stacks = data_dir / "s2/swiss_wheat/stacks" / SITE
    found = anna.get(f"{BASE}/chips").json["chips"]
    passes = {folder.name.split("_")[2] for folder in stacks.glob("*.SAFE")}
    assert [one["reference"].split("_")[2] for one in found] == sorted(passes)
    assert [one["obstime"] for one in found] == sorted(one["obstime"] for one in found)
    compared = 0
    for one in found[::10]:
        answer = anna.get(one["tiff"], bands="B8A,B04", size=200)
        with (
            tiff(answer.data) as chip,
            rasterio.open(stacks / one["reference"] / "SRF_S2.tiff") as file,
        ):
            window = from_bounds(*chip.bounds, file.transform)
            raw = file.read([7, 3], window=window, boundless=True, fill_value=np.nan)
            # No data is 0 in most files, NaN in the others.
            expected = np.where(raw == 0, np.nan, raw.astype(float) * 10_000)
            np.testing.assert_allclose(chip.read(), expected, rtol=1e-6)
            compared += np.isfinite(expected).sum()
    assert compared > 500
    sheet = anna.get(
        f"{BASE}/chips.png", bands="B8A,B11,B04", datetime="2022-05-01/2022-05-31", side=64
    )
    assert image(sheet.data).shape[2] == 3
    missing = anna.get(f"{BASE}/chips.png")
    assert (missing.status_code, missing.json["code"]) == (400, "bad_parameter")
    assert "B8A" in missing.json["detail"]
