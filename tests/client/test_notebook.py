"""The example notebook runs as it is against a real server, and is kept without outputs."""

import base64
import json
import os
import re
from pathlib import Path

import pytest

from tests.api.conftest import PASSWORD
from tests.client.world import COLLECTION

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.postgis
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, site, working, tmp_path, monkeypatch):
    given = {
        "CBM_URL": site.url, "CBM_USER": "anna", "CBM_PASSWORD": PASSWORD,
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", "IPYTHONDIR": str(tmp_path),
        "JUPYTER_RUNTIME_DIR": str(tmp_path), "MPLCONFIGDIR": str(tmp_path),
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CBM_TOKEN", raising=False)
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()  # fmt: skip

    outputs = [one for cell in notebook.cells for one in cell.get("outputs", ())]
    assert not [one for one in outputs if one.get("name") == "stderr"]
    data = [one["data"] for one in outputs if "data" in one]
    drawn = [one["image/png"] for one in data if "image/png" in one]
    # A map, the curve, the strip, a chip, the peers and the crops; none is an empty sheet.
    assert len(drawn) == 6
    assert all(len(base64.b64decode(one)) > 5000 for one in drawn)
    assert any(COLLECTION in one.get("text/html", "") for one in data)
    assert PASSWORD not in json.dumps(notebook)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_outputs_and_places(path):
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None
    assert not re.search(r"(/home|/root|/tmp|/Users|/work)\b|[A-Z]:\\|://[0-9]", path.read_text())
    assert set(notebook["metadata"]["language_info"]) == {"name"}
