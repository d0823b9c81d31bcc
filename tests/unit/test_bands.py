import pytest

from cbm_core import bands


@pytest.mark.parametrize(
    ("card", "band", "name"),
    [
        ("bs", "VV", "VVb"),
        ("bs", "VH", "VHb"),
        ("c6", "VV", "VVc"),
        ("c12", "VH", "VHc"),
        ("s2", "B04", "B04"),
        ("s2", "NDVI", "NDVI"),
    ],
)
def test_legacy_names_and_back(card, band, name):
    assert bands.legacy(card, band) == name
    assert bands.stored(card, name) == band
    assert bands.stored(card, band) == band


@pytest.mark.parametrize(
    ("name", "band"), [("B2", "B02"), ("B4", "B04"), ("B8", "B08"), ("B8A", "B8A"), ("B11", "B11")]
)
def test_short_spellings(name, band):
    assert bands.stored("s2", name) == band


def test_names_of_another_card_are_not_taken():
    assert bands.stored("bs", "VVc") == "VVc"
    assert bands.stored("c6", "VVb") == "VVb"
    assert bands.stored("s2", "VVb") == "VVb"
