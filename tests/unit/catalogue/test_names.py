"""Spellings that differ between catalogues come out the same."""

from datetime import UTC, datetime

import pytest

from cbm_core.errors import CbmError
from cbm_extract.catalogue import names, sentinel2


@pytest.mark.parametrize("text", ["S2A", "sentinel-2a", "Sentinel-2A", "SENTINEL_2A", " s2a "])
def test_platform(text):
    assert names.platform(text) == "S2A"


def test_other_platforms_stay():
    assert names.platform("landsat-8") == "landsat-8"
    assert names.platform("sentinel-1c") == "S1C"


@pytest.mark.parametrize("text", ["T01WCS", "01WCS", "1WCS", "MGRS-01WCS", "01wcs"])
def test_tile(text):
    assert names.tile(text) == "01WCS"


@pytest.mark.parametrize("text", ["04.00", "4.00", "N0400", "0400", "N04.00"])
def test_baseline(text):
    assert names.baseline(text) == "N0400"


def test_baseline_numbers():
    assert names.baseline_number("N0509") == 509
    assert names.baseline_number("N9999") is None
    assert names.baseline_number(None) is None


@pytest.mark.parametrize(
    ("text", "direction"), [("DESCENDING", "descending"), ("A", "ascending"), ("asc", "ascending")]
)
def test_orbit_direction(text, direction):
    assert names.orbit_direction(text) == direction


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: names.orbit_direction(""), "orbit_direction_invalid"),
        (lambda: names.orbit_direction("sideways"), "orbit_direction_invalid"),
        (lambda: names.relative_orbit("R1080"), "relative_orbit_invalid"),
        (lambda: names.compact_utc("20240231T000000"), "time_invalid"),
        (lambda: names.utc("yesterday", naive_is_utc=True), "time_invalid"),
        (lambda: names.utc("2024-05-01T10:00:00", naive_is_utc=False), "time_without_zone"),
    ],
)
def test_refusals(call, code):
    with pytest.raises(CbmError) as caught:
        call()
    assert caught.value.code == code


def test_times_become_utc():
    expected = datetime(2024, 5, 1, 10, 50, 31, tzinfo=UTC)
    assert names.utc("2024-05-01T12:50:31+02:00", naive_is_utc=False) == expected
    assert names.utc("2024-05-01T10:50:31.0000000Z", naive_is_utc=False) == expected
    assert names.utc("2024-05-01T10:50:31", naive_is_utc=True) == expected
    assert names.compact_utc("20240501T105031") == expected


@pytest.mark.parametrize(
    ("text", "band"),
    [
        ("B04", "B04"),
        ("B4", "B04"),
        ("b8a", "B8A"),
        ("red", "B04"),
        ("nir08", "B8A"),
        ("SCL", "SCL"),
        ("scl", "SCL"),
        ("B11", "B11"),
        ("B10", None),
        ("rededge", None),
        ("AOT", None),
        ("visual", None),
        ("B13", None),
    ],
)
def test_band(text, band):
    assert sentinel2.band(text) == band


def test_product_name():
    text = "S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126"
    name = sentinel2.parse_name(f"{text}.SAFE")
    assert name == sentinel2.parse_name(text)
    assert name is not None
    assert (name.platform, name.baseline, name.relative_orbit, name.tile) == (
        "S2B",
        "N0400",
        25,
        "33XWJ",
    )
    assert name.datatake_start == datetime(2022, 4, 13, 15, 7, 59, tzinfo=UTC)
    assert sentinel2.reference(text) == f"{text}.SAFE"
    assert sentinel2.reference("S2A_29RKH_20200219_0_L2A") == "S2A_29RKH_20200219_0_L2A"
    assert sentinel2.parse_name("S2A_29RKH_20200219_0_L2A") is None


def test_identifiers():
    assert sentinel2.datatake_start("GS2A_20190212T192651_019029_N02.12") == datetime(
        2019, 2, 12, 19, 26, 51, tzinfo=UTC
    )
    assert sentinel2.datastrip_start(
        "S2A_OPER_MSI_L2A_DS_ESRI_20201007T160858_S20190212T192646_N02.12"
    ) == datetime(2019, 2, 12, 19, 26, 46, tzinfo=UTC)
    assert sentinel2.datastrip_start("nothing") is None
