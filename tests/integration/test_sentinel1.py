"""Sentinel-1 from files to rows: backscatter and coherence, slices of a pass, legacy names."""

import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin
from rasterstats import zonal_stats

from cbm_core import bands
from cbm_core.verbs import Context
from cbm_extract.catalogue.verbs import ADD
from cbm_extract.products.definition import CARD_BANDS
from cbm_extract.report.verbs import SHOW
from tests.extraction import LEFT, ROWS, TOP, World, inside, statistics
from tests.factories import sql

pytestmark = pytest.mark.postgis

GRD = "S1A_IW_GRDH_1SDV_20240511T{start}_20240511T{stop}_053813_0689D1_{check}"
FIRST = GRD.format(start="053201", stop="053226", check="AAAA")
SECOND = GRD.format(start="053226", stop="053251", check="BBBB")
PAIR = "S1A_20240429T053201_20240511T053201_COH"


def box(left, top, right, bottom):
    """A rectangle in pixels of 10 m from the corner of the test's rasters."""
    return shapely.box(LEFT + 10 * left, TOP - 10 * bottom, LEFT + 10 * right, TOP - 10 * top)


def power(seed: int, cols: int = 80) -> np.ndarray:
    """Linear power with all that is no number in it, and some values below zero."""
    values = np.random.default_rng(seed).gamma(4, 0.02, (ROWS, cols)).astype("float32")
    values[:5] = 0
    values[20:24, 10:30] = np.nan
    values[30, ::3] *= -1
    return values


def envi(path: Path, values: np.ndarray) -> Path:
    """Write as SNAP does: one raster, big-endian, with a header beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="ENVI", width=values.shape[1], height=values.shape[0], count=1,
        dtype="float32", crs="EPSG:32632", transform=from_origin(LEFT, TOP, 10, 10),
    ) as target:  # fmt: skip
        target.write(values, 1)
    values.astype(">f4").tofile(path)
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text().replace("byte order = 0", "byte order = 1"))
    return path


def add(world: World, source: Path, **given):
    return ADD.run(
        ADD.arguments.model_validate({"source": source, **given}), Context(world.settings)
    )


@pytest.fixture
def world(db, tmp_path):
    return World.make(db, tmp_path)


def test_backscatter_in_envi_files(world):
    folder = world.folder / "card" / FIRST
    arrays = {"VV": power(1), "VH": power(2)}
    paths = {
        band: envi(folder / f"{FIRST}.data" / f"Gamma0_{band}.img", values)
        for band, values in arrays.items()
    }
    answer = add(world, str(world.folder / "card"))
    assert (answer.result["format"], answer.result["added"]) == ("card-bs", 1)
    assert not add(world, str(world.folder / "card")).changed
    shapes = [box(5, 2, 40, 40), box(50, 50, 56, 58), box(2, 0, 9, 4)]
    ids = world.parcels(shapes)
    world.extract(products=["bs"])
    rows = world.rows("bs")
    assert set(rows) == set(ids[:2]), "the third lies where there is no data"
    for number, shape in zip(ids[:2], shapes, strict=False):
        valid = []
        for band, values in arrays.items():
            seen = inside(shape, paths[band]) & np.isfinite(values) & (values != 0)
            valid.append(int(seen.sum()))
            np.testing.assert_allclose(
                rows[number].stats[band], statistics(values[seen]), rtol=1e-6
            )
        assert rows[number].imaged == rows[number].clear == max(valid)
        assert rows[number].classes is None
    assert rows[ids[0]].stats["VV"][3] < 0, "negative power is kept"


def test_backscatter_is_asked_for_and_shown_as_legacy_clients_know_it(world):
    values = np.stack([power(3), power(4)])
    path = world.raster(FIRST, values)
    description = world.folder / "scenes.yml"
    description.write_text(
        "card: bs\nfiles: '*.tif'\npattern: '(?P<reference>.+)\\.tif'\n"
        "constants: {orbit_direction: ascending, incidence_angle: '38.5'}\n"
        "bands: {VV: {index: 1}, VH: {index: 2}}\n"
    )
    add(world, str(world.folder))
    shape = box(30, 35, 60, 55)
    world.parcels([shape])
    world.extract(products=["bs"])
    mean = float(values[1][inside(shape, path)].mean(dtype=np.float64))
    asked = {"dataset": "tt:2024", "parcel": "p0", "bands": ["VHb"]}
    answer = SHOW.run(SHOW.arguments.model_validate(asked), Context(world.settings))
    (row,) = answer.result["rows"]
    assert (row["band"], row["mean"]) == ("VH", pytest.approx(mean, rel=1e-6))
    assert row["mean_db"] == pytest.approx(10 * math.log10(mean), rel=1e-5)
    assert sql(
        world.settings,
        "SELECT orbit_direction, relative_orbit, absolute_orbit, incidence_angle FROM cbm.scene",
    ) == [("ascending", (53813 - 73) % 175 + 1, 53813, 38.5)]


def test_coherence_of_two_bands_in_one_file(world):
    values = np.clip(np.stack([power(5), power(6)]) * 4, 0, 1)
    path = world.raster(PAIR, values)
    answer = add(world, str(world.folder), format="card-coh12")
    assert answer.result["added"] == 1
    assert sql(
        world.settings,
        """SELECT card, obstime::text, reference_time::text, temporal_baseline_days
           FROM cbm.scene""",
    ) == [("c12", "2024-05-11 05:32:01+00", "2024-04-29 05:32:01+00", 12)]
    shape = box(5, 2, 40, 40)
    (number,) = world.parcels([shape])
    world.extract(products=["c12"])
    for band, array in zip(("VV", "VH"), values, strict=True):
        seen = inside(shape, path) & np.isfinite(array) & (array != 0)
        np.testing.assert_allclose(
            world.rows("c12")[number].stats[band], statistics(array[seen]), rtol=1e-6
        )


def test_a_parcel_on_the_seam_of_two_slices_has_one_preferred_row(world):
    """Each slice tells what it shows; the fuller row is preferred, whichever came first."""
    first, second = power(7), power(7)
    first[40:], second[:30] = 0, 0
    folder = world.folder / "card"
    for name, values in ((FIRST, first), (SECOND, second)):
        for band in ("VV", "VH"):
            envi(folder / f"{name}.data" / f"Gamma0_{band}.img", values)
    assert add(world, str(folder)).result["superseded"] == 0
    upper, lower, inner = box(2, 25, 8, 42), box(2, 28, 8, 50), box(2, 50, 8, 55)
    world.parcels([upper, lower, inner])
    world.extract(products=["bs"])
    assert sql(world.settings, "SELECT count(*) FROM cbm.signature") == [(5,)]
    assert sql(
        world.settings,
        """SELECT pid, reference, px_imaged FROM cbm.signature_long
           WHERE band = 'VV' ORDER BY pid""",
    ) == [("p0", FIRST, 6 * 15), ("p1", SECOND, 6 * 20), ("p2", SECOND, 6 * 5)]
    # Another satellite or another pass is another date.
    sql(world.settings, "UPDATE cbm.scene SET absolute_orbit = 1 WHERE reference = %s", FIRST)
    shown = sql(world.settings, "SELECT count(*) FROM cbm.signature_long WHERE band = 'VV'")
    assert shown == [(5,)]


def test_legacy_names_are_the_same_in_database_and_code(db):
    names = [*CARD_BANDS["s2"], "NDVI", "SCL", "VV", "VH"]
    pairs = [(card, band) for card in CARD_BANDS for band in names]
    found = sql(
        db,
        """SELECT card, band, cbm.legacy_band(card, band)
           FROM unnest(%s::text[], %s::text[]) AS asked (card, band)""",
        [card for card, _ in pairs], [band for _, band in pairs],
    )  # fmt: skip
    assert found == [(card, band, bands.legacy(card, band)) for card, band in pairs]


def test_real_coherence(world, data_dir):
    """12-day coherence over Morocco, in degrees, against rasterstats."""
    folder = data_dir / "s1/eo_tools/test-full-processor"
    path = folder / "S1_InSAR_2023-09-04-063730__2023-09-16-063730/coh_vv.tif"
    if not path.is_file():
        pytest.skip(f"no {path}")
    description = world.folder / "scenes.yml"
    description.write_text(
        "card: c12\nfiles: '*/coh_*.tif'\n"
        "pattern: '(?P<reference>S1_InSAR_(?P<reference_time>.{17})__(?P<sensing>.{17}))/"
        "coh_(?P<band>vv)\\.tif'\n"
        "constants: {platform: S1A, orbit_direction: descending, orbit: '52'}\n"
        "times: {reference_time: '%Y-%m-%d-%H%M%S', sensing: '%Y-%m-%d-%H%M%S'}\n"
        "bands: {VV: {token: vv}}\n"
    )
    sql(world.settings, "UPDATE cbm.dataset SET imagery_start = '2023-01-01'")
    add(world, str(folder), description=str(description), card="c12")
    with rasterio.open(path) as source:
        values, transform = source.read(1), source.transform
        west, south, east, north = source.bounds
    rng = np.random.default_rng(0)
    shapes = [
        shapely.Point(rng.uniform(west, east), rng.uniform(south, north)).buffer(
            rng.uniform(0.0003, 0.003), 3
        )
        for _ in range(60)
    ]
    ids = world.parcels(shapes, crs="EPSG:4326")
    world.extract(products=["c12"])
    expected = zonal_stats(
        shapes, values, affine=transform, nodata=0,
        stats=["count", "mean", "std", "min", "max", *(f"percentile_{p}" for p in (25, 50, 75))],
    )  # fmt: skip
    rows = world.rows("c12")
    assert {n for n, e in zip(ids, expected, strict=True) if e["count"]} == set(rows)
    assert len(rows) > 40
    for number, other in zip(ids, expected, strict=True):
        if other["count"]:
            found = rows[number].stats["VV"]
            np.testing.assert_allclose(found, list(_ordered(other)), rtol=2e-6)
            assert 0 < found[3] <= found[4] <= 1


def _ordered(stats: dict) -> list[float]:
    names = ("count", "mean", "std", "min", "max")
    return [*(stats[name] for name in names), *(stats[f"percentile_{p}"] for p in (25, 50, 75))]


def test_orbits_relate_scenes_without_an_absolute_one(world):
    """Where only the relative orbit is known, it tells the pass within an hour."""
    paths = {"VV": world.raster("a", power(8)), "VH": world.raster("b", power(9))}
    for reference, second in (("one", 0), ("two", 25)):
        world.scene(
            paths, reference=reference, card="bs", tile="",
            obstime=f"2024-05-11T05:32:{second:02}Z",
        )  # fmt: skip
    world.parcels([box(30, 35, 60, 55)])
    world.extract(products=["bs"])
    count = "SELECT count(*) FROM cbm.signature_long WHERE band = 'VV'"
    assert sql(world.settings, count) == [(2,)]
    sql(world.settings, "UPDATE cbm.scene SET relative_orbit = 52")
    assert sql(world.settings, count) == [(1,)]
