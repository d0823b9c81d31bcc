"""Text encodings of shapefiles: declared or told, else refused."""

import pytest

from cbm_core.errors import CbmError
from cbm_extract.parcels import dbf
from tests.unit.parcels import files

LANGUAGE_DRIVER = 29


def danish(path, encoding, cpg=None, driver=None):
    """A shapefile with Danish text in an encoding; what it declares is then set by hand."""
    parcels = files.frame(2, name=["Græs", "Rug"], plain=["a", "b"])
    shp = files.shapefile(path, parcels, encoding)
    shp.with_suffix(".cpg").unlink(missing_ok=True)
    if cpg is not None:
        shp.with_suffix(".cpg").write_text(cpg)
    if driver is not None:
        content = bytearray(shp.with_suffix(".dbf").read_bytes())
        content[LANGUAGE_DRIVER] = driver
        shp.with_suffix(".dbf").write_bytes(content)
    return shp


def crop_names(shp, **arguments):
    return [row[1] for row in files.read_rows(shp, crop_name="name", **arguments).values()]


def refused(shp, code, **arguments):
    with pytest.raises(CbmError) as caught:
        crop_names(shp, **arguments)
    assert caught.value.code == code
    return caught.value


@pytest.mark.parametrize(
    ("written", "cpg", "driver"),
    [
        ("UTF-8", "UTF-8", 0),
        ("UTF-8", "utf8\n", 0x57),
        ("ISO-8859-1", "ISO-8859-1", 0x57),
        ("ISO-8859-1", "88591", 0),
        ("CP1252", "ANSI 1252", 0),
        ("CP1252", "1252", 0x03),
        ("CP1252", None, 0x03),
        ("CP865", None, 0x08),
    ],
)
def test_declared_encodings(tmp_path, written, cpg, driver):
    shp = danish(tmp_path / "a.shp", written, cpg, driver)
    assert crop_names(shp) == ["Græs", "Rug"]


@pytest.mark.parametrize("driver", [0, 0x57])
def test_undeclared_encoding_has_to_be_told(tmp_path, driver):
    shp = danish(tmp_path / "a.shp", "CP1252", None, driver)
    error = refused(shp, "encoding_missing")
    assert "column name" in error.message
    assert crop_names(shp, encoding="cp1252") == ["Græs", "Rug"]


def test_undeclared_encoding_of_columns_that_are_not_read_does_not_matter(tmp_path):
    shp = danish(tmp_path / "a.shp", "CP1252", None, 0x57)
    assert len(files.read(shp, crop_name="plain").spool) == 2


def test_undeclared_encoding_of_a_column_name(tmp_path):
    parcels = files.frame(1, Flur=["x"]).rename(columns={"Flur": "Fläche"})
    shp = files.shapefile(tmp_path / "a.shp", parcels, "ISO-8859-1")
    shp.with_suffix(".cpg").unlink()
    with pytest.raises(CbmError) as caught:
        files.read(shp, crop_name="Fläche")
    assert caught.value.code == "encoding_missing"
    assert len(files.read(shp, crop_name="Fläche", encoding="latin-1").spool) == 1


def test_contradictions(tmp_path):
    refused(danish(tmp_path / "a.shp", "UTF-8", "UTF-8", 0xC8), "encoding_contradictory")
    shp = danish(tmp_path / "b.shp", "UTF-8", "UTF-8")
    refused(shp, "encoding_contradictory", encoding="cp1252")
    assert crop_names(shp, encoding="utf_8") == ["Græs", "Rug"]
    gpkg = files.gpkg(tmp_path / "c.gpkg")
    with pytest.raises(CbmError) as caught:
        files.read(gpkg, encoding="cp1252")
    assert caught.value.code == "encoding_contradictory"
    assert len(files.read(gpkg, encoding="utf-8").spool) == 3


def test_text_that_is_not_of_the_encoding(tmp_path):
    error = refused(danish(tmp_path / "a.shp", "CP1252", "UTF-8"), "encoding_invalid")
    assert "record 1" in error.message
    refused(danish(tmp_path / "b.shp", "CP1252", "no such"), "encoding_unknown")
    refused(danish(tmp_path / "c.shp", "CP1252"), "encoding_unknown", encoding="klingon")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("UTF-8", "utf-8"),
        ("1250", "cp1250"),
        ("Windows-1250", "cp1250"),
        ("OEM 866", "cp866"),
        ("ISO 8859-2".replace(" ", "-"), "iso8859-2"),
        ("885915", "iso8859-15"),
        ("Big5", "big5"),
    ],
)
def test_names_of_encodings(name, expected):
    assert dbf.parse_encoding(name) == expected


@pytest.mark.parametrize("part", [".shp", ".dbf"])
def test_truncated_files(tmp_path, part):
    shp = files.shapefile(tmp_path / "a.shp", files.frame(50))
    content = shp.with_suffix(part).read_bytes()
    shp.with_suffix(part).write_bytes(content[: len(content) // 2])
    with pytest.raises(CbmError, match=f"a{part}") as caught:
        files.read(shp)
    assert caught.value.code == "source_damaged"


@pytest.mark.parametrize("part", [".shx", ".dbf"])
def test_missing_parts(tmp_path, part):
    shp = files.shapefile(tmp_path / "a.shp")
    shp.with_suffix(part).unlink()
    with pytest.raises(CbmError, match=f"missing: {part}") as caught:
        files.read(shp)
    assert caught.value.code == "shapefile_incomplete"


def test_capital_extensions(tmp_path):
    shp = files.shapefile(tmp_path / "a.shp")
    for part in tmp_path.iterdir():
        part.rename(part.with_suffix(part.suffix.upper()))
    assert len(files.read(shp.with_suffix(".SHP")).spool) == 3
