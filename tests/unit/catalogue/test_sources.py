"""What a source is taken for."""

import json
from pathlib import Path

import pytest

from cbm_core.errors import CbmError
from cbm_extract.catalogue import sources
from cbm_extract.catalogue.documents import Rewrites
from cbm_extract.catalogue.sources import recognise


@pytest.fixture
def places(tmp_path) -> Path:
    for name, file in (
        ("described", "scenes.yml"),
        ("product.SAFE", "MTD_MSIL2A.xml"),
        ("archive/2022/product.SAFE", "MTD_MSIL2A.xml"),
        ("stac", "catalog.json"),
        ("collection", "collection.json"),
        ("both.SAFE", "MTD_MSIL2A.xml"),
        ("both.SAFE", "scenes.yml"),
        ("plain", "a.tif"),
    ):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / file).write_text("")
    (tmp_path / "items.geojson").write_text(json.dumps({}))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("described", "folder"),
        ("product.SAFE", "safe"),
        ("archive", "safe"),
        ("stac", "stac"),
        ("collection", "stac"),
        ("items.geojson", "stac"),
        ("both.SAFE", "folder"),
    ],
)
def test_formats_are_recognised(places, name, expected):
    assert recognise(str(places / name), None, None).format == expected


def test_a_catalogue_in_a_folder_is_found(places):
    assert recognise(str(places / "stac"), None, None).address == str(
        places / "stac" / "catalog.json"
    )
    assert recognise(str(places / "collection"), "stac", None).address.endswith("collection.json")


def test_told_formats_and_descriptions_win(places):
    assert recognise(str(places / "both.SAFE"), "safe", None).format == "safe"
    named = recognise(str(places / "product.SAFE"), None, "names.yml")
    assert (named.format, named.description) == ("folder", Path("names.yml"))
    assert recognise("https://h/catalog.json", None, None).format == "stac"


@pytest.mark.parametrize(
    ("name", "format_", "description", "code"),
    [
        ("none", None, None, "source_missing"),
        ("plain", None, None, "source_unknown"),
        ("plain/a.tif", None, None, "source_unknown"),
        ("plain", "stac", None, "source_unknown"),
        ("stac", "stac", "names.yml", "description_not_wanted"),
    ],
)
def test_unclear_sources(places, name, format_, description, code):
    with pytest.raises(CbmError) as caught:
        recognise(str(places / name), format_, description)
    assert caught.value.code == code


def test_a_folder_without_description(places):
    source = recognise(str(places / "plain"), "folder", None)
    with pytest.raises(CbmError) as caught:
        sources.read(source, Rewrites())
    assert caught.value.code == "description_missing"
    with pytest.raises(CbmError) as caught:
        sources.read(source, Rewrites.parse(["a=b"]))
    assert caught.value.code == "rewrite_not_wanted"
