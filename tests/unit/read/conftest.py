"""Reading remote files without the pauses that real networks need."""

import pytest

from cbm_extract.read import remote


@pytest.fixture(autouse=True)
def hasty(monkeypatch) -> None:
    monkeypatch.setattr(remote, "PATIENCE", remote.Patience(pause=0.01, silence=2.0))
