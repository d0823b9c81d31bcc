"""Sentinel-1: what names and SNAP's headers say, the layouts, and what is refused."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio

from cbm_core.errors import CbmError
from cbm_extract.catalogue import description as descriptions
from cbm_extract.catalogue import dimap, folder, layouts, names, sentinel1, sources
from cbm_extract.catalogue.documents import Rewrites
from cbm_extract.catalogue.facts import Facts
from cbm_extract.catalogue.identity import acquisition, candidate, resolve
from cbm_extract.scene import Scene
from tests.unit.read.rasters import write

GRD = "S1B_IW_GRDH_1SDV_20211223T051122_20211223T051147_030148_039993_5371"
NEXT = "S1B_IW_GRDH_1SDV_20211223T051147_20211223T051212_030148_039993_A0B1"
SLC_1 = "S1A_IW_SLC__1SDV_20230904T063730_20230904T063757_050174_0609E3_DAA1"
SLC_2 = "S1A_IW_SLC__1SDV_20230916T063730_20230916T063757_050349_060FC9_1234"
BACKSCATTER = {
    "card": "bs",
    "files": "*.tif",
    "pattern": r"(?P<reference>.+)\.tif",
    "bands": {"VV": {"index": 1}, "VH": {"index": 2}},
}
DIM = """<Dimap_Document><Dataset_Sources>
  <MDElem name="metadata"><MDElem name="Abstracted_Metadata">
    <MDATTR name="PRODUCT" type="ascii">{name}</MDATTR>
    <MDATTR name="MISSION" type="ascii">SENTINEL-1B</MDATTR>
    <MDATTR name="PROC_TIME" type="utc">23-DEC-2021 07:00:01.500000</MDATTR>
    <MDATTR name="PASS" type="ascii">DESCENDING</MDATTR>
    <MDATTR name="REL_ORBIT" type="int32">22</MDATTR>
    <MDATTR name="ABS_ORBIT" type="int32">30148</MDATTR>
    <MDATTR name="first_line_time" type="utc">23-DEC-2021 05:11:22.654321</MDATTR>
    <MDATTR name="incidence_near" type="float64">30.5</MDATTR>
    <MDATTR name="incidence_far" type="float64">{far}</MDATTR>
    <MDElem name="Orbit_State_Vectors"><MDATTR name="PASS">ASCENDING</MDATTR></MDElem>
  </MDElem></MDElem>
</Dataset_Sources></Dimap_Document>"""


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def power(seed: int = 0, bands: int = 2) -> np.ndarray:
    values = np.random.default_rng(seed).gamma(4, 0.02, (bands, 20, 30)).astype("float32")
    values[:, :3] = 0
    return values


def put_backscatter(place: Path, name: str, dim: str | None = None) -> Path:
    for band, values in zip(("VV", "VH"), power(), strict=True):
        write(place / f"{name}.data" / f"Gamma0_{band}.img", values, driver="ENVI")
    if dim is not None:
        (place / f"{name}.dim").write_text(dim)
    return place


def read(place: Path, **given: str) -> list[Scene]:
    source = sources.recognise(str(place), given.get("format"), given.get("description"))
    return sources.read(source, Rewrites()).scenes


def described(place: Path, document: dict) -> folder.Reading:
    return folder.read(place, descriptions.Description.model_validate(document))


def test_relative_orbits_are_those_of_the_manifests(data_dir):
    manifests = sorted((data_dir / "s1").rglob("manifest.safe"))
    if not manifests:
        pytest.skip(f"no Sentinel-1 products in {data_dir}")
    for manifest in manifests:
        facts = sentinel1.from_name("bs", manifest.parent.name)
        text = manifest.read_text()
        stated = re.search(r"<safe:relativeOrbitNumber type=\"start\">(\d+)<", text)
        absolute = re.search(r"<safe:orbitNumber type=\"start\">(\d+)<", text)
        assert facts.absolute_orbit == int(absolute[1])
        orbit = sentinel1.relative_orbit(facts.platform, facts.absolute_orbit, facts.sensing)
        assert orbit == int(stated[1]), manifest.parent.name


def test_relative_orbits_without_a_formula():
    before, after = utc(2026, 1, 1), utc(2026, 7, 1)
    assert sentinel1.relative_orbit("S1C", 172 + 175, before) == 1
    assert sentinel1.relative_orbit("S1C", 172 + 175, after) is None
    assert sentinel1.relative_orbit("S1X", 1000, before) is None


@pytest.mark.parametrize("name", [GRD, f"{GRD}_CARD_BS", f"out_{GRD}_Cal_TF_TC", f"{GRD}.SAFE"])
def test_the_products_name_is_found_in_the_scenes(name):
    assert sentinel1.from_name("bs", name) == Facts(
        platform="S1B", sensing=utc(2021, 12, 23, 5, 11, 22), absolute_orbit=30148
    )


def test_other_names_say_nothing():
    assert sentinel1.from_name("bs", "backscatter_20211223") == Facts()
    assert sentinel1.from_name("c6", "coherence_20211223") == Facts()
    assert sentinel1.from_name("c6", "20230904_20230910_20230916") == Facts()


@pytest.mark.parametrize("order", [(SLC_1, SLC_2), (SLC_2, SLC_1)])
def test_a_pair_of_products_in_either_order(order):
    facts = sentinel1.from_name("c12", "_".join(order))
    assert facts.sensing == utc(2023, 9, 16, 6, 37, 30)
    assert facts.reference_time == utc(2023, 9, 4, 6, 37, 30)
    assert (facts.platform, facts.absolute_orbit) == ("S1A", 50349)


@pytest.mark.parametrize(
    ("name", "platform"),
    [
        ("20260412T180621_20260418T180513_S1A_S1C_coh6_VV_103", "S1C"),
        ("S1C_20260418T180513_S1A_20260412T180621", "S1C"),
        ("S1A_COH_20260412_20260418", "S1A"),
        ("coh_20260412_20260418", None),
    ],
)
def test_a_pair_by_its_dates(name, platform):
    facts = sentinel1.from_name("c6", name)
    assert (facts.platform, facts.sensing.date()) == (platform, utc(2026, 4, 18).date())
    assert facts.reference_time.date() == utc(2026, 4, 12).date()
    assert sentinel1.pair_days(name) == 6


def test_card_bs_as_snap_leaves_it(tmp_path):
    put_backscatter(tmp_path / GRD, GRD, DIM.format(name=GRD, far=46.1))
    (scene,) = read(tmp_path)
    assert (scene.reference, scene.card, scene.platform) == (GRD, "bs", "S1B")
    assert scene.obstime == scene.datatake_start == utc(2021, 12, 23, 5, 11, 22)
    assert (scene.orbit_direction, scene.relative_orbit) == ("descending", 22)
    assert (scene.absolute_orbit, scene.incidence_angle) == (30148, pytest.approx(38.3))
    assert scene.generation_time == utc(2021, 12, 23, 7, 0, 1).replace(microsecond=500_000)
    assert set(scene.assets) == {"VV", "VH"}
    assert scene.assets["VV"].href.endswith(f"{GRD}.data/Gamma0_VV.img")
    assert scene.assets["VV"].nodata == (0.0,)
    assert (scene.assets["VV"].scale, scene.assets["VV"].offset) == (1.0, 0.0)


def test_card_bs_without_a_header_does_not_guess_the_direction(tmp_path):
    (scene,) = read(put_backscatter(tmp_path, GRD))
    assert (scene.relative_orbit, scene.orbit_direction, scene.incidence_angle) == (22, None, None)


def test_unknown_values_and_broken_headers(tmp_path):
    (scene,) = read(put_backscatter(tmp_path, GRD, DIM.format(name=GRD, far="99999.0")))
    assert scene.incidence_angle is None
    put_backscatter(tmp_path, GRD, "<Dimap_Document>")
    with pytest.raises(CbmError) as caught:
        read(tmp_path)
    assert caught.value.code == "xml_invalid"
    put_backscatter(tmp_path, GRD, DIM.format(name=GRD, far=1).replace("-DEC-", "-DEZ-"))
    with pytest.raises(CbmError) as caught:
        dimap.read(tmp_path / f"{GRD}.dim")
    assert caught.value.code == "time_invalid"


def test_slices_stand_side_by_side_and_reprocessed_ones_do_not(tmp_path):
    newer = GRD.replace("5371", "BBBB")
    for name, processed in ((GRD, "01"), (newer, "09"), (NEXT, "01")):
        dim = DIM.format(name=name, far=46).replace("07:00:01", f"{processed}:00:00")
        put_backscatter(tmp_path, name, dim.replace("05:11:22", f"05:11:{name[30:32]}"))
    scenes = read(tmp_path)
    groups: dict = {}
    for scene in scenes:
        groups.setdefault(acquisition(scene), []).append(candidate(scene))
    fallen = {name: by for group in groups.values() for name, by in resolve(group).items()}
    assert fallen == {GRD: newer, newer: None, NEXT: None}
    # Nor do they where the description tells the datatake's own start.
    start = utc(2021, 12, 23, 5, 10)
    same = [sentinel1.complete("bs", Facts(sensing=s.obstime, datatake=start)) for s in scenes]
    slices = [
        replace(scene, datatake_start=start, datastrip=facts.datastrip)
        for scene, facts in zip(scenes, same, strict=True)
    ]
    fallen = resolve(map(candidate, slices))
    assert fallen == {GRD: newer, newer: None, NEXT: None}


def test_card_coh_with_two_bands_in_one_file(tmp_path):
    name = f"{SLC_1}_{SLC_2}"
    write(tmp_path / name / f"{name}.tif", power() * 4)
    assert layouts.recognise(tmp_path) == "card-coh12"
    (scene,) = read(tmp_path)
    assert (scene.card, scene.reference, scene.platform) == ("c12", name, "S1A")
    assert scene.obstime == utc(2023, 9, 16, 6, 37, 30)
    assert (scene.reference_time, scene.temporal_baseline_days) == (utc(2023, 9, 4, 6, 37, 30), 12)
    assert (scene.assets["VV"].index, scene.assets["VH"].index) == (1, 2)
    with pytest.raises(CbmError) as caught:
        read(tmp_path, format="card-coh6")
    assert caught.value.code == "pair_mismatch"
    assert "12 days apart" in caught.value.message


def test_coherence_needs_both_dates(tmp_path):
    write(tmp_path / "coh.tif", power())
    document = {
        **BACKSCATTER,
        "card": "c6",
        "constants": {"platform": "S1A", "sensing": "20230916T063730"},
    }
    with pytest.raises(CbmError) as caught:
        described(tmp_path, document)
    assert caught.value.code == "pair_incomplete"
    document["constants"]["reference_time"] = "20230910T063730"
    document["constants"]["perpendicular_baseline"] = "-43.5"
    (scene,) = described(tmp_path, document).scenes
    assert (scene.temporal_baseline_days, scene.perpendicular_baseline) == (6, -43.5)


def test_a_table_says_what_names_do_not(tmp_path):
    write(tmp_path / "west.tif", power())
    write(tmp_path / f"{GRD}.tif", power())
    (tmp_path / "orbits.csv").write_text(
        "reference,platform,sensing,orbit,orbit_direction,incidence_angle\n"
        "west,S1A,20230901T053000,139,D,\n"
        f"{GRD},,,,descending,38.4\n"
    )
    scenes = {
        s.reference: s for s in described(tmp_path, {**BACKSCATTER, "table": "orbits.csv"}).scenes
    }
    west, grd = scenes["west"], scenes[GRD]
    assert (west.platform, west.relative_orbit, west.orbit_direction) == ("S1A", 139, "descending")
    assert west.incidence_angle is None
    assert (grd.platform, grd.relative_orbit, grd.incidence_angle) == ("S1B", 22, 38.4)
    assert grd.obstime == utc(2021, 12, 23, 5, 11, 22)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "table_missing"),
        ("platform\nS1A\n", "table_invalid"),
        ("reference,colour\na,red\n", "table_invalid"),
        ("reference,band\na,VV\n", "table_invalid"),
        ("reference,orbit\na,1\na,2\n", "table_invalid"),
        ("reference,orbit\na\n", "table_invalid"),
        ("reference,orbit\na,1,2\n", "table_invalid"),
        ('reference,orbit\n"a,1\n', "table_invalid"),
        ("reference,incidence_angle\nwest,98\n", "incidence_angle_invalid"),
        ("reference,absolute_orbit\nwest,x\n", "absolute_orbit_invalid"),
        ("reference,orbit\nwest,1\n", "scene_incomplete"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, code):
    write(tmp_path / "west.tif", power())
    if text is not None:
        (tmp_path / "orbits.csv").write_text(text)
    with pytest.raises(CbmError) as caught:
        described(tmp_path, {**BACKSCATTER, "table": "orbits.csv"})
    assert caught.value.code == code


def test_decibels_and_scaled_coherence_are_refused(tmp_path, data_dir):
    document = {**BACKSCATTER, "bands": {"VV": {}}}
    decibels = data_dir / "s1/pyrosar/S1A__IW___A_20150309T173017_VV_grd_mli_geo_norm_db.tif"
    if decibels.is_file():
        constants = {"platform": "S1A", "sensing": "20150309T173017"}
        with pytest.raises(CbmError) as caught:
            described(decibels.parent, {**document, "constants": constants})
        assert caught.value.code == "not_linear_power"
    with np.errstate(divide="ignore"):
        write(tmp_path / f"{GRD}.tif", 10 * np.log10(power()))
    with pytest.raises(CbmError) as caught:
        described(tmp_path, document)
    assert caught.value.code == "not_linear_power"
    name = "S1A_20230904T063730_20230916T063730"
    document = {**document, "card": "c12", "files": "S1A*.tif"}
    write(tmp_path / f"{name}.tif", (power() * 800).astype("uint8"))
    with pytest.raises(CbmError) as caught:
        described(tmp_path, document)
    assert caught.value.code == "not_coherence"
    document["bands"] = {"VV": {"scale": 0.004}}
    assert described(tmp_path, document).scenes[0].assets["VV"].scale == 0.004


def test_mostly_empty_and_noisy_backscatter_is_taken(tmp_path):
    values = power()
    values[0] = np.nan
    values[1, :12] *= -1  # noise removed
    write(tmp_path / f"{GRD}.tif", values)
    assert set(described(tmp_path, BACKSCATTER).scenes[0].assets) == {"VV", "VH"}


def test_a_unit_in_a_description_is_explained(tmp_path):
    path = tmp_path / "scenes.yml"
    path.write_text(str({**BACKSCATTER, "bands": {"VV": {"unit": "dB"}}}))
    with pytest.raises(CbmError, match="linear power") as caught:
        descriptions.load(path)
    assert caught.value.code == "description_invalid"


def test_envi_keeps_its_own_nodata_value_beside_zero(tmp_path):
    put_backscatter(tmp_path, GRD)
    header = tmp_path / f"{GRD}.data" / "Gamma0_VV.hdr"
    header.write_text(f"{header.read_text()}data ignore value = -9999\n")
    (scene,) = read(tmp_path)
    with rasterio.open(scene.assets["VV"].href) as dataset:
        assert dataset.nodata == -9999
    assert scene.assets["VV"].nodata == (0.0,)


def test_absolute_orbit_in_names():
    assert names.absolute_orbit("030148") == 30148
    with pytest.raises(CbmError, match="absolute orbit"):
        names.absolute_orbit("A22")
