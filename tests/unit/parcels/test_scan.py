"""Whole files: what is read from them, and every way in which they are refused."""

import json
import os
import shutil
import sqlite3
import struct
from pathlib import Path

import geopandas
import numpy as np
import pandas
import pyarrow as pa
import pyogrio
import pytest
import shapely

from cbm_core.errors import CbmError
from cbm_extract.parcels import source, verbs
from tests.unit.parcels import files
from tests.unit.parcels.odd_files import geoparquet, with_crs, written

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:'crs' was not provided:UserWarning"),
]


@pytest.mark.parametrize(
    ("driver", "kind"),
    [("GPKG", "gpkg"), ("SQLite", "sqlite"), ("ESRI Shapefile", "shapefile"),
     ("OpenFileGDB", "filegdb"), ("GML", "gml"), ("GeoJSON", "geojson"),
     ("GeoJSONSeq", "geojson"), ("FlatGeobuf", "flatgeobuf"), ("Parquet", "parquet")],
)  # fmt: skip
def test_every_format_gives_the_same_parcels(tmp_path, driver, kind):
    """Whatever the file is called: names say nothing (only a shapefile's parts need theirs)."""
    if driver == "Parquet":
        path = geoparquet(tmp_path / "p", files.frame(crop=[1, 2, 3], name=["a", "ä", None]))
    else:
        suffix = {
            "ESRI Shapefile": ".shp",
            "OpenFileGDB": ".gdb",
            "GeoJSONSeq": ".geojsonl",
            "FlatGeobuf": ".fgb",
        }
        path = written(tmp_path / f"p{suffix.get(driver, '.tmp')}", driver)
        if driver == "OpenFileGDB":
            path = Path(shutil.move(path, tmp_path / "folder"))
        elif driver != "ESRI Shapefile":
            path = path.rename(tmp_path / "p")
    before = sorted(tmp_path.rglob("*"))
    assert source.identify(path).kind == kind
    rows = files.read_rows(path, crop_code="crop", crop_name="name")
    assert {pid: row[:3] for pid, row in rows.items()} == {
        "p1": ("1", "a", "{}"),
        "p2": ("2", "ä", "{}"),
        "p3": ("3", None, "{}"),
    }
    if driver == "GeoJSON":
        assert shapely.area(rows["p1"][3]) < 1e-5
    elif driver != "GeoJSONSeq":
        assert shapely.area(rows["p1"][3]) == pytest.approx(10_000, rel=1e-9)
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written beside the source"


def test_geojson_is_longitude_latitude_by_definition(tmp_path):
    path = written(tmp_path / "a.geojson", "GeoJSON")
    document = json.loads(path.read_text())
    document.pop("crs", None)
    path.write_text(json.dumps(document))
    assert files.read(path).crs.srid == 4326
    with pytest.raises(CbmError) as caught:
        files.read(path, crs="EPSG:32632")
    assert caught.value.code == "crs_contradictory"


def test_report_counts_and_lists_everything(tmp_path):
    bow_tie = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    geometry = [
        *files.squares(2),
        None,
        shapely.Polygon(),
        shapely.Point(1, 1),
        shapely.transform(bow_tie, lambda xy: xy + np.array([5e5, 5_001_000.0])),
        shapely.force_3d(files.squares(1, y=5_002_000.0)[0], 7),
        files.squares(1)[0],
        shapely.box(500_050, 5_000_000, 500_150, 5_000_050),
    ]
    path = files.gpkg(tmp_path / "a.gpkg", files.frame(geometry=geometry, owner="Ann"))
    found = files.read(path)
    report = found.report.as_json()
    assert (report["features"], report["parcels"]) == (9, 6)
    assert {k: (v["count"], v["ids"]) for k, v in report["left_out"].items()} == {
        "null_geometry": (1, ["p3"]),
        "empty_geometry": (1, ["p4"]),
        "not_polygon": (1, ["p5"]),
    }
    assert (report["repaired"]["count"], report["repaired"]["ids"]) == (1, ["p6"])
    assert report["repaired"]["area_before_m2"] == pytest.approx(0.0, abs=1e-6)
    assert report["repaired"]["area_after_m2"] == pytest.approx(50.0, rel=2e-3)
    assert report["repaired"]["largest_changes"][0]["id"] == "p6"
    assert report["flattened_3d"] == {"count": 1, "ids": ["p7"]}
    assert report["duplicate_geometries"] == {"count": 1, "ids": ["p8"]}
    pairs = [{o["a"], o["b"]} for o in report["overlaps"]["largest"]]
    assert sorted(map(sorted, pairs)) == [["p1", "p9"], ["p2", "p9"]]
    assert report["overlaps"]["area_m2"] == pytest.approx(5000 / 0.9996**2, rel=1e-3)
    assert report["columns"]["dropped"] == ["crop", "owner", "fid"]
    text = found.report.text()
    for words in ("left out, null geometry: 1 (p3)", "repaired (make_valid): 1 (p6)",
                  "flattened to 2D: 1 (p7)", "dropped: crop, owner", "2 pairs"):  # fmt: skip
        assert words in text
    json.dumps(report)
    assert "Ann" not in json.dumps(report)


def test_check_needs_no_database(tmp_path):
    arguments = verbs.CHECK.arguments.model_validate(
        {"source": files.gpkg(tmp_path / "a.gpkg"), "id": "column:pid"}
    )
    answer = verbs.CHECK.run(arguments, None)
    assert answer.result["report"]["parcels"] == 3
    assert "features: 3" in answer.text


def test_the_only_layer_with_polygons_is_taken(tmp_path):
    path = files.gpkg(tmp_path / "a.gpkg", files.frame().iloc[:0], layer="empty")
    files.gpkg(path, files.frame(geometry=[shapely.Point(1, 1)]), layer="labels")
    files.gpkg(path, layer="fields")
    pyogrio.write_dataframe(pandas.DataFrame({"a": [1]}), path, layer="codes", driver="GPKG")
    assert files.read(path).report.source["layer"] == "fields"
    files.gpkg(path, layer="fields_2023")
    with pytest.raises(CbmError) as caught:
        files.read(path)
    assert (caught.value.code, caught.value.details) == (
        "layer_ambiguous",
        {"layers": ["fields", "fields_2023"]},
    )
    assert files.read(path, source_layer="fields_2023").report.source["layer"] == "fields_2023"
    with pytest.raises(CbmError, match="Did you mean fields_2023") as caught:
        files.read(path, source_layer="fields_2022")
    assert caught.value.code == "layer_unknown"
    for layer, code in (("codes", "no_geometry"), ("empty", "layer_empty")):
        with pytest.raises(CbmError) as caught:
            files.read(path, source_layer=layer)
        assert caught.value.code == code


def test_curves_are_linearised(tmp_path):
    """A circle of radius 100 m, written straight into the GeoPackage's table."""
    path = files.gpkg(tmp_path / "a.gpkg", files.frame(2))
    x, y, r = 500_000.0, 5_000_000.0, 100.0
    points = [(x - r, y), (x, y + r), (x + r, y), (x, y - r), (x - r, y)]
    body = struct.pack("<BII", 1, 8, 5) + b"".join(struct.pack("<dd", *p) for p in points)
    header = b"GP\x00\x01" + struct.pack("<i", 32632)
    blob = header + struct.pack("<BII", 1, 10, 1) + body
    connection = sqlite3.connect(path)
    triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    for (name,) in triggers.fetchall():
        connection.execute(f'DROP TRIGGER "{name}"')
    connection.execute("UPDATE parcels SET geom = ? WHERE pid = 'p2'", (blob,))
    connection.commit()
    connection.close()
    found = files.read(path)
    assert found.report.curves_linearised.ids == ["p2"]
    area = shapely.area(files.read_rows(path)["p2"][3])
    assert area == pytest.approx(np.pi * r**2, rel=2e-3)
    assert area < np.pi * r**2


def test_geoparquet_crs(tmp_path):
    path = tmp_path / "a.parquet"
    assert files.read(geoparquet(path)).crs.srid == 32632
    degrees = files.frame().to_crs("EPSG:4326")

    def without(geo):
        del geo["columns"]["geometry"]["crs"]
        return geo

    assert files.read(geoparquet(path, degrees, without)).crs.srid == 4326
    with pytest.raises(CbmError) as caught:
        files.read(geoparquet(path, None, with_crs(None)))
    assert caught.value.code == "crs_missing"
    assert files.read(path, crs="EPSG:32632").report.source["crs_origin"] == "told"


def test_parquet_without_metadata_has_to_be_told(tmp_path):
    path = geoparquet(tmp_path / "a.parquet", change=lambda _geo: None)
    with pytest.raises(CbmError, match="geometry_column") as caught:
        files.read(path)
    assert caught.value.code == "no_geometry"
    with pytest.raises(CbmError) as caught:
        files.read(path, geometry_column="geometry")
    assert caught.value.code == "crs_missing"
    assert len(files.read(path, geometry_column="geometry", crs="EPSG:32632").spool) == 3
    with pytest.raises(CbmError) as caught:
        files.read(path, geometry_column="geom")
    assert caught.value.code == "column_missing"


def test_bounds(tmp_path):
    path = files.gpkg(tmp_path / "a.gpkg", files.frame(geometry=[
        *files.squares(2), shapely.box(600_000, 5_200_000, 600_100, 5_200_100)
    ]))  # fmt: skip
    found = files.read(path, bounds=(8.9, 45.0, 9.1, 45.3)).report.outside
    assert (found["count"], found["ids"]) == (1, ["p3"])
    with pytest.raises(CbmError) as caught:
        files.read(path, bounds=(20.0, 45.0, 21.0, 46.0))
    assert caught.value.code == "outside_area"


def test_far_from_the_area_of_use_is_warned_of(tmp_path):
    path = files.gpkg(tmp_path / "a.gpkg", files.frame(geometry=files.squares(2, x=2_500_000.0)))
    assert any("area of use" in warning for warning in files.read(path).report.warnings)


def test_reading_goes_by_batches(tmp_path, monkeypatch):
    """Rows keep their order and features their numbers across batches."""
    from cbm_extract.parcels import tables

    monkeypatch.setattr(tables, "ROWS_PER_BATCH", 4)
    count = 10
    geometry = [*files.squares(count - 1), None]
    path = files.gpkg(tmp_path / "a.gpkg", files.frame(geometry=geometry, n=range(count)))
    rows = files.read_rows(path, crop_code="n")
    assert [row[0] for row in rows.values()] == [str(n) for n in range(count - 1)]
    parcels = files.frame(geometry=files.squares(count), n=[*range(count - 1), None])
    with pytest.raises(CbmError, match="feature 10"):
        files.read(files.gpkg(tmp_path / "b.gpkg", parcels), id="column:n")


def test_key_column_of_the_table_can_be_the_id(tmp_path):
    assert list(files.read_rows(files.gpkg(tmp_path / "a.gpkg"), id="column:fid")) == [
        "1",
        "2",
        "3",
    ]


def test_checksum_is_of_the_content(tmp_path):
    shp = files.shapefile(tmp_path / "a.shp")
    before = source.identify(shp).checksum
    (tmp_path / "a.qix").write_bytes(b"an index made by somebody")
    os.utime(shp)
    assert source.identify(shp).checksum == before
    shp.with_suffix(".cpg").write_text("ISO-8859-1")
    assert source.identify(shp).checksum != before


def test_geopandas_agrees_on_a_mixed_file(tmp_path):
    random = np.random.default_rng(5)
    centres = random.uniform(0, 5000, (200, 2)) + np.array([5e5, 5e6])
    polygons = [shapely.Point(c).buffer(20, quad_segs=random.integers(1, 6)) for c in centres]
    path = files.gpkg(tmp_path / "a.gpkg", files.frame(geometry=polygons))
    frame = geopandas.read_file(path).set_index("pid")
    rows = files.read_rows(path)
    assert set(rows) == set(frame.index)
    assert all(shapely.equals(rows[pid][3], frame.geometry[pid]) for pid in rows)
    assert pa.array(list(rows)).null_count == 0
