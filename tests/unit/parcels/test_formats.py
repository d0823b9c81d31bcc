import json
import struct
import zipfile

import pytest

from cbm_core.errors import CbmError
from cbm_extract.parcels import formats
from cbm_extract.parcels.formats import Unusable
from tests.unit.parcels import files

GML = '<?xml version="1.0"?><!-- <a> --><gml:FeatureCollection xmlns:gml="{}">'
COLLECTION = json.dumps({"name": "x", "type": "FeatureCollection", "features": []})
SHP = b"\x00\x00\x27\x0a" + bytes(24) + struct.pack("<I", 1000) + bytes(68)

RECOGNISED = {
    "zip": (b"PK\x03\x04rest", "zip"),
    "empty zip": (b"PK\x05\x06" + bytes(18), "zip"),
    "7z": (b"7z\xbc\xaf\x27\x1c\x00\x04", "7z"),
    "parquet": (b"PAR1....PAR1", "parquet"),
    "flatgeobuf": (b"fgb\x03fgb\x00", "flatgeobuf"),
    "gpkg": (b"SQLite format 3\x00" + bytes(52) + b"GPKG", "gpkg"),
    "old gpkg": (b"SQLite format 3\x00" + bytes(52) + b"GP10", "gpkg"),
    "sqlite": (b"SQLite format 3\x00" + bytes(60), "sqlite"),
    "shp": (SHP + struct.pack(">I", 1), "shapefile"),
    "geojson": (COLLECTION.encode(), "geojson"),
    "geojson with mark": (b"\xef\xbb\xbf\n " + COLLECTION.encode(), "geojson"),
    "gml 3.2": (GML.format("http://www.opengis.net/gml/3.2").encode(), "gml"),
    "gml 2": (GML.format("http://www.opengis.net/gml").encode(), "gml"),
}

UNUSABLE = {
    "shx": (SHP + struct.pack(">I", 50), "format_unknown", "index of a shapefile"),
    "csv": (b"a,b\n1,2\n", "no_geometry", "CSV"),
    "semicolons": (b"a;b;c\r\n1;2;3\r\n", "no_geometry", "CSV"),
    "json": (b'{"type": "Topology"}', "format_unknown", "JSON"),
    "kml": (b'<kml xmlns="http://www.opengis.net/kml/2.2">', "format_unknown", "<kml>"),
    # GDAL would follow these to files and addresses elsewhere
    "vrt": (b"<OGRVRTDataSource><OGRVRTLayer>", "format_unknown", "<OGRVRTDataSource>"),
    "metadata": (
        b'<gmd:MD_Metadata xmlns:gmd="x" xmlns:gml="http://www.opengis.net/gml">',
        "format_unknown",
        "gmd:MD_Metadata",
    ),
    "prose": (b"Parcels of 2024\n\nsee the web site\n", "format_unknown", "unknown kind"),
    "empty": (b"", "format_unknown", "empty"),
    "blank": (b" \n\n", "format_unknown", "empty"),
    "noise": (bytes(range(256)), "format_unknown", "unknown kind"),
}


@pytest.mark.parametrize("name", RECOGNISED)
def test_recognised_by_content(tmp_path, name):
    content, expected = RECOGNISED[name]
    path = tmp_path / "no_extension.xyz"
    path.write_bytes(content)
    assert formats.recognise(path) == expected


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_is_called_what_it_is(tmp_path, name):
    content, code, what = UNUSABLE[name]
    path = tmp_path / "parcels.gpkg"
    path.write_bytes(content)
    found = formats.recognise(path)
    assert isinstance(found, Unusable)
    assert found.code == code
    assert what in found.what
    error = formats.refusal(path, found)
    assert error.code == code
    assert "parcels.gpkg" in error.message


def test_dbase_table_and_spreadsheet_have_no_geometry(tmp_path):
    shp = files.shapefile(tmp_path / "a.shp")
    assert formats.recognise(shp) == "shapefile"
    assert formats.recognise(tmp_path / "a.dbf").code == "no_geometry"
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    assert formats.recognise(tmp_path / "a.xlsx").code == "no_geometry"


def test_folder_is_a_filegdb_or_nothing(tmp_path):
    assert formats.recognise(tmp_path).code == "format_unknown"
    (tmp_path / "a00000001.gdbtable").write_bytes(b"\x03\x00\x00\x00")
    assert formats.recognise(tmp_path) == "filegdb"


def test_missing_file():
    with pytest.raises(CbmError) as caught:
        formats.recognise(files.Path("/nowhere/at/all.gpkg"))
    assert caught.value.code == "source_missing"
