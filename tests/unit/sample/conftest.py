"""A small sample, made once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cbm_core.settings import Settings
from cbm_core.verbs import Answer, Context
from cbm_extract.sample.verbs import SAMPLE

SMALL = {"parcels": 60, "dates": 6, "size": 256}


def run(folder: Path, **arguments: Any) -> Answer:
    parsed = SAMPLE.arguments.model_validate({"out_dir": folder, **SMALL, **arguments})
    return SAMPLE.run(parsed, Context(Settings()))


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "small"
    assert run(folder).changed
    return folder


@pytest.fixture(scope="session")
def truth(made) -> dict[str, Any]:
    return json.loads((made / "truth.json").read_text())


@pytest.fixture(scope="session")
def items(made) -> dict[str, dict[str, Any]]:
    catalog = json.loads((made / "scenes/catalog.json").read_text())
    hrefs = [link["href"] for link in catalog["links"] if link["rel"] == "item"]
    documents = [json.loads((made / "scenes" / href).read_text()) for href in hrefs]
    return {document["id"]: document for document in documents}
