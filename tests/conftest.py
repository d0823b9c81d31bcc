"""Fixtures every kind of test may use."""

import os
from pathlib import Path

import pytest

DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real data; its absence skips, or fails where CBM_REQUIRE_DATA is set."""
    folder = Path(os.environ.get("CBM_TEST_DATA", DEFAULT_DATA))
    if not folder.is_dir():
        reason = f"no real data at {folder} (set CBM_TEST_DATA)"
        if os.environ.get("CBM_REQUIRE_DATA") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
