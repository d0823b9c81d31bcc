"""Random polygons, and what GDAL makes of them."""

import numpy as np
import shapely
from affine import Affine
from rasterio.features import rasterize

from cbm_extract.plan.lattice import Grid, place
from cbm_extract.plan.rasterise import LatticeRuns, rasterise
from cbm_extract.plan.rings import Rings

SIZE = 300
WEST, NORTH = 399960, 5300040
AFFINE = Affine(10, 0, WEST, 0, -10, NORTH)
PLACEMENT = place(Grid("EPSG:32632", tuple(AFFINE)[:6], SIZE, SIZE))


def star(rng, x, y, radius, corners, snap):
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = radius * rng.uniform(0.2, 1, corners)
    points = np.column_stack([x + reach * np.cos(angle), y + reach * np.sin(angle)])
    return shapely.Polygon(np.round(points / snap) * snap if snap else points)


def random_polygons(rng, count, snap=None):
    """Polygons, some with holes, in several parts or reversed; corners snapped to ``snap`` m."""
    found = []
    while len(found) < count:
        x, y = WEST + rng.uniform(200, 2800), NORTH - rng.uniform(200, 2800)
        radius = rng.choice([4, 20, 60, 150, 600])
        one = star(rng, x, y, radius, rng.integers(3, 12), snap)
        other = star(rng, x + radius / 2, y, radius, 5, snap)
        kind = rng.integers(4)
        if kind == 1:
            one = one.buffer(0).difference(star(rng, x, y, radius / 2, 5, snap).buffer(0))
        elif kind == 2:
            one = shapely.union(one.buffer(0), shapely.affinity.translate(other.buffer(0), radius))
        elif kind == 3:
            one = shapely.symmetric_difference(one.buffer(0), other.buffer(0))
        one = shapely.make_valid(one)
        if one.geom_type in ("Polygon", "MultiPolygon") and not one.is_empty:
            found.append(shapely.reverse(one) if rng.integers(2) else one)
    return np.array(found, dtype=object)


def lattice_runs(polygons, placement=PLACEMENT) -> LatticeRuns:
    ids = np.arange(len(polygons), dtype=np.int32)
    return rasterise(
        Rings.from_shapely(np.array(polygons, dtype=object), ids).in_pixels(placement.lattice)
    )


def drawn(runs: LatticeRuns, k: int, placement=PLACEMENT) -> np.ndarray:
    """The pixels of geometry k as a raster that counts how often each was written."""
    out = np.zeros((placement.height, placement.width), dtype=np.uint8)
    for j in range(runs.indptr[k], runs.indptr[k + 1]):
        row, col = runs.row[j] - placement.row0, runs.col[j] - placement.col0
        if 0 <= row < placement.height:
            out[row, max(col, 0) : max(col + runs.length[j], 0)] += 1
    return out


def by_gdal(polygon, affine=AFFINE, shape=(SIZE, SIZE)) -> np.ndarray:
    return rasterize([(polygon, 1)], out_shape=shape, transform=affine, dtype="uint8")
