"""Real parcels and scenes through the playbooks: seven Swiss wheat fields of 2022."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.deployment import Deployment, Run

FIELDS = {
    "Arenenberg": ["Broatefaeld"],
    "Strickhof": ["Bramenwies", "Fluegenrain", "Hohrueti"],
    "SwissFutureFarm": ["Altkloster", "Ruetteli"],
    "Witzwil": ["Parzelle35"],
}
NAMES = sorted(name for names in FIELDS.values() for name in names)
PLAYBOOKS = ["import_parcels", "catalogue", "extract"]
PRODUCTS = """
products:
  - name: wheat
    card: s2
    bands: [B02, B03, B04, B05, B06, B07, B8A, B11, B12]
    indices: [NDVI_B8A]
"""


def described(data: Path, folder: Path) -> list[dict[str, Any]]:
    """What an operator would write into the inventory; each field is a layer with one parcel."""
    (folder / "products.yml").write_text(PRODUCTS, encoding="utf-8")
    swiss = data / "s2/swiss_wheat"
    shapes = swiss / "data/auxiliary/field_parcels_ww_2022"
    description = Path(__file__).parents[1] / "data/swiss_wheat_scenes.yml"
    return [
        {
            "dataset": {"aoi": "ch", "year": 2022},
            "folder": str(folder),
            "parcels": [
                {
                    "source": str(shapes / site / f"{name}.shp"),
                    "layer": name.lower(),
                    "id": "filename",
                }
                for site, names in FIELDS.items()
                for name in names
            ],
            "scenes": [{"source": str(swiss / "stacks"), "description": str(description)}],
            "product_file": "products.yml",
        }
    ]


@dataclass
class Story:
    """Each playbook in check mode, for real, and again, with the tables' sizes in between."""

    checked: dict[str, Run]
    content_before: dict[str, dict[str, int]]
    content_checked: dict[str, dict[str, int]]
    first: dict[str, Run]
    second: dict[str, Run]
    checked_again: dict[str, Run]


@pytest.fixture(scope="module")
def story(
    deployment: Deployment, data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Story:
    given = {"cbm_datasets": described(data_dir, tmp_path_factory.mktemp("swiss"))}
    told = Story({}, {}, {}, {}, {}, {})
    deployment.must("site")
    for name in PLAYBOOKS:
        told.content_before[name] = deployment.content()
        told.checked[name] = deployment.must(name, "--check", "--diff", **given)
        told.content_checked[name] = deployment.content()
        told.first[name] = deployment.must(name, **given)
    for name in PLAYBOOKS:
        told.second[name] = deployment.must(name, **given)
        told.checked_again[name] = deployment.must(name, "--check", "--diff", **given)
    return told


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_check_reports_and_changes_nothing(story: Story, name: str) -> None:
    assert story.checked[name].changed > 0
    assert story.content_checked[name] == story.content_before[name]


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_second_run_changes_nothing(story: Story, name: str) -> None:
    assert story.first[name].changed > 0
    assert story.second[name].changed == 0, story.second[name].output
    assert story.checked_again[name].changed == 0, story.checked_again[name].output


def test_seven_fields_in_three_crs(story: Story, deployment: Deployment) -> None:
    assert story.first
    found = deployment.cbm("parcels list", dataset="ch:2022")["parcel_sets"]
    assert sorted(one["layer"] for one in found) == [name.lower() for name in NAMES]
    assert {one["crs"] for one in found} == {"EPSG:2056", "EPSG:4326", "EPSG:32632"}
    parcels = deployment.query("SELECT pid, layer FROM cbm.parcel ORDER BY 1")
    assert parcels == [(name, name.lower()) for name in NAMES]


def test_149_chips_are_140_acquisitions(story: Story, deployment: Deployment) -> None:
    assert story.first
    counts = deployment.query("SELECT state, count(*) FROM cbm.scene GROUP BY 1 ORDER BY 1")
    assert counts == [("active", 140), ("superseded", 9)]


def test_everything_active_is_extracted(story: Story, deployment: Deployment) -> None:
    assert story.first
    states = deployment.query("SELECT state, count(*) FROM cbm.work_item GROUP BY 1")
    assert [state for state, _ in states] == ["done"]
    without_run = deployment.query(
        "SELECT count(*) FROM cbm.work_item w"
        " WHERE NOT EXISTS (SELECT FROM cbm.run r WHERE r.scene_id = w.scene_id)"
    )
    assert without_run == [(0,)]


def test_wheat_is_greenest_in_may(story: Story, deployment: Deployment) -> None:
    assert story.first
    peaks = deployment.query(
        "SELECT DISTINCT ON (pid) pid, mean, obstime::date FROM cbm.signature_long"
        " WHERE band = 'NDVI_B8A' AND count >= 0.9 * px_imaged AND mean IS NOT NULL"
        " ORDER BY pid, mean DESC"
    )
    assert [pid for pid, _, _ in peaks] == NAMES
    for pid, mean, day in peaks:
        assert 0.83 <= mean <= 0.92, (pid, mean)
        assert date(2022, 5, 1) <= day <= date(2022, 5, 29), (pid, day)
