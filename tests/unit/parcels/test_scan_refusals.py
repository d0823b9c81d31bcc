"""Sources that cannot be read, and what is said of them."""

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import shapely

from cbm_core.errors import CbmError
from cbm_extract.parcels import scan
from tests.unit.parcels import files
from tests.unit.parcels.odd_files import geoparquet, written

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:'crs' was not provided:UserWarning"),
]


def test_disk_full(tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(scan.SpoolWriter, "write", full)
    with pytest.raises(CbmError, match="TMPDIR") as caught:
        files.read(files.gpkg(tmp_path / "a.gpkg"))
    assert caught.value.code == "disk_full"


def truncated(path: Path, share=0.5) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


BAD = {
    "not there": (lambda d: d / "no.gpkg", {}, "source_missing"),
    "a folder": (lambda d: d, {}, "format_unknown"),
    "truncated gpkg": (
        lambda d: truncated(files.gpkg(d / "a.gpkg", files.frame(2000))), {}, "source_damaged"
    ),
    "truncated geojson": (
        lambda d: truncated(written(d / "a.geojson", "GeoJSON"), 0.9), {}, "source_damaged"
    ),
    "truncated gml": (lambda d: truncated(written(d / "a.gml", "GML"), 0.9), {}, "source_damaged"),
    "truncated flatgeobuf": (
        lambda d: truncated(written(d / "a.fgb", "FlatGeobuf"), 0.8), {}, "source_damaged"
    ),
    "truncated parquet": (
        lambda d: truncated(geoparquet(d / "a.parquet")), {}, "source_damaged"
    ),
    "no crs": (
        lambda d: files.gpkg(d / "a.gpkg", files.frame(crs=None)), {}, "crs_missing"
    ),
    "wrong crs": (lambda d: files.gpkg(d / "a.gpkg"), {"crs": "EPSG:25832"}, "crs_contradictory"),
    "unknown crs": (
        lambda d: files.gpkg(d / "a.gpkg", files.frame(crs=None)), {"crs": "EPSG:0"}, "crs_unknown"
    ),
    "missing column": (lambda d: files.gpkg(d / "a.gpkg"), {"id": "column:PID"}, "column_missing"),
    "missing crop": (lambda d: files.gpkg(d / "a.gpkg"), {"crop_code": "x"}, "column_missing"),
    "missing kept": (lambda d: files.gpkg(d / "a.gpkg"), {"keep": ["x"]}, "column_missing"),
    "missing in expression": (
        lambda d: files.gpkg(d / "a.gpkg"), {"id": "expression:{pid}{x}"}, "column_missing"
    ),
    "bytes as id": (
        lambda d: geoparquet(d / "a.parquet", files.frame(b=[b"x"] * 3)),
        {"id": "column:b"}, "column_type",
    ),
    "null ids": (
        lambda d: files.gpkg(d / "a.gpkg", files.frame(n=[1, None, 3])),
        {"id": "column:n"}, "ids_missing",
    ),
    "blank ids": (
        lambda d: files.gpkg(d / "a.gpkg", files.frame(n=["1", " ", "3"])),
        {"id": "column:n"}, "ids_missing",
    ),
    "duplicate ids": (lambda d: files.gpkg(d / "a.gpkg"), {"id": "column:crop"}, "duplicate_ids"),
    "file name for many": (lambda d: files.gpkg(d / "a.gpkg"), {"id": "filename"}, "duplicate_ids"),
    "empty layer": (
        lambda d: files.gpkg(d / "a.gpkg", files.frame().iloc[:0]), {}, "layer_empty"
    ),
    "empty shapefile": (
        lambda d: files.shapefile(d / "a.shp", files.frame().iloc[:0]), {}, "layer_empty"
    ),
    "empty parquet": (
        lambda d: geoparquet(d / "a.parquet", files.frame().iloc[:0]), {}, "layer_empty"
    ),
    "points": (
        lambda d: files.gpkg(d / "a.gpkg", files.frame(geometry=[shapely.Point(1, 1)])),
        {"source_layer": "parcels"}, "no_parcels",
    ),
    "null geometries": (
        lambda d: geoparquet(d / "a.parquet", files.frame(geometry=[None, None])), {}, "no_parcels"
    ),
    "layer of parquet": (
        lambda d: geoparquet(d / "a.parquet"), {"source_layer": "x"}, "layer_unknown"
    ),
    "geometry column of gpkg": (
        lambda d: files.gpkg(d / "a.gpkg"), {"geometry_column": "geom"}, "geometry_column_useless"
    ),
    "not numbers": (
        lambda d: geoparquet(d / "a.parquet", files.frame(
            geometry=[shapely.Polygon([(0, 0), (0, 1), (1, np.nan), (0, 0)])])),
        {}, "coordinates_invalid",
    ),
    "off the earth": (
        lambda d: files.gpkg(d / "a.gpkg", files.frame(crs="EPSG:4326")), {}, "coordinates_invalid"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gives_one_clear_error(tmp_path, name):
    make, arguments, code = BAD[name]
    path = make(tmp_path)
    with pytest.raises(CbmError) as caught:
        files.read(path, **arguments)
    assert caught.value.code == code, caught.value
    assert caught.value.message.endswith((".", "?"))
    assert "/cbm-parcels-" not in str(caught.value), "our temporary folder is nobody's business"


def test_spatialite_without_polygons_and_plain_sqlite(tmp_path):
    path = tmp_path / "a.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(CbmError) as caught:
        files.read(path)
    assert caught.value.code == "no_geometry"
