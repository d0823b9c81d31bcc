import hashlib
import json

import pytest
from pydantic import ValidationError

from cbm_core.errors import CbmError
from cbm_core.settings import Settings
from cbm_core.verbs import Context
from cbm_extract.products import catalogue
from cbm_extract.products.definition import Product
from cbm_extract.products.verbs import LIST, ListArguments
from cbm_extract.reduce.indices import INDICES

GRASS = {"name": "grass", "card": "s2", "bands": ["B04", "B08"], "indices": ["NDVI", "BSI"]}


def test_presets():
    s2, clear = catalogue.presets()["s2"], catalogue.presets()["s2_clear"]
    bands = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
    assert s2.variables == clear.variables == (*bands, "NDVI")
    assert s2.mask_classes == ()
    assert clear.mask_classes == (0, 1, 3, 8, 9, 10, 11)
    assert s2.tiles == clear.tiles == "home"
    assert s2.class_band == clear.class_band == "SCL"
    assert s2.buffer_m == clear.mask_dilation_m == 0
    for card in ("bs", "c6", "c12"):
        product = catalogue.presets()[card]
        assert (product.card, product.variables, product.tiles) == (card, ("VV", "VH"), "all")


def test_bands_of_indices_are_read_though_not_stored():
    product = Product.model_validate(GRASS)
    assert product.variables == ("B04", "B08", "NDVI", "BSI")
    assert product.reads == ("B04", "B08", "B11", "B02")
    for index in INDICES.values():
        alone = Product(name="one", card=index.card, indices=(index.name,))
        assert alone.reads == index.bands


def test_hash_is_that_of_the_definition_however_it_is_spelt():
    product = Product.model_validate({**GRASS, "mask_classes": [9, 3]})
    same = Product.model_validate(
        {**GRASS, "name": "meadow", "mask_classes": [3, 9], "buffer_m": 0, "class_band": "SCL"}
    )
    assert product.hash == same.hash == hashlib.sha256(product.canonical_json.encode()).digest()
    assert "name" not in json.loads(product.canonical_json)
    others = [
        {"bands": ["B08", "B04"]},
        {"indices": ["NDVI"]},
        {"mask_classes": [3]},
        {"mask_dilation_m": 20},
        {"min_clear_share": 0.5},
        {"buffer_m": 5},
        {"tiles": "all"},
    ]
    hashes = {
        Product.model_validate({**GRASS, "mask_classes": [3, 9], **other}).hash for other in others
    }
    assert len(hashes) == len(others)
    assert product.hash not in hashes


def test_hashes_of_products_without_a_clear_share_stay():
    s2, clear = catalogue.presets()["s2"], catalogue.presets()["s2_clear"]
    assert s2.hash.hex()[:16] == "24eb7af3fb7a4978"
    assert clear.hash.hex()[:16] == "b929742a8fcba2a1"
    assert "min_clear_share" not in clear.definition
    limited = Product.model_validate({**clear.model_dump(), "min_clear_share": 0.8})
    assert limited.definition["min_clear_share"] == 0.8


@pytest.mark.parametrize("share", [0, 0.5])
def test_registered_definition_reads_back(share):
    product = Product.model_validate(
        {**GRASS, "mask_classes": [3, 9], "buffer_m": 2.5, "min_clear_share": share}
    )
    stored = json.loads(product.canonical_json)
    again = Product.from_definition("grass", stored)
    assert again == product
    assert again.hash == product.hash


def test_sentinel_1_has_no_class_band():
    product = Product(name="bs", card="bs", bands=("VV", "VH"))
    assert product.class_band is None
    with pytest.raises(ValidationError, match="no class band"):
        Product(name="bs", card="bs", bands=("VV",), mask_classes=(9,))


def test_a_product_does_not_change():
    product = Product.model_validate(GRASS)
    with pytest.raises(ValidationError):
        product.buffer_m = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bands": ["B04", "B10"]}, "unknown band 'B10' for card s2 (known: B01, B02"),
        ({"indices": ["NDXI"]}, "unknown index 'NDXI' for card s2 (known: NDVI"),
        ({"card": "s3"}, "unknown card 's3' (known: s2, bs, c6, c12)"),
        ({"card": "c6", "bands": ["VV"]}, "unknown index 'NDVI' for card c6 (known: none)"),
        ({"bands": [], "indices": []}, "neither bands nor indices"),
        ({"bands": ["B04", "B04"]}, "B04 named more than once"),
        ({"mask_classes": [12]}, "mask class 12 is not one of 0 to 11"),
        ({"mask_classes": [3, 3]}, "a mask class is named more than once"),
        ({"mask_dilation_m": 20}, "mask_dilation_m is given without mask_classes"),
        ({"min_clear_share": 0.5}, "min_clear_share is given without mask_classes"),
        ({"mask_classes": [3], "min_clear_share": 1.5}, "min_clear_share: Input should be less"),
        ({"class_band": "QA60"}, "unknown class band 'QA60'"),
        ({"tiles": "some"}, "tiles: Input should be 'home' or 'all'"),
        ({"buffer_m": -5}, "buffer_m: Input should be greater"),
        ({"bandz": ["B04"]}, "bandz: Extra inputs"),
        ({"name": "Grass 1"}, "name: String should match"),
    ],
)
def test_what_is_wrong_is_said_with_the_product(change, message):
    text = json.dumps({"products": [{**GRASS, **change}]})  # JSON is YAML
    with pytest.raises(CbmError) as caught:
        catalogue.parse(text, "mine.yml")
    assert caught.value.code == "products_invalid"
    assert message in caught.value.message
    assert f"product {change.get('name', 'grass')}" in caught.value.message
    assert "mine.yml" in caught.value.message


def test_all_problems_are_named_at_once():
    text = "products: [{name: a, card: s2, bands: [B99]}, 7, {card: s2}, {name: b, card: x}]"
    with pytest.raises(CbmError) as caught:
        catalogue.parse(text, "x")
    problems = caught.value.details["problems"]
    assert [problem.split(":")[0] for problem in problems] == [
        "product a",
        "product 2 is no mapping",
        "product 3",
        "product b",
    ]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "products: {}", "products: []", "products: [", "product: []", "x\x00y"],
)
def test_files_of_another_form_are_refused(text, tmp_path):
    file = tmp_path / "mine.yml"
    file.write_text(text)
    with pytest.raises(CbmError) as caught:
        catalogue.load(file)
    assert caught.value.code == "products_invalid"
    assert str(file) in caught.value.message


def test_the_same_name_twice_is_refused():
    text = json.dumps({"products": [GRASS, GRASS]})
    with pytest.raises(CbmError, match="defined twice"):
        catalogue.parse(text, "x")


def test_missing_and_binary_files_are_refused(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x01")
    for name in ("absent.yml", "binary"):
        with pytest.raises(CbmError) as caught:
            catalogue.load(tmp_path / name)
        assert caught.value.code == "products_unreadable"


def test_choosing_by_name(tmp_path):
    file = tmp_path / "mine.yml"
    file.write_text(json.dumps({"products": [GRASS, {**GRASS, "name": "s2"}]}))
    chosen = catalogue.choose(["s2_clear", "grass", "s2"], file)
    assert [one.name for one in chosen] == ["s2_clear", "grass", "s2"]
    assert chosen[2].bands == ("B04", "B08"), "the file's own goes before the preset"
    with pytest.raises(CbmError) as caught:
        catalogue.choose(["s2", "grass"])
    assert caught.value.code == "product_unknown"
    assert "grass" in caught.value.message


def test_list_shows_presets_and_the_files(tmp_path):
    context = Context(settings=Settings())
    answer = LIST.run(ListArguments(), context)
    names = ["s2", "s2_clear", "bs", "c6", "c12"]
    assert [one["name"] for one in answer.result["products"]] == names
    assert not answer.changed
    file = tmp_path / "mine.yml"
    file.write_text(json.dumps({"products": [{**GRASS, "mask_classes": [9], "buffer_m": 5}]}))
    answer = LIST.run(ListArguments(file=file), context)
    mine = answer.result["products"][-1]
    assert mine["name"] == "grass"
    assert mine["source"] == str(file)
    assert mine["variables"] == ["B04", "B08", "NDVI", "BSI"]
    line = answer.text.splitlines()[-1]
    assert "masks classes 9" in line
    assert "5 m inwards" in line
