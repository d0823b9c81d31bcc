"""Real parcels and scenes through the playbooks: seven Swiss wheat fields of 2022."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize

from tests.e2e import site_story
from tests.e2e.deployment import Deployment, Run
from tests.extraction import statistics

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
    tiles: all
"""
BANDS = ["B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12"]


def fields_of(data: Path) -> dict[str, Path]:
    """Each field's shapefile."""
    folder = data / "s2/swiss_wheat/data/auxiliary/field_parcels_ww_2022"
    return {name: folder / site / f"{name}.shp" for site, names in FIELDS.items() for name in names}


def described(data: Path, folder: Path) -> list[dict[str, Any]]:
    """What an operator would write into the inventory; each field is a layer with one parcel."""
    (folder / "products.yml").write_text(PRODUCTS, encoding="utf-8")
    swiss = data / "s2/swiss_wheat"
    description = Path(__file__).parents[1] / "data/swiss_wheat_scenes.yml"
    return [
        {
            "dataset": {"aoi": "ch", "year": 2022},
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
    """Each playbook in check mode, for real, and again, with the tables' sizes in between."""

    checked: dict[str, Run]
    content_before: dict[str, dict[str, int]]
    content_checked: dict[str, dict[str, int]]
    first: dict[str, Run]
    second: dict[str, Run]
    checked_again: dict[str, Run]


@pytest.fixture(scope="module")
def story(
    site: site_story.Story,
    deployment: Deployment,
    data_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Story:
    assert site.first.code == 0
    given = {"cbm_datasets": described(data_dir, tmp_path_factory.mktemp("swiss"))}
    told = Story({}, {}, {}, {}, {}, {})
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
        "SELECT DISTINCT ON (pid) pid, mean, obstime::date FROM cbm.signature_long s"
        " JOIN cbm.monitorability m USING (geometry_id)"
        " WHERE band = 'NDVI_B8A' AND count >= 0.9 * m.pixels_planned"
        " ORDER BY pid, mean DESC"
    )
    assert [pid for pid, _, _ in peaks] == NAMES
    for pid, mean, day in peaks:
        assert 0.83 <= mean <= 0.92, (pid, mean)
        assert date(2022, 5, 11) <= day <= date(2022, 5, 19), (pid, day)


def expected_rows(chip: Path, fields: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """What numpy and GDAL's rasterize make of a chip: statistics per band, SCL counts, pixels."""
    rows = {}
    with rasterio.open(chip) as source:
        values = source.read().astype(np.float64)
        nodata, crs = source.nodata, source.crs
        grid = {"out_shape": source.shape, "transform": source.transform, "dtype": "uint8"}
    gone = np.isnan(values) if np.isnan(nodata) else values == nodata
    for name, file in fields.items():
        shape = geopandas.read_file(file).to_crs(crs).geometry.iloc[0]
        inside = rasterize([(shape, 1)], **grid).astype(bool)
        bands = {
            band: statistics(values[k][inside & ~gone[k]], scale=10_000)
            for k, band in enumerate(BANDS)
        }
        imaged = int(max(row[0] for row in bands.values()))
        if not imaged:
            continue
        red, infrared = values[2], values[6]
        both = inside & ~gone[2] & ~gone[6] & (red + infrared > 0)
        bands["NDVI_B8A"] = statistics((infrared[both] - red[both]) / (infrared[both] + red[both]))
        classes, counts = np.unique(np.nan_to_num(values[9][inside]), return_counts=True)
        found = {str(int(one)): int(n) for one, n in zip(classes, counts, strict=True)}
        rows[name] = {"bands": bands, "imaged": imaged, "classes": found}
    return rows


def test_every_statistic_equals_numpy(story: Story, deployment: Deployment, data_dir: Path) -> None:
    assert story.first
    stored: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in deployment.query(
        "SELECT part, reference, pid, band, px_imaged, px_clear, classes,"
        " array[count, mean, std, min, max, p25, p50, p75]::real[] FROM cbm.signature_all"
    ):
        part, reference, pid, band, imaged, clear, classes, stats = row
        entry = stored.setdefault((part, reference, pid), {"bands": {}})
        entry |= {"imaged": imaged, "clear": clear, "classes": classes}
        entry["bands"][band] = np.array(
            [np.nan if value is None else value for value in stats], dtype=np.float32
        )
    active = deployment.query(
        "SELECT part, reference FROM cbm.scene WHERE state = 'active' AND obstime >= '2022-01-01'"
    )
    fields, compared = fields_of(data_dir), 0
    for part, reference in active:
        chip = data_dir / "s2/swiss_wheat/stacks" / part / reference / "SRF_S2.tiff"
        for pid, wanted in expected_rows(chip, fields).items():
            found = stored.pop((part, reference, pid))
            assert found["imaged"] == found["clear"] == wanted["imaged"]
            assert found["classes"] == wanted["classes"]
            assert set(found["bands"]) == set(wanted["bands"])
            for band, values in wanted["bands"].items():
                np.testing.assert_array_equal(
                    found["bands"][band], values, f"{part} {reference} {pid} {band}"
                )
                compared += len(values)
    assert not stored, "rows that numpy does not know"
    assert compared > 140 * 80
