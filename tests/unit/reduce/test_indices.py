import numpy as np
import pytest

from cbm_extract.reduce.index_values import Calibration, index_values, reflectance
from cbm_extract.reduce.indices import INDICES

# Written out once more, as the literature has them.
FORMULAS = {
    "NDVI": lambda b: (b["B08"] - b["B04"]) / (b["B08"] + b["B04"]),
    "NDVI_B8A": lambda b: (b["B8A"] - b["B04"]) / (b["B8A"] + b["B04"]),
    "EVI2": lambda b: 2.5 * (b["B08"] - b["B04"]) / (b["B08"] + 2.4 * b["B04"] + 1),
    "SAVI": lambda b: 1.5 * (b["B08"] - b["B04"]) / (b["B08"] + b["B04"] + 0.5),
    "NDRE": lambda b: (b["B8A"] - b["B05"]) / (b["B8A"] + b["B05"]),
    "CIRE": lambda b: b["B07"] / b["B05"] - 1,
    "NDWI": lambda b: (b["B8A"] - b["B11"]) / (b["B8A"] + b["B11"]),
    "NDWI_MCFEETERS": lambda b: (b["B03"] - b["B08"]) / (b["B03"] + b["B08"]),
    "NDMI": lambda b: (b["B08"] - b["B11"]) / (b["B08"] + b["B11"]),
    "NBR": lambda b: (b["B08"] - b["B12"]) / (b["B08"] + b["B12"]),
    "NDTI": lambda b: (b["B11"] - b["B12"]) / (b["B11"] + b["B12"]),
    "BSI": lambda b: (
        (b["B11"] + b["B04"] - b["B08"] - b["B02"]) / (b["B11"] + b["B04"] + b["B08"] + b["B02"])
    ),
    "PSRI": lambda b: (b["B04"] - b["B02"]) / b["B06"],
}


def test_every_index_has_a_formula_here():
    assert set(FORMULAS) == set(INDICES)


@pytest.mark.parametrize("name", FORMULAS)
def test_values_follow_the_formula(name):
    index = INDICES[name]
    bands = np.random.default_rng(0).uniform(0.01, 0.6, (len(index.bands), 500))
    expected = FORMULAS[name](dict(zip(index.bands, bands, strict=True)))
    np.testing.assert_allclose(index_values(index, bands), expected, rtol=1e-12, atol=1e-15)
    assert index.source
    assert len(index.numerator) == len(index.denominator) == len(index.bands)


def test_nothing_is_clipped_and_bad_denominators_are_invalid():
    nir = np.array([0.5, -0.1, 0.1, 0.1, np.nan, 0.4, 1e308, 0.5])
    red = np.array([-0.2, 0.3, -0.1, -0.2, 0.1, np.nan, 1e308, 0.0])
    values = index_values(INDICES["NDVI"], np.array([nir, red]))
    np.testing.assert_allclose(values[:2], [0.7 / 0.3, -0.4 / 0.2])  # beyond -1 and 1: kept
    assert np.isnan(values[2:7]).all()  # sum 0, below 0, NaN, NaN, infinite
    assert values[7] == 1.0


def test_reflectance_has_the_offset_applied_and_no_data_left_out():
    raw = np.array([0, 900, 1000, 5000, 65_535], np.uint16)
    got = reflectance(raw, Calibration((0.0, 65_535.0), 1.0, -1000.0))
    assert np.isnan(got[[0, 4]]).all()
    assert got[1:4].tolist() == [-0.01, 0.0, 0.4]
    scaled = reflectance(
        np.array([0.0, 0.25, np.nan, np.inf], np.float32), Calibration((0.0,), 1e4)
    )
    assert scaled[1] == 0.25
    assert np.isnan(scaled[[0, 2, 3]]).all()
