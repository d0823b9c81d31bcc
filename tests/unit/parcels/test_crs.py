import json

import pytest
from pyproj import CRS

from cbm_core.errors import CbmError
from cbm_extract.parcels.crs import resolve

KROVAK = (
    'PROJCS["S-JTSK_Krovak_East_North",GEOGCS["GCS_S_JTSK",DATUM["D_S_JTSK",SPHEROID['
    '"Bessel_1841",6377397.155,299.1528128]],PRIMEM["Greenwich",0.0],UNIT["Degree",'
    '0.0174532925199433]],PROJECTION["Krovak"],PARAMETER["False_Easting",0.0],PARAMETER['
    '"False_Northing",0.0],PARAMETER["Pseudo_Standard_Parallel_1",78.5],PARAMETER["Scale_Factor",'
    '0.9999],PARAMETER["Azimuth",30.28813975277778],PARAMETER["Longitude_Of_Center",'
    '24.83333333333333],PARAMETER["Latitude_Of_Center",49.5],PARAMETER["X_Scale",-1.0],PARAMETER['
    '"Y_Scale",1.0],PARAMETER["XY_Plane_Rotation",90.0],UNIT["Meter",1.0]]'
)
CUSTOM = "+proj=tmerc +lat_0=10 +lon_0=20 +ellps=GRS80 +units=m"
UNDEFINED = 'ENGCRS["Undefined Cartesian SRS",EDATUM["Unknown"],CS[Cartesian,2],AXIS["x",unspecified],AXIS["y",unspecified],LENGTHUNIT["metre",1]]'  # noqa: E501


def test_from_the_file():
    found = resolve("EPSG:25832", None, "f")
    assert (found.definition, found.srid, found.origin) == ("EPSG:25832", 25832, "file")
    assert resolve(KROVAK, None, "f").definition == "EPSG:5514"


def test_told_for_a_file_that_says_nothing():
    for nothing in (None, "", UNDEFINED):
        found = resolve(nothing, "EPSG:31370", "f")
        assert (found.srid, found.origin) == (31370, "told")


@pytest.mark.parametrize("nothing", [None, "", UNDEFINED])
def test_missing_is_an_error(nothing):
    with pytest.raises(CbmError, match="f does not say") as caught:
        resolve(nothing, None, "f")
    assert caught.value.code == "crs_missing"


@pytest.mark.parametrize(
    ("in_file", "told"),
    [("EPSG:25832", "EPSG:25833"), ("EPSG:4258", "EPSG:4326"), (KROVAK, "EPSG:2065"),
     ("EPSG:2056", "EPSG:21781"), ("EPSG:31467", "EPSG:31468"), ("EPSG:25832", "EPSG:32632"),
     ("EPSG:5513", "EPSG:5514")],
)  # fmt: skip
def test_contradiction_is_an_error(in_file, told):
    with pytest.raises(CbmError) as caught:
        resolve(in_file, told, "f")
    assert caught.value.code == "crs_contradictory"


@pytest.mark.parametrize(
    ("in_file", "told"),
    [
        (KROVAK, "EPSG:5514"),
        ("EPSG:25832", "urn:ogc:def:crs:EPSG::25832"),
        ("EPSG:4326", "OGC:CRS84"),
        ("OGC:CRS84", "EPSG:4326"),
        (CUSTOM, CUSTOM),
        (CRS.from_epsg(3035).to_json(), "EPSG:3035"),
    ],
)
def test_saying_the_same_in_other_words_is_none(in_file, told):
    assert resolve(in_file, told, "f").origin == "file"


def test_only_the_horizontal_part_counts():
    assert resolve("EPSG:7415", None, "f").srid == 28992  # RD New + NAP height
    assert resolve("EPSG:4979", None, "f").srid == 4326  # WGS 84 3D
    bound = CRS.from_user_input("EPSG:31467").to_wkt("WKT1_GDAL").replace(
        'SPHEROID["Bessel 1841",6377397.155,299.1528128,AUTHORITY["EPSG","7004"]]',
        'SPHEROID["Bessel 1841",6377397.155,299.1528128],TOWGS84[1,2,3,0,0,0,0]',
    )  # fmt: skip
    # 31467 has the northing first; WKT without axes is its twin 5677, and no contradiction
    assert resolve(bound, None, "f").srid == 5677
    assert resolve(bound, "EPSG:31467", "f").origin == "file"


@pytest.mark.parametrize("told", ["EPSG:999999", "Gauss", "EPSG:5703", ""])
def test_nonsense_is_refused(told):
    with pytest.raises(CbmError) as caught:
        resolve(None, told, "f")
    assert caught.value.code == ("crs_unknown" if told else "crs_missing")


def test_crs_without_a_code_gets_a_number_that_follows_from_it():
    one, again = resolve(CUSTOM, None, "f"), resolve(CUSTOM, None, "g")
    other = resolve(CUSTOM.replace("20", "21"), None, "f")
    assert 900_000 <= one.srid < 999_000
    assert one.srid == again.srid != other.srid
    assert CRS.from_user_input(one.definition) == CRS.from_user_input(one.definition)
    assert json.loads(CRS.from_user_input(one.definition).to_json())["type"] == "ProjectedCRS"


def test_units():
    assert resolve("EPSG:2263", None, "f").metres_per_unit == pytest.approx(0.3048, rel=1e-4)
    assert resolve("EPSG:4326", None, "f").metres_per_unit > 111_000
