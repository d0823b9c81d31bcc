"""Small files of parcels in every format, for tests."""

from pathlib import Path

import geopandas
import numpy as np
import shapely

from cbm_extract.parcels import mapping, scan, source


def squares(count: int, x: float = 500_000.0, y: float = 5_000_000.0, side: float = 100.0):
    """A row of squares that touch each other, in metres."""
    left = x + side * np.arange(count)
    return shapely.box(left, y, left + side, y + side)


def frame(count: int = 3, crs="EPSG:32632", geometry=None, **columns) -> geopandas.GeoDataFrame:
    """Parcels p1, p2, ... with crop codes; further or other columns by name."""
    geometry = squares(count) if geometry is None else geometry
    data = {"pid": [f"p{i + 1}" for i in range(len(geometry))], "crop": 100, **columns}
    return geopandas.GeoDataFrame(data, geometry=list(geometry), crs=crs)


def gpkg(path: Path, parcels: geopandas.GeoDataFrame | None = None, layer="parcels") -> Path:
    parcels = frame() if parcels is None else parcels
    parcels.to_file(path, layer=layer, driver="GPKG")
    return path


def shapefile(path: Path, parcels=None, encoding="UTF-8") -> Path:
    parcels = frame() if parcels is None else parcels
    parcels.to_file(path, driver="ESRI Shapefile", encoding=encoding)
    return path


def options(id="column:pid", crop_code=None, crop_name=None, keep=(), **others) -> scan.Options:
    rule = mapping.Mapping(mapping.parse_id(id), crop_code, crop_name, tuple(keep))
    return scan.Options(mapping=rule, **others)


def read(path: Path, **arguments) -> scan.Scan:
    """Scan a file; what lies on disk is gone afterwards, the rest can be looked at."""
    with scan.scanned(source.identify(path), options(**arguments)) as scanned:
        return scanned


def read_rows(path: Path, **arguments) -> dict:
    """Scan a file and return {id: (crop code, crop name, attributes, geometry)}."""
    with scan.scanned(source.identify(path), options(**arguments)) as scanned:
        table = scanned.spool.table.read_all()
        columns = [table.column(n).to_pylist() for n in ("crop_code", "crop_name", "attributes")]
        geometries = scanned.spool.geometries(np.arange(len(scanned.spool)))
        rows = list(zip(*columns, geometries, strict=True))
        pids = scanned.ids.pids.to_pylist()
        return {pids[row]: rows[row] for row in scanned.ids.kept.tolist()}
