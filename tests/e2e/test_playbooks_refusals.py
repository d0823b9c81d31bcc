"""What cannot work is refused with one clear message, before anything is changed.

What else the checks of a host refuse is tried in the scenario of their role.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.api import settings_of
from tests.e2e.deployment import Deployment, Run
from tests.e2e.stories import Changes, Seen

REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "ansible-core too new": (
        {"__cbm_preflight_ansible_below": "2.0.0"},
        ["need ansible-core", "below 2.0.0", "this is 2."],
    ),
    "wrong type": (
        {"cbm_preflight_free_disk_mb": "much"},
        ["cbm_preflight_free_disk_mb", "much"],
    ),
}


def text_of(run: Run) -> str:
    return " ".join(run.output.split())


@pytest.mark.parametrize("case", REFUSED)
def test_site_refuses(deployment: Deployment, case: str) -> None:
    variables, words = REFUSED[case]
    done = deployment.run("site", "--check", **variables)
    assert done.failed == 1
    assert done.changed == 0
    for word in words:
        assert word in text_of(done)
    assert "Traceback" not in done.output


def test_another_port_is_refused(changes: Changes, deployment: Deployment) -> None:
    assert changes.run.code == 0
    done = deployment.run("site", "--tags", "cbm_postgis", cbm_postgis_port=5999)
    assert done.failed == 1
    assert "cbm_postgis_port says 5999" in text_of(done)
    assert done.changed == 0


def test_settings_that_the_api_refuses_do_not_reach_it(
    changes: Changes, deployment: Deployment
) -> None:
    before = Seen.of(deployment), settings_of(deployment)
    given = changes.given | {"cbm_api_settings": {"no_such": 1}}
    done = deployment.run("site", "--tags", "cbm_api", **given)
    assert done.failed == 1
    assert "has keys that mean nothing here: no_such" in text_of(done)
    assert (Seen.of(deployment), settings_of(deployment)) == before


DESCRIBED: dict[str, tuple[str, dict[str, Any], str]] = {
    "nothing": ("extract", {}, "No datasets are described"),
    "no year": (
        "catalogue",
        {"cbm_datasets": [{"dataset": {"aoi": "ie"}}]},
        "`dataset` with `aoi` and `year`",
    ),
    "unknown key": (
        "import_parcels",
        {"cbm_datasets": [{"dataset": {"aoi": "ie", "year": 2024}, "parcel": []}]},
        "Found: dataset, parcel",
    ),
    "relative path on nothing": (
        "import_parcels",
        {"cbm_datasets": [{"dataset": {"aoi": "ie", "year": 2024}, "parcels": [{"source": "x"}]}]},
        "an absolute path or a URL",
    ),
}


@pytest.mark.parametrize("case", DESCRIBED)
def test_data_playbooks_refuse(deployment: Deployment, case: str) -> None:
    """They include the same checks: each case in one of them, each of them in a case."""
    playbook, variables, words = DESCRIBED[case]
    done = deployment.run(playbook, **variables)
    assert done.failed == 1
    assert words in text_of(done)


def test_demo_refuses_a_folder_without_description(deployment: Deployment, tmp_path: Path) -> None:
    words = ("--check", "--start-at-task", "Name the folder with the data")
    done = deployment.run("demo", *words, demo_data=str(tmp_path))
    assert done.failed == 1
    assert f"There is no {tmp_path}/demo.yml" in text_of(done)
