"""What cannot work is refused with one clear message, before anything is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.deployment import Deployment

REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "operating system": (
        {"__cbm_preflight_supported": ["Debian 99"], "__cbm_preflight_untested": ["Ubuntu 24.04"]},
        ["localhost runs Debian", "Supported: Debian 99", "untested: Ubuntu 24.04"],
    ),
    "ansible-core too new": (
        {"__cbm_preflight_ansible_below": "2.0.0"},
        ["need ansible-core", "below 2.0.0", "this is 2."],
    ),
    "ansible-core too old": (
        {"__cbm_preflight_ansible_min": "99.0.0"},
        ["need ansible-core 99.0.0 or newer", "this is 2."],
    ),
    "renamed variable": (
        {"__cbm_preflight_renamed": {"cbm_old_name": "write cbm_new_name"}, "cbm_old_name": 1},
        ["no longer reads", "cbm_old_name: write cbm_new_name"],
    ),
    "full disk": (
        {"cbm_preflight_free_disk_mb": 999_999_999},
        ["MB free; 999999999 MB are needed", "cbm_preflight_free_disk_mb"],
    ),
    "wrong type": (
        {"cbm_preflight_free_disk_mb": "much"},
        ["cbm_preflight_free_disk_mb", "much"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_site_refuses(deployment: Deployment, case: str) -> None:
    variables, words = REFUSED[case]
    done = deployment.run("site", "--check", **variables)
    assert done.failed == 1
    assert done.changed == 0
    text = " ".join(done.output.split())
    for word in words:
        assert word in text
    assert "Traceback" not in done.output


DESCRIBED: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "No datasets are described"),
    "no year": ({"cbm_datasets": [{"dataset": {"aoi": "ie"}}]}, "`dataset` with `aoi` and `year`"),
    "unknown key": (
        {"cbm_datasets": [{"dataset": {"aoi": "ie", "year": 2024}, "parcel": []}]},
        "Found: dataset, parcel",
    ),
    "relative path on nothing": (
        {"cbm_datasets": [{"dataset": {"aoi": "ie", "year": 2024}, "parcels": [{"source": "x"}]}]},
        "an absolute path or a URL",
    ),
}


@pytest.mark.parametrize("case", DESCRIBED)
@pytest.mark.parametrize("playbook", ["import_parcels", "catalogue", "extract"])
def test_data_playbooks_refuse(deployment: Deployment, playbook: str, case: str) -> None:
    variables, words = DESCRIBED[case]
    done = deployment.run(playbook, **variables)
    assert done.failed == 1
    assert words in " ".join(done.output.split())


def test_demo_refuses_a_folder_without_description(deployment: Deployment, tmp_path: Path) -> None:
    done = deployment.run("demo", "--check", demo_data=str(tmp_path))
    assert done.failed == 1
    assert f"There is no {tmp_path}/demo.yml" in " ".join(done.output.split())
