"""Which number is subtracted, and who said so."""

import pytest

from cbm_core.errors import CbmError
from cbm_extract.catalogue.offsets import Mapping, from_item, from_product_xml, from_raster_bands

E84, E84_V0, C1 = "sentinel-2-l2a", "sentinel-s2-l2a-cogs", "sentinel-2-c1-l2a"
FLAG, FLAG_V0 = "earthsearch:boa_offset_applied", "sentinel:boa_offset_applied"
BASELINE = "s2:processing_baseline"
WRONG = {"scale": 0.0001, "offset": -0.1}
RULE_PLAIN = Mapping(1.0, 0.0, "collection_rule")
RULE_SHIFTED = Mapping(1.0, -1000.0, "collection_rule")


@pytest.mark.parametrize(
    ("collection", "properties", "declared", "expected"),
    [
        # Earth Search v1: the publisher shifted the pixels, and declares the offset all the same.
        (E84, {BASELINE: "05.09", FLAG: True}, WRONG, RULE_PLAIN),
        (E84, {BASELINE: "04.00", FLAG: False}, WRONG, RULE_SHIFTED),
        (E84, {BASELINE: "02.14", FLAG: False}, {"scale": 0.0001, "offset": 0}, RULE_PLAIN),
        (E84_V0, {FLAG_V0: True}, {}, RULE_PLAIN),
        (
            E84_V0,
            {"sentinel:product_id": "S2A_MSIL2A_20190524T101031_N0212_R022_T31NBJ_20190524T130304"},
            {},
            RULE_PLAIN,
        ),
        (C1, {BASELINE: "05.00"}, WRONG, RULE_SHIFTED),
        # Planetary Computer: ESA's numbers, and not a word about offsets.
        (E84, {BASELINE: "04.00"}, {}, RULE_SHIFTED),
        (E84, {BASELINE: "03.01"}, {}, RULE_PLAIN),
        (E84, {BASELINE: "05.11"}, {}, RULE_SHIFTED),
        # Copernicus Data Space.
        (E84, {"processing:version": "05.11"}, WRONG, RULE_SHIFTED),
        # A known collection that does not tell the baseline leaves it to raster:bands.
        (E84, {}, WRONG, Mapping(1.0, -1000.0, "raster_bands")),
        (E84, {BASELINE: "N9999"}, {}, Mapping(1.0, 0.0, "none")),
        # An agency's own collection is believed.
        ("own", {BASELINE: "05.09"}, {"scale": 0.0001}, Mapping(1.0, 0.0, "raster_bands")),
        ("own", {BASELINE: "05.09", FLAG: False}, WRONG, Mapping(1.0, -1000.0, "raster_bands")),
        # A mirror of Earth Search under another name.
        ("own", {BASELINE: "05.09", FLAG: True}, WRONG, RULE_PLAIN),
        (None, {}, {"scale": 1, "offset": 0}, Mapping(10000.0, 0.0, "raster_bands")),
        (None, {BASELINE: "03.01"}, {}, Mapping(1.0, 0.0, "none")),
    ],
)
def test_items(collection, properties, declared, expected):
    found = from_item("s2", "B04", collection, properties, declared)
    assert found.source == expected.source
    assert found.scale == pytest.approx(expected.scale, rel=1e-15)
    assert found.offset == pytest.approx(expected.offset, rel=1e-15)


def test_classification_is_never_mapped():
    assert from_item("s2", "SCL", E84, {BASELINE: "05.09"}, WRONG) == Mapping()
    assert from_product_xml("SCL", 10000, -1000) == Mapping()


@pytest.mark.parametrize(
    ("quantification", "add", "raw", "stored"),
    [
        (10000, 0, 1234, 1234),
        (10000, -1000, 1000, 0),
        (10000, -1000, 900, -100),
        (1000, 0, 50, 500),
    ],
)
def test_esas_formula(quantification, add, raw, stored):
    mapping = from_product_xml("B04", quantification, add)
    assert raw * mapping.scale + mapping.offset == stored
    assert mapping.source == "product_xml"


def test_other_cards_keep_their_physical_unit():
    assert from_raster_bands("bs", {"scale": 0.5, "offset": 1}) == Mapping(0.5, 1.0, "raster_bands")
    # A Sentinel-2 rule must not reach another card.
    assert from_item("bs", "VV", E84, {BASELINE: "05.09"}, {}) == Mapping()


@pytest.mark.parametrize("declared", [{"offset": -1000}, {"scale": "big"}])
def test_ambiguous(declared):
    with pytest.raises(CbmError) as caught:
        from_item("s2", "B04", "own", {}, declared)
    assert caught.value.code == "offset_ambiguous"


def test_an_offset_that_may_or_may_not_be_there_is_not_guessed():
    with pytest.raises(CbmError) as caught:
        from_item("s2", "B04", "own", {BASELINE: "05.09"}, {})
    assert caught.value.code == "offset_unknown"
