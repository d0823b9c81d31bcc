"""STAC documents on disk."""

import json
from pathlib import Path
from typing import Any

import pytest

from cbm_core.errors import CbmError
from cbm_extract.catalogue import stac
from cbm_extract.catalogue.documents import Rewrites
from cbm_extract.scene import Scene

COGS = "https://sentinel-cogs.s3.us-west-2.amazonaws.com/"

NAME = "S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126"

SQUARE = {"type": "Polygon", "coordinates": [[[9, 46], [9, 47], [8, 47], [8, 46], [9, 46]]]}


def item(identifier: str = NAME, **changes: Any) -> dict[str, Any]:
    """An item like Planetary Computer's: bands by name, not a word about scale and offset."""
    document = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": identifier,
        "collection": "sentinel-2-l2a",
        "geometry": SQUARE,
        "properties": {
            "datetime": "2022-04-13T15:07:59.024Z",
            "platform": "Sentinel-2B",
            "proj:epsg": 32632,
            "s2:processing_baseline": "04.00",
        },
        "links": [],
        "assets": {"B04": asset()},
    }
    return {**document, **changes}


def asset(href: str = "https://example.org/B04.tif", **changes: Any) -> dict[str, Any]:
    document = {
        "href": href,
        "type": "image/tiff; application=geotiff",
        "roles": ["data"],
        "proj:transform": [10, 0, 500000, 0, -10, 5200000],
        "proj:shape": [1000, 2000],
    }
    return {**document, **changes}


def put(path: Path, document: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return str(path)


def only(address: str, *rewrites: str) -> Scene:
    reading = stac.read(address, Rewrites.parse(list(rewrites)))
    assert len(reading.scenes) == 1
    return reading.scenes[0]


def refusal(address: str) -> CbmError:
    with pytest.raises(CbmError) as caught:
        stac.read(address)
    return caught.value
