"""GDAL reads the collections as QGIS does: by its driver for OGC API - Features."""

import json
import subprocess
import sys
import threading
from contextlib import contextmanager

import geopandas
import pytest
import shapely
from werkzeug.serving import make_server

from cbm_core.datasets import verbs as datasets
from cbm_core.verbs import Context
from cbm_extract.parcels import verbs
from tests.api.conftest import PASSWORD, add_user

pytestmark = [pytest.mark.postgis, pytest.mark.data]

# The axes of its system, EPSG:31287, are northing and easting; GDAL gives x and y.
FILE = "parcels/national/at/inspire_schlaege_2025-1_polygon.gpkg.zip"
INNER = "INSPIRE_SCHLAEGE_2025-1_POLYGON.gpkg"

# A process of its own: GDAL waits for the server without letting other threads of Python run.
_READ = """
import json, sys, pyogrio
address, target, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
options["bbox"] = options["bbox"] and tuple(options["bbox"])
pyogrio.read_dataframe(f"OAPIF:{address}", **options).to_parquet(target)
"""


@contextmanager
def served(app):
    """Serve an application on loopback and give its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def source(db, data_dir):
    """A real file, imported into at:2025, which anna may read; as geopandas reads it, by id."""
    path = data_dir / FILE
    for verb, arguments in (
        (datasets.ADD, {"aoi": "at", "year": 2025}),
        (verbs.IMPORT, {"dataset": "at:2025", "source": path, "id": "column:GEO_ID",
                        "crop_code": "SNAR_CODE", "keep_columns": ["SL_FLAECHE_BRUTTO_HA"]}),
    ):  # fmt: skip
        verb.run(verb.arguments.model_validate(arguments), Context(db))
    add_user(db, "anna", 1)
    frame = geopandas.read_file(f"/vsizip/{path}/{INNER}")
    frame.index = [f"{number:.0f}" for number in frame["GEO_ID"]]
    return frame


@pytest.fixture
def read(app, source, tmp_path):
    """Read the collection by GDAL, in pages of 30."""

    def reading(**options) -> geopandas.GeoDataFrame:
        target = tmp_path / "read.parquet"
        options = {
            "layer": "at_2025", "USERPWD": f"anna:{PASSWORD}", "PAGE_SIZE": "30",
            "bbox": None, **options,
        }  # fmt: skip
        with served(app) as address:
            subprocess.run(
                [sys.executable, "-c", _READ, address, str(target), json.dumps(options)],
                check=True, timeout=60,
            )  # fmt: skip
        return geopandas.read_parquet(target).set_index("pid")

    return reading


def test_gdal_reads_every_parcel_as_it_is_in_the_file(read, source):
    frame = read()
    assert frame.crs == source.crs
    assert len(frame) == len(source) == 100
    frame = frame.loc[source.index]
    assert list(frame["crop_code"]) == list(source["SNAR_CODE"])
    assert list(frame["SL_FLAECHE_BRUTTO_HA"]) == list(source["SL_FLAECHE_BRUTTO_HA"])
    # A millimetre.
    assert shapely.hausdorff_distance(frame.geometry.array, source.geometry.array).max() < 1e-3


def test_gdal_reads_longitude_and_latitude(read, source):
    frame = read(CRS="OGC:CRS84").loc[source.index]
    expected = source.to_crs("OGC:CRS84").geometry
    assert shapely.hausdorff_distance(frame.geometry.array, expected.array).max() < 1e-6


def test_gdal_asks_for_a_box_and_a_crop(read, source, caplog):
    caplog.set_level("INFO", logger="werkzeug")
    west, south, east, north = source.total_bounds
    box = (west, south, (west + east) / 2, (south + north) / 2)
    crop = source["SNAR_CODE"].mode()[0]
    inside = source.intersects(shapely.box(*box)) & (source["SNAR_CODE"] == crop)
    frame = read(bbox=box, where=f"crop_code = '{crop}'")
    assert sorted(frame.index) == sorted(source.index[inside])
    assert 0 < len(frame) < 100
    # It is the server that looks for the box, in the system of the file.
    assert "bbox-crs=http://www.opengis.net/def/crs/EPSG/0/31287" in caplog.text
