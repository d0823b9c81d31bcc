"""Real parcels and scenes through the playbooks and two workers: seven Swiss wheat fields of 2022.

Every statistic of every chip is compared to numpy's.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize

from tests.e2e.deployment import Deployment, Run
from tests.e2e.stories import Changes, Seen
from tests.extraction import statistics

pytestmark = pytest.mark.data

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
    # So that every active chip can be compared.
    tiles: all
"""
BANDS = ["B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12"]
# The demo's scenes are in the same catalogue.
SCENES = "FROM cbm.scene WHERE assets -> 'B02' ->> 'href' LIKE '%/swiss_wheat/%'"


def fields_of(data: Path) -> dict[str, Path]:
    """Each field's shapefile."""
    folder = data / "s2/swiss_wheat/data/auxiliary/field_parcels_ww_2022"
    return {name: folder / site / f"{name}.shp" for site, names in FIELDS.items() for name in names}


def described(data: Path, folder: Path) -> list[dict[str, Any]]:
    """What an operator would write into the inventory; each field is a layer with one parcel."""
    (folder / "products.yml").write_text(PRODUCTS, encoding="utf-8")
    swiss = data / "s2/swiss_wheat"
    description = Path(__file__).parents[1] / "data/swiss_wheat_scenes.yml"
    imagery = {"imagery_start": "2019-01-01", "imagery_end": "2022-07-31"}
    return [
        {
            "dataset": {"aoi": "ch", "year": 2022, **imagery},
            "folder": str(folder),
            "parcels": [
                {"source": str(file), "layer": name.lower(), "id": "filename"}
                for name, file in fields_of(data).items()
            ],
            "scenes": [{"source": str(swiss / "stacks"), "description": str(description)}],
            "product_file": "products.yml",
        }
    ]


@dataclass
class Story:
    """Each playbook in check mode and for real, with the tables' sizes around the check; again."""

    checked: dict[str, Run]
    content_before: dict[str, dict[str, int]]
    content_checked: dict[str, dict[str, int]]
    first: dict[str, Run]
    second: Run


@pytest.fixture(scope="module")
def story(
    changes: Changes,
    deployment: Deployment,
    data_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Story:
    described_as = described(data_dir, tmp_path_factory.mktemp("swiss"))
    given = {**changes.given, "cbm_datasets": described_as}
    checked, before, after, first = {}, {}, {}, {}
    for name in PLAYBOOKS:
        before[name] = deployment.content()
        checked[name] = deployment.must(name, "--check", "--diff", **given)
        after[name] = deployment.content()
        first[name] = deployment.must(name, **given)
    return Story(checked, before, after, first, deployment.must(" ".join(PLAYBOOKS), **given))


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_check_reports_and_changes_nothing(story: Story, name: str) -> None:
    assert story.checked[name].changed > 0
    assert story.content_checked[name] == story.content_before[name]


def test_second_runs_change_nothing(story: Story) -> None:
    assert all(run.changed > 0 for run in story.first.values())
    assert story.second.changed == 0, story.second.output


def test_seven_fields_in_three_crs(story: Story, deployment: Deployment) -> None:
    assert story.first
    found = deployment.cbm("parcels list", dataset="ch:2022")["parcel_sets"]
    assert sorted(one["layer"] for one in found) == [name.lower() for name in NAMES]
    assert {one["crs"] for one in found} == {"EPSG:2056", "EPSG:4326", "EPSG:32632"}
    parcels = deployment.query(
        "SELECT pid, layer FROM cbm.parcel p JOIN cbm.dataset d ON d.id = p.dataset_id"
        " WHERE d.aoi = 'ch' ORDER BY 1"
    )
    assert parcels == [(name, name.lower()) for name in NAMES]


def test_149_chips_are_140_acquisitions(story: Story, deployment: Deployment) -> None:
    assert story.first
    counts = deployment.query(f"SELECT state, count(*) {SCENES} GROUP BY 1 ORDER BY 1")
    assert counts == [("active", 140), ("superseded", 9)]


def test_everything_active_is_extracted(story: Story, deployment: Deployment) -> None:
    assert story.first
    items = deployment.query(
        "SELECT w.state, count(*), count(r.scene_id) FROM cbm.work_item w"
        " JOIN cbm.dataset d ON d.id = w.dataset_id LEFT JOIN cbm.run r"
        " ON (r.scene_id, r.dataset_id) = (w.scene_id, w.dataset_id)"
        " WHERE d.aoi = 'ch' GROUP BY 1"
    )
    assert items == [("done", 140, 140)]


def test_workers_did_it(story: Story, deployment: Deployment) -> None:
    assert story.first
    workers = deployment.query(
        "SELECT DISTINCT worker FROM cbm.run r JOIN cbm.dataset d ON d.id = r.dataset_id"
        " WHERE d.aoi = 'ch'"
    )
    service = Seen.of(deployment).services["cbm-dask-worker"]
    assert workers
    for (worker,) in workers:
        assert _is_below(int(worker.rpartition(":")[2]), service), worker


def _is_below(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        status = Path(f"/proc/{pid}/status").read_text()
        pid = int(re.search(r"PPid:\s+(\d+)", status)[1])  # type: ignore[index]
    return False


def test_wheat_is_greenest_in_may(story: Story, deployment: Deployment) -> None:
    assert story.first
    peaks = deployment.query(
        "SELECT DISTINCT ON (pid) pid, mean, obstime::date FROM cbm.signature_long s"
        " JOIN cbm.monitorability m USING (geometry_id)"
        " WHERE aoi = 'ch' AND band = 'NDVI_B8A' AND count >= 0.9 * m.pixels_planned"
        " ORDER BY pid, mean DESC"
    )
    assert [pid for pid, _, _ in peaks] == NAMES
    for pid, mean, day in peaks:
        assert 0.83 <= mean <= 0.92, (pid, mean)
        assert date(2022, 5, 11) <= day <= date(2022, 5, 19), (pid, day)


def test_every_statistic_of_every_chip_equals_numpy(
    story: Story, deployment: Deployment, data_dir: Path
) -> None:
    assert story.first
    stored = stored_rows(deployment)
    chips = f"SELECT id, assets -> 'B02' ->> 'href' {SCENES} AND state = 'active'"
    shapes: dict[str, dict[str, Any]] = {}
    compared = 0
    for scene, href in deployment.query(chips):
        for pid, wanted in expected_rows(href, fields_of(data_dir), shapes).items():
            found = stored.pop((scene, pid))
            assert found["imaged"] == found["clear"] == wanted["imaged"]
            assert found["classes"] == wanted["classes"]
            assert set(found["bands"]) == set(wanted["bands"])
            for band, values in wanted["bands"].items():
                np.testing.assert_array_equal(found["bands"][band], values, f"{href} {pid} {band}")
            compared += 1
    assert not stored, "rows that numpy does not know"
    assert compared == 230


def stored_rows(deployment: Deployment) -> dict[tuple[int, str], dict[str, Any]]:
    """What is stored, by scene and parcel."""
    stored: dict[tuple[int, str], dict[str, Any]] = {}
    for scene, pid, band, imaged, clear, classes, stats in deployment.query(
        "SELECT scene_id, pid, band, px_imaged, px_clear, classes,"
        " array[count, mean, std, min, max, p25, p50, p75]::real[] FROM cbm.signature_all"
        " WHERE aoi = 'ch'"
    ):
        entry = stored.setdefault((scene, pid), {"bands": {}})
        entry |= {"imaged": imaged, "clear": clear, "classes": classes}
        entry["bands"][band] = np.array(
            [np.nan if value is None else value for value in stats], dtype=np.float32
        )
    return stored


def expected_rows(
    chip: str, fields: dict[str, Path], shapes: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """What numpy and GDAL's rasterize make of a chip: statistics per band, SCL counts, pixels.

    ``shapes`` keeps the fields by coordinate system.
    """
    with rasterio.open(chip) as source:
        assert list(source.descriptions) == [*BANDS, "SCL"]
        values = source.read().astype(np.float64)
        nodata, crs = source.nodata, source.crs.to_string()
        grid = {"out_shape": source.shape, "transform": source.transform, "dtype": "uint8"}
    if crs not in shapes:
        shapes[crs] = {
            name: geopandas.read_file(file).to_crs(crs).geometry.union_all()
            for name, file in fields.items()
        }
    gone = np.isnan(values) if np.isnan(nodata) else values == nodata
    rows = {}
    for name, shape in shapes[crs].items():
        row = expected_row(values, gone, rasterize([(shape, 1)], **grid).astype(bool))
        if row["imaged"]:
            rows[name] = row
    return rows


def expected_row(values: np.ndarray, gone: np.ndarray, inside: np.ndarray) -> dict[str, Any]:
    bands = {
        band: statistics(values[k][inside & ~gone[k]], scale=10_000) for k, band in enumerate(BANDS)
    }
    imaged = int(max(row[0] for row in bands.values()))
    red, infrared = values[2], values[6]
    both = inside & ~gone[2] & ~gone[6] & (red + infrared > 0)
    bands["NDVI_B8A"] = statistics((infrared[both] - red[both]) / (infrared[both] + red[both]))
    counts = Counter(np.nan_to_num(values[9][inside]).astype(int).tolist())
    return {"bands": bands, "imaged": imaged, "classes": {str(k): n for k, n in counts.items()}}
