"""STAC: what links lead to, and what they must not."""

import json
from typing import Any

import pytest
from urllib3.util.retry import Retry

from cbm_core.errors import CbmError
from cbm_extract.catalogue import documents, stac
from cbm_extract.catalogue.documents import Rewrites, resolve
from tests.unit.catalogue.stac_files import NAME, asset, item, only, put, refusal
from tests.unit.read.rasters import texture, write
from tests.unit.read.server import serve


def catalogue(*links: tuple[str, str], kind: str = "Catalog") -> dict[str, Any]:
    return {
        "type": kind,
        "id": "c",
        "links": [{"rel": rel, "href": href} for rel, href in links],
    }


def test_cycles_and_repeated_links_are_followed_once(tmp_path):
    put(tmp_path / "a.json", catalogue(("child", "sub/b.json"), ("child", "./sub/../sub/b.json")))
    put(
        tmp_path / "sub" / "b.json",
        catalogue(("parent", "../a.json"), ("child", "../a.json"), ("item", "i.json")),
    )
    put(tmp_path / "sub" / "i.json", item())
    assert only(str(tmp_path / "a.json")).reference == f"{NAME}.SAFE"


def test_the_collection_above_an_item_counts(tmp_path):
    document = item()
    del document["collection"]
    put(tmp_path / "i.json", document)
    above = {**catalogue(("item", "i.json"), kind="Collection"), "id": "sentinel-2-l2a"}
    assert only(put(tmp_path / "c.json", above)).assets["B04"].offset_source == "collection_rule"
    assert refusal(str(tmp_path / "i.json")).code == "offset_unknown"


def test_a_broken_branch_does_not_fell_the_tree(tmp_path):
    put(tmp_path / "i.json", item())
    (tmp_path / "broken.json").write_text("{")
    links = [("item", "i.json"), ("item", "none.json"), ("child", "broken.json")]
    reading = stac.read(put(tmp_path / "c.json", catalogue(*links)))
    assert len(reading.scenes) == 1
    assert [s.error.code for s in reading.skipped] == ["stac_missing", "stac_invalid"]


def page(*tiles: str, **next_: Any) -> dict[str, Any]:
    features = [item(NAME.replace("T33XWJ", f"T{tile}")) for tile in tiles]
    links = [{"rel": "next", **next_}] if next_ else []
    return {"type": "FeatureCollection", "features": features, "links": links}


def test_pages_of_a_search_are_followed(tmp_path):
    put(tmp_path / "2.json", page("33XWL", href="1.json"))  # leads back: read once
    reading = stac.read(put(tmp_path / "1.json", page("33XWJ", "33XWK", href="2.json")))
    assert [scene.tile for scene in reading.scenes] == ["33XWJ", "33XWK", "33XWL"]
    assert not reading.warnings
    assert not reading.skipped
    (tmp_path / "2.json").unlink()
    reading = stac.read(str(tmp_path / "1.json"))
    assert [scene.tile for scene in reading.scenes] == ["33XWJ", "33XWK"]
    assert [skipped.error.code for skipped in reading.skipped] == ["stac_missing"]


def test_pages_that_no_address_leads_to_are_reported(tmp_path):
    for next_ in ({"href": "2.json", "method": "POST"}, {"href": "2.json", "body": {"token": 1}}):
        reading = stac.read(put(tmp_path / "1.json", page("33XWJ", **next_)))
        assert len(reading.scenes) == 1
        assert any("one page" in text for text in reading.warnings)


def test_relative_local_assets(tmp_path):
    path = write(tmp_path / "data 1" / "B04.tif", texture(20, 30))
    document = item(
        assets={
            "B04": {"href": "../data%201/B04.tif"},
            "B05": {"href": "../data%201/B05.tif"},
        }
    )
    reading = stac.read(put(tmp_path / "items" / "i.json", document))
    scene = reading.scenes[0]
    assert scene.assets.keys() == {"B04"}
    assert scene.assets["B04"].href == str(path)
    assert scene.extent.bounds == (500_000, 5_199_800, 500_300, 5_200_000)
    assert any("no file for B05" in text for text in reading.warnings)


def test_over_http(tmp_path, monkeypatch):
    body = write(tmp_path / "B04.tif", texture(20, 30)).read_bytes()
    document = item(assets={"B04": {"href": "../B04.tif"}})
    files = {
        "/c/catalog.json": json.dumps(catalogue(("item", "./items/i.json"))).encode(),
        "/c/items/i.json": json.dumps(document).encode(),
        "/c/B04.tif": body,
    }
    with serve(files) as site:
        site.failures["/c/items/i.json"] = [503]
        scene = only(f"{site.url}/c/catalog.json")
        assert scene.assets["B04"].href == f"{site.url}/c/B04.tif"
        assert scene.extent.crs == "EPSG:32632"
        assert refusal(f"{site.url}/none.json").code == "stac_missing"
    monkeypatch.setattr(documents, "_RETRIES", Retry(total=1, backoff_factor=0))
    assert refusal("http://127.0.0.1:9/c.json").code == "stac_unreachable"


def test_the_web_cannot_name_local_files(tmp_path):
    write(tmp_path / "B04.tif", texture(20, 30))
    document = item(assets={"B04": {"href": f"file://{tmp_path}/B04.tif"}})
    with serve({"/i.json": json.dumps(document).encode()}) as site:
        assert refusal(f"{site.url}/i.json").code == "href_refused"
        meant = only(f"{site.url}/i.json", f"file://{tmp_path}/={tmp_path}/")
    assert meant.assets["B04"].href == f"{tmp_path}/B04.tif"


def test_resolving():
    none = Rewrites()
    assert resolve("https://h/a/b.json", "../c.tif", none) == "https://h/c.tif"
    assert resolve("https://h/a/b.json", "/etc/c.tif", none) == "https://h/etc/c.tif"
    assert resolve("/data/a/b.json", "../c.tif", none) == "/data/c.tif"
    assert resolve("/data/a/b.json", "/x/c.tif", none) == "/x/c.tif"
    assert resolve("/data/a/b.json", "file:///x/c%20d.tif", none) == "/x/c d.tif"
    mirror = Rewrites.parse(["s3://bucket/=/mirror/"])
    assert resolve("/data/b.json", "s3://bucket/k.tif", mirror) == "/mirror/k.tif"
    with pytest.raises(CbmError) as caught:
        Rewrites.parse(["nonsense"])
    assert caught.value.code == "rewrite_invalid"


def test_items_stay_here_while_their_images_are_in_an_object_storage(tmp_path):
    document = item(assets={"B04": asset("B04.tif")})
    put(tmp_path / "items/i.json", document)
    start = put(tmp_path / "catalog.json", catalogue(("item", "items/i.json")))
    scene = only(start, f"{tmp_path}/=s3://bucket/s2/")
    assert scene.assets["B04"].href == "s3://bucket/s2/items/B04.tif"
