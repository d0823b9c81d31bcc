"""Parcel files as national agencies publish them, against what geopandas reads from them."""

import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import geopandas
import numpy as np
import py7zr
import pytest
import shapely

from cbm_core import db as database
from cbm_core.datasets import verbs as datasets
from cbm_core.errors import CbmError
from cbm_core.verbs import Context
from cbm_extract.parcels import verbs

pytestmark = [
    pytest.mark.postgis,
    pytest.mark.data,
    # what geopandas makes of the Irish file's two fields of one name
    pytest.mark.filterwarnings("ignore:Field with same name:RuntimeWarning"),
]


@dataclass(frozen=True)
class File:
    """A file, how it is imported, and how geopandas reads the same."""

    path: str
    arguments: dict
    inner: str = ""
    read: dict = field(default_factory=dict)
    crop: str | None = None
    repaired: int = 0
    ids: Callable[[geopandas.GeoDataFrame], list] = lambda frame: list(frame.index)


def suffixed(frame) -> list[str]:
    """Ids made of three columns; the second of the same is called _2."""
    plain = frame["KODKD"] + "/" + frame["PARCELA"] + "/" + frame["PCUV"].astype(str)
    again = plain.groupby(plain).cumcount()
    return [pid if n == 0 else f"{pid}_{n + 1}" for pid, n in zip(plain, again, strict=True)]


FILES = {
    "at": File(
        "at/inspire_schlaege_2025-1_polygon.gpkg.zip",
        {"id": "column:GEO_ID", "crop_code": "SNAR_CODE", "keep_columns": ["SL_FLAECHE_BRUTTO_HA"]},
        inner="INSPIRE_SCHLAEGE_2025-1_POLYGON.gpkg",
        crop="SNAR_CODE",
        ids=lambda frame: [f"{v:.0f}" for v in frame["GEO_ID"]],
    ),
    "be_vlg": File(
        "be_vlg/Landbouwgebruikspercelen_2023_-_Definitief_(extractie_28-03-2024)_GPKG.zip",
        {"id": "column:REF_ID", "crop_code": "GWSCOD_H", "crop_name": "GWSNAM_H"},
        inner="Landbouwgebruikspercelen_2023_-_Definitief_(extractie_28-03-2024).gpkg",
        crop="GWSCOD_H",
        ids=lambda frame: list(frame["REF_ID"]),
    ),
    "ch": File(
        "ch/lwb_nutzungsflaechen_v2_0_lv95.gpkg",
        {"id": "column:nutzungsidentifikator", "crop_code": "lnf_code", "crop_name": "nutzung"},
        crop="lnf_code",
        ids=lambda frame: list(frame["nutzungsidentifikator"]),
    ),
    "cz": File(
        "cz/bd51ec4dea8697946b9a570a6b7c9fe587e2f8334cee74778d2339da43178d38",
        {"id": "column:ZAKRES_ID", "crop_code": "PLODINA_ID", "crop_name": "PLOD_NAZE"},
        inner="GEOPROSTOR_ZADOSTI23_2024-08-01_epsg4258.shp",
        crop="PLODINA_ID",
        ids=lambda frame: list(frame["ZAKRES_ID"]),
    ),
    "dk": File(
        "dk/Marker_2026.zip",
        {
            "id": "expression:{Journalnr}/{Marknr}",
            "crop_code": "Afgkode",
            "crop_name": "Afgroede",
            "encoding": "cp1252",
        },
        inner="Marker_2026.shp",
        crop="Afgkode",
        ids=lambda frame: list(frame["Journalnr"] + "/" + frame["Marknr"]),
    ),
    "fr": File(
        "fr/RPG_2-0__GPKG_LAMB93_FXX_2022-01-01.7z.001",
        {"id": "column:id_parcel", "crop_code": "code_cultu"},
        inner="RPG_2-0__GPKG_LAMB93_FXX_2022-01-01/RPG/1_DONNEES_LIVRAISON_2023-08-01/"
        "RPG_2-0_GPKG_LAMB93_FXX-2022/PARCELLES_GRAPHIQUES.gpkg",
        crop="code_cultu",
        ids=lambda frame: list(frame["id_parcel"]),
    ),
    "ie": File(
        "ie/GSAA_2024.zip",
        {"id": "column:localId"},
        inner="GSAA_2024.gml",
        ids=lambda frame: list(frame["localId"]),
    ),
    "it_1": File(
        "it_1/iti1_2023.parquet",
        {"id": "column:off_id", "crop_code": "original_code"},
        crop="original_code",
        ids=lambda frame: list(frame["off_id"]),
    ),
    # The id stands in the table's key only, which is no column to GDAL.
    "nl": File(
        "nl/brpgewaspercelen_definitief_2023.gpkg",
        {"id": "column:id", "crop_code": "gewascode", "crop_name": "gewas"},
        crop="gewascode",
    ),
    "pt": File(
        "pt/Continente.gpkg",
        {"id": "column:CUL_ID", "crop_code": "CUL_CODIGO", "source_layer": "Culturas_Aveiro",
         "crop_name": "CT_português"},
        read={"layer": "Culturas_Aveiro"},
        crop="CUL_CODIGO",
        ids=lambda frame: list(frame["CUL_ID"]),
    ),
    "sk": File(
        "sk/003b211508235a729804b1d7db871e8928250ed76d7058a36c73cb65a3c7d04c",
        {"id": "expression:{KODKD}/{PARCELA}/{PCUV}", "crop_name": "PLODINA",
         "encoding": "cp1250", "duplicates": "suffix"},
        inner="HU2024_20240917shp/HU2024_20240917.shp",
        repaired=1,
        ids=suffixed,
    ),
    "us": File(
        "us_usda_cropland/NationalCSB_2017-2024_rev23.zip",
        {"id": "column:CSBID", "crop_code": "CDL2024"},
        inner="NationalCSB_2017-2024_rev23/CSB1724.gdb",
        crop="CDL2024",
        repaired=4,
        ids=lambda frame: list(frame["CSBID"]),
    ),
}  # fmt: skip

REFUSED = {
    "at/at_2021.csv": ({"id": "filename"}, "no_geometry"),
    "be_vlg/be_vlg_2021.csv": ({"id": "filename"}, "no_geometry"),
    "dk/dk_2019.csv": ({"id": "filename"}, "no_geometry"),
    "fr/fr_2018.csv": ({"id": "filename"}, "no_geometry"),
    "us_usda_cropland/cropland.csv": ({"id": "filename"}, "no_geometry"),
    "pt/README.md": ({"id": "filename"}, "format_unknown"),
    "LICENSE.txt": ({"id": "filename"}, "format_unknown"),
    "pt/Continente.gpkg": ({"id": "column:CUL_ID"}, "layer_ambiguous"),
    "dk/Marker_2026.zip": (
        {"id": "expression:{Journalnr}/{Marknr}", "crop_name": "Afgroede"},
        "encoding_missing",
    ),
    "sk/003b211508235a729804b1d7db871e8928250ed76d7058a36c73cb65a3c7d04c": (
        {"id": "expression:{KODKD}/{PARCELA}/{PCUV}"},
        "duplicate_ids",
    ),
    "ch/lwb_nutzungsflaechen_v2_0_lv95.gpkg": (
        {"id": "column:nutzungsidentifikator", "crs": "EPSG:21781"},
        "crs_contradictory",
    ),
    "nl/brpgewaspercelen_definitief_2023.gpkg": ({"id": "column:ID"}, "column_missing"),
}


@pytest.fixture(scope="module")
def national(data_dir) -> Path:
    return data_dir / "parcels" / "national"


def run(verb, settings, **arguments):
    return verb.run(verb.arguments.model_validate(arguments), Context(settings))


def stored(settings):
    """The current parcels with their geometries, by id."""
    with closing(database.connect(settings)) as connection, connection.cursor() as cursor:
        cursor.execute(
            """SELECT p.pid, p.crop_code, p.crop_name, p.attributes, g.area_m2,
                      ST_AsBinary(g.geom_src), ST_SRID(g.geom_src), ST_AsBinary(g.geom),
                      g.hash, ST_IsValid(g.geom_src)
               FROM cbm.parcel p JOIN cbm.parcel_geometry g ON g.id = p.geometry_id
               WHERE p.known_to = 'infinity' ORDER BY p.id"""
        )
        return {
            row[0]: tuple(bytes(v) if isinstance(v, memoryview) else v for v in row)
            for row in cursor.fetchall()
        }


def independently(root: Path, file: File, folder: Path) -> geopandas.GeoDataFrame:
    """The file as geopandas reads it, unpacked by the archives' own libraries."""
    path = root / file.path
    if file.inner:
        if ".7z" in path.name:
            with py7zr.SevenZipFile(path) as archive:
                archive.extractall(folder)
        else:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
        path = folder / file.inner
    if path.suffix == ".parquet":
        return geopandas.read_parquet(path)
    encoding = file.arguments.get("encoding")
    options = {"encoding": encoding} if encoding else {}
    return geopandas.read_file(path, fid_as_index=True, **file.read, **options)


@pytest.mark.parametrize("country", FILES)
def test_file_is_imported_as_geopandas_reads_it(db, national, tmp_path, country):
    file = FILES[country]
    run(datasets.ADD, db, aoi=country, year=2024)
    wanted = {"dataset": f"{country}:2024", "source": national / file.path, **file.arguments}
    planned = run(verbs.IMPORT, db, **wanted, check=True)
    assert stored(db) == {}
    answer = run(verbs.IMPORT, db, **wanted)
    assert answer.plan == planned.plan == [f"add 100 parcels to {country}:2024 layer ''"]
    assert answer.result["report"] == planned.result["report"]

    frame = independently(national, file, tmp_path)
    parcels = stored(db)
    assert len(parcels) == len(frame) == 100
    rows = {str(pid): parcels[str(pid)] for pid in file.ids(frame)}
    assert len(rows) == 100
    report = answer.result["report"]
    assert report["repaired"]["count"] == file.repaired == int((~frame.is_valid).sum())

    expected = frame.geometry.make_valid(method="structure", keep_collapsed=False)
    assert shapely.to_wkb(shapely.normalize(multi(expected))).tolist() == [
        row[5] for row in rows.values()
    ]
    assert {row[6] for row in rows.values()} == {frame.crs.to_epsg()}
    assert all(r[9] for r in rows.values())

    degrees = expected.to_crs("EPSG:4326")
    on_globe = shapely.from_wkb([r[7] for r in rows.values()])
    np.testing.assert_allclose(shapely.total_bounds(on_globe), degrees.total_bounds, atol=2e-5)
    assert report["extent"] == shapely.total_bounds(on_globe).tolist()
    area = sum(r[4] for r in rows.values())
    assert area == pytest.approx(geodesic(degrees), rel=1e-3)
    if file.crop:
        texts = [f"{v:.0f}" if isinstance(v, float) else str(v) for v in frame[file.crop]]
        assert [row[1] for row in rows.values()] == texts

    again = run(verbs.IMPORT, db, **wanted)
    assert (again.changed, again.plan, again.before) == (False, [], again.after)
    assert stored(db) == parcels


def multi(geometries):
    return [g if g.geom_type == "MultiPolygon" else shapely.MultiPolygon([g]) for g in geometries]


def geodesic(frame) -> float:
    geod = frame.crs.get_geod()
    return sum(abs(geod.geometry_area_perimeter(g)[0]) for g in frame.geometry)


@pytest.mark.parametrize("path", REFUSED)
def test_file_is_refused_for_the_right_reason(db, national, path):
    arguments, code = REFUSED[path]
    run(datasets.ADD, db, aoi="x", year=2024)
    with pytest.raises(CbmError) as caught:
        run(verbs.IMPORT, db, dataset="x:2024", source=national / path, **arguments)
    assert caught.value.code == code
    assert stored(db) == {}


def test_no_file_was_forgotten(national):
    listed = {f.path for f in FILES.values()} | set(REFUSED)
    assert {str(p.relative_to(national)) for p in national.rglob("*") if p.is_file()} == listed


def test_latitude_first_gml_lies_in_ireland(db, national):
    run(datasets.ADD, db, aoi="ie", year=2024, bounds="-10.7,51.3,-5.9,55.5")
    answer = run(
        verbs.IMPORT, db, dataset="ie:2024", source=national / FILES["ie"].path, id="column:localId"
    )
    west, south, east, north = answer.result["report"]["extent"]
    assert -10.7 < west < east < -5.9
    assert 51.3 < south < north < 55.5
    assert answer.result["report"]["outside"]["count"] == 0


def test_text_and_ids_are_exact(db, national):
    run(datasets.ADD, db, aoi="dk", year=2026)
    file = FILES["dk"]
    run(verbs.IMPORT, db, dataset="dk:2026", source=national / file.path, **file.arguments)
    rows = stored(db)
    assert rows["26-0023282/1-0"][1:3] == ("593", "Poppel")
    assert any("græs" in row[2] for row in rows.values())


def test_persons_are_dropped_unless_allowed(db, national, data_dir):
    run(datasets.ADD, db, aoi="sk", year=2024)
    file = FILES["sk"]
    answer = run(verbs.IMPORT, db, dataset="sk:2024", source=national / file.path, **file.arguments)
    assert "SUBJEKT_NA" in answer.result["report"]["columns"]["dropped"]
    assert {str(row[3]) for row in stored(db).values()} == {"{}"}


# The seven one-parcel files of winter wheat fields: three CRSs, ids partly null, persons inside.
WHEAT = {
    "Arenenberg/Broatefaeld": ("EPSG:2056", {"Betrieb", "Person"}),
    "Strickhof/Bramenwies": ("EPSG:4326", set()),
    "Strickhof/Fluegenrain": ("EPSG:4326", set()),
    "Strickhof/Hohrueti": ("EPSG:4326", set()),
    "SwissFutureFarm/Altkloster": ("EPSG:32632", {"farmname"}),
    "SwissFutureFarm/Ruetteli": ("EPSG:32632", {"farmname"}),
    "Witzwil/Parzelle35": ("EPSG:2056", set()),
}


def extents(settings):
    """What the imports say, by layer."""
    with closing(database.connect(settings)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT layer, report -> 'extent' FROM cbm.parcel_set")
        return dict(cursor.fetchall())


def stored_extents(settings):
    """What PostGIS says of the geometries, by layer."""
    with closing(database.connect(settings)) as connection, connection.cursor() as cursor:
        cursor.execute(
            """SELECT layer, ARRAY[min(ST_XMin(geom)), min(ST_YMin(geom)), max(ST_XMax(geom)),
                                   max(ST_YMax(geom))]
               FROM cbm.parcel p JOIN cbm.parcel_geometry g ON g.id = p.geometry_id
               GROUP BY layer"""
        )
        return dict(cursor.fetchall())


def test_wheat_fields_are_layers_of_one_dataset(db, data_dir):
    root = data_dir / "s2/swiss_wheat/data/auxiliary/field_parcels_ww_2022"
    assert {str(p.relative_to(root).with_suffix("")) for p in root.glob("*/*.shp")} == set(WHEAT)
    run(datasets.ADD, db, aoi="ch", year=2022)
    for name, (crs, persons) in WHEAT.items():
        source = root / f"{name}.shp"
        layer = source.stem.lower()
        wanted = {"dataset": "ch:2022", "source": source, "id": "filename", "layer": layer}
        answer = run(verbs.IMPORT, db, **wanted)
        report = answer.result["report"]
        assert (report["source"]["crs"], report["parcels"]) == (crs, 1)
        assert persons <= set(report["columns"]["dropped"])
        degrees = geopandas.read_file(source).to_crs("EPSG:4326").total_bounds
        np.testing.assert_allclose(report["extent"], degrees, rtol=0, atol=2e-5)
        assert not run(verbs.IMPORT, db, **wanted).changed
    rows = stored(db)
    assert {name.split("/")[1] for name in WHEAT} == set(rows)
    assert extents(db) == stored_extents(db)
    for name in WHEAT:
        frame = geopandas.read_file(root / f"{name}.shp").to_crs("EPSG:4326")
        assert rows[Path(name).name][4] == pytest.approx(geodesic(frame), rel=1e-4), name
        assert all(row[3] == {} for row in rows.values())
    sets = run(verbs.LIST, db, dataset="ch:2022").result["parcel_sets"]
    assert [(s["layer"], s["parcels"]) for s in sets] == [
        (Path(name).name.lower(), 1) for name in WHEAT
    ]


def test_a_null_id_column_is_refused(db, data_dir):
    root = data_dir / "s2/swiss_wheat/data/auxiliary/field_parcels_ww_2022"
    run(datasets.ADD, db, aoi="ch", year=2022)
    with pytest.raises(CbmError, match="feature 1") as caught:
        run(verbs.IMPORT, db, dataset="ch:2022", id="column:id",
            source=root / "Strickhof/Hohrueti.shp")  # fmt: skip
    assert caught.value.code == "ids_missing"
