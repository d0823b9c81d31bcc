"""Files of every format, and GeoParquet with other metadata than it should have."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from tests.unit.parcels import files


def geoparquet(path: Path, parcels=None, change=lambda geo: geo) -> Path:
    """A GeoParquet file; ``change`` edits its metadata."""
    (files.frame() if parcels is None else parcels).to_parquet(path)
    table = pq.read_table(path)
    metadata = dict(table.schema.metadata)
    geo = change(json.loads(metadata.pop(b"geo")))
    if geo is not None:
        metadata[b"geo"] = json.dumps(geo).encode()
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return path


def with_crs(crs):
    def change(geo):
        geo["columns"]["geometry"]["crs"] = crs
        return geo

    return change


def written(path: Path, driver: str) -> Path:
    parcels = files.frame(crop=[1, 2, 3], name=["a", "ä", None])
    if driver == "GeoJSON":
        parcels = parcels.to_crs("EPSG:4326")
    if driver == "OpenFileGDB":
        parcels.to_file(path, driver=driver, layer="parcels")
    else:
        parcels.to_file(path, driver=driver)
    return path
