import numpy as np
import pyarrow as pa
import pytest
import shapely
from pyproj import Geod, Transformer

from cbm_core.errors import CbmError
from cbm_extract.parcels import projecting
from cbm_extract.parcels.crs import EqualArea, resolve
from cbm_extract.parcels.mapping import Mapped
from cbm_extract.parcels.projecting import Projector, choose_pipeline
from cbm_extract.parcels.spool import SpoolWriter, encode

GEOD = Geod(ellps="WGS84")


def project(crs, polygons):
    source = resolve(crs, None, "file")
    polygons = shapely.multipolygons(np.asarray(polygons), indices=np.arange(len(polygons)))
    bounds = shapely.total_bounds(polygons)
    extent = EqualArea(source.crs).extent(tuple(bounds.tolist()))
    return Projector(choose_pipeline(source.definition, extent, False)).project(polygons)


def around(crs, longitude, latitude, half=50.0):
    """A square in the units of a CRS around a place."""
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(longitude, latitude)
    return shapely.box(x - half, y - half, x + half, y + half)


@pytest.mark.parametrize(
    ("crs", "longitude", "latitude"),
    [
        ("EPSG:25832", 10.0, 52.0),
        ("EPSG:32628", -14.0, 28.0),  # Canary islands
        ("EPSG:2193", 175.5, -37.5),  # New Zealand
        ("EPSG:32734", 20.0, -33.0),  # South Africa, southern hemisphere
        ("EPSG:32735", 27.0, -26.0),
        ("EPSG:5070", -100.0, 40.0),
        ("EPSG:5880", -54.0, -15.0),  # Brazil polyconic
    ],
)
def test_area_is_true_everywhere(crs, longitude, latitude):
    degrees, areas = project(crs, [around(crs, longitude, latitude)])
    centre = shapely.centroid(degrees[0])
    assert (centre.x, centre.y) == (pytest.approx(longitude, abs=1e-3),
                                    pytest.approx(latitude, abs=1e-3))  # fmt: skip
    geodesic = abs(GEOD.geometry_area_perimeter(degrees[0])[0])
    assert areas[0] == pytest.approx(geodesic, rel=2e-3)


def test_wkb_is_moved_as_geometries_are():
    """Rings alone, parcels with holes and parts, and one on the antimeridian, in one batch."""
    x, y = 500_000.0, 4_000_000.0
    random = np.random.default_rng(3)
    rings = [
        shapely.convex_hull(
            shapely.MultiPoint(random.uniform(0, 100, (9, 2)) + np.array([x + 200 * i, y]))
        )
        for i in range(5)
    ]
    hole = shapely.box(x, y, x + 90, y + 90).difference(shapely.box(x + 10, y + 10, x + 20, y + 20))
    parts = shapely.MultiPolygon(
        [shapely.box(x, y, x + 9, y + 9), shapely.box(x + 50, y, x + 60, y + 9)]
    )
    on_line = around("EPSG:32660", 180.0, 36.0)
    polygons = np.array([
        p if p.geom_type == "MultiPolygon" else shapely.MultiPolygon([p])
        for p in [rings[0], hole, *rings[1:3], parts, on_line, *rings[3:]]
    ])  # fmt: skip
    polygons = shapely.normalize(polygons)
    projector = Projector(choose_pipeline("EPSG:32660", (175.0, 30.0, -179.0, 40.0), False))
    moved, areas = projector.project(polygons)
    wkb, same_areas = projector.project_wkb(shapely.to_wkb(polygons, byte_order=1).tolist())
    assert wkb == shapely.to_wkb(moved, byte_order=1).tolist()
    assert len(shapely.get_parts(moved[5])) == 2
    np.testing.assert_allclose(same_areas, areas, rtol=1e-9)
    assert projector.project_wkb([])[0] == []


def test_degrees_stay_as_they_are():
    square = shapely.box(8.0, 47.0, 8.001, 47.001)
    degrees, areas = project("EPSG:4326", [square])
    assert shapely.equals(degrees[0], square)
    assert areas[0] == pytest.approx(abs(GEOD.geometry_area_perimeter(square)[0]), rel=1e-3)


def test_parcel_across_the_antimeridian_is_cut():
    # Fiji: one parcel across 180 degrees, one on either side
    crs = "EPSG:32701"
    places = [(180.0, -16.8), (179.9, -16.8), (-179.9, -16.8)]
    degrees, areas = project(crs, [around(crs, *place) for place in places])
    assert shapely.get_num_geometries(degrees).tolist() == [2, 1, 1]
    bounds = shapely.bounds(degrees[0])
    assert (bounds[0], bounds[2]) == (-180.0, 180.0)
    parts = shapely.get_parts(degrees[0])
    assert sorted(shapely.bounds(parts)[:, 2] - shapely.bounds(parts)[:, 0] < 0.01) == [True, True]
    # the scale of UTM differs from 1 that far from its meridian, the same for all three
    assert areas[0] == pytest.approx(areas[1], rel=1e-3)
    geodesic = sum(abs(GEOD.geometry_area_perimeter(part)[0]) for part in parts)
    assert areas[0] == pytest.approx(geodesic, rel=2e-3)


@pytest.mark.parametrize(
    "ring",
    [
        [(179.999, 0), (-179.999, 0), (-179.999, 0.001), (179.999, 0.001)],
        [(179.999, 0), (180.001, 0), (180.001, 0.001), (179.999, 0.001)],
        [(-180.001, 0), (-179.999, 0), (-179.999, 0.001), (-180.001, 0.001)],
    ],
)
def test_every_way_to_write_it_in_degrees(ring):
    cut = projecting.cut_at_antimeridian(np.array([shapely.MultiPolygon([(ring, [])])]))[0]
    assert shapely.get_num_geometries(cut) == 2
    assert cut.area == pytest.approx(0.002 * 0.001)
    assert shapely.bounds(cut).tolist() == [-180.0, 0.0, 180.0, pytest.approx(0.001)]


def test_other_parcels_are_not_touched():
    polygons = np.array([shapely.MultiPolygon([shapely.box(179, 0, 180, 1)])])
    assert projecting.cut_at_antimeridian(polygons) is polygons


def test_swapped_axes_are_told():
    square = shapely.box(53.0, -8.001, 53.001, -8.0)  # latitude first: still on the globe
    assert project("EPSG:4326", [square])[0] is not None
    with pytest.raises(CbmError) as caught:
        project("EPSG:4326", [shapely.box(8.0, 147.0, 8.1, 147.1)])
    assert caught.value.code == "coordinates_invalid"


@pytest.mark.parametrize("crs", ["EPSG:25832", "EPSG:4326", "EPSG:5514"])
def test_coordinates_beyond_the_earth(crs):
    with pytest.raises(CbmError) as caught:
        project(crs, [shapely.box(1e15, 1e15, 2e15, 2e15)])
    assert caught.value.code == "coordinates_invalid"


def test_ballpark_is_refused_unless_told():
    # No transformation is known from this engineering-like datum to WGS 84.
    crs = resolve(
        'GEOGCS["Local",DATUM["Nobody knows",SPHEROID["Bessel 1841",6377397.155,299.1528128]],'
        'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]]',
        None,
        "file",
    )
    with pytest.raises(CbmError) as caught:
        choose_pipeline(crs.definition, (8.0, 47.0, 9.0, 48.0), False)
    assert caught.value.code == "ballpark_transformation"
    assert choose_pipeline(crs.definition, (8.0, 47.0, 9.0, 48.0), True).accuracy_m is None


@pytest.fixture
def spooled(tmp_path):
    """Return a spool of polygons."""

    def write(polygons):
        writer = SpoolWriter(tmp_path)
        nothing = pa.nulls(len(polygons), pa.string())
        writer.write(Mapped(*[nothing] * 4), encode(shapely.normalize(polygons), 0))
        return writer.finish()

    return write


def extent(spool, crs, rows=None):
    source = resolve(crs, None, "file")
    low, high = spool.bounds[:, :2].min(axis=0), spool.bounds[:, 2:].max(axis=0)
    rough = EqualArea(source.crs).extent((*low.tolist(), *high.tolist()))
    pipeline = choose_pipeline(source.definition, rough, False)
    rows = np.arange(len(spool)) if rows is None else rows
    return projecting.extent(spool, rows, pipeline, rough), pipeline, rough


@pytest.mark.parametrize(
    ("crs", "longitude", "latitude"),
    [
        ("EPSG:2056", 8.0, 47.0),  # Bessel's ellipsoid, some 100 m from WGS 84
        ("EPSG:32632", 3.0, 62.0),  # 5 degrees between north of the grid and north
        ("EPSG:5514", 17.0, 49.0),  # Krovak: 6 degrees, western and southern axes negated
        ("EPSG:3031", 60.0, -70.0),  # the grid's north is far from north
        ("EPSG:4326", -8.0, 53.0),
    ],
)
def test_extent_is_that_of_the_stored_parcels(spooled, monkeypatch, crs, longitude, latitude):
    monkeypatch.setattr(projecting, "_BLOCK", 700)
    random = np.random.default_rng(5)
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(longitude, latitude)
    metre = 1.0 if abs(x) > 180 else 1e-5
    corners = random.uniform(-0.5, 0.5, (3000, 7, 2)) * random.choice([60, 600, 9000], (3000, 1, 1))
    corners = (corners + random.uniform(-30e3, 30e3, (3000, 1, 2))) * metre + [x, y]
    polygons = shapely.multipolygons(
        shapely.convex_hull(shapely.multipoints(corners)), indices=np.arange(3000)
    )
    found, pipeline, _ = extent(spooled(polygons), crs)
    stored = shapely.total_bounds(Projector(pipeline).project(polygons)[0])
    assert found == tuple(stored.tolist())


def test_extent_has_the_shift_of_the_datum(spooled):
    """The example of swisstopo's "Approximate formulas for the transformation between Swiss
    projection coordinates and WGS84": good to a metre, as its formulas are."""
    place = shapely.multipolygons([shapely.box(2699999.76, 1099999.97, 2700009.76, 1100009.97)])
    found, _, rough = extent(spooled(np.array([place])), "EPSG:2056")
    longitude, latitude = 8 + 43 / 60 + 49.79 / 3600, 46 + 2 / 60 + 38.87 / 3600
    assert found[:2] == (pytest.approx(longitude, abs=2e-5), pytest.approx(latitude, abs=2e-5))
    assert abs(rough[0] - longitude) > 5e-4


def test_extent_leaves_out_rows(spooled):
    polygons = shapely.multipolygons(
        [shapely.box(8, 47, 8.001, 47.001), shapely.box(9, 48, 9.001, 48.001)], indices=[0, 1]
    )
    assert extent(spooled(polygons), "EPSG:4326", np.array([0]))[0] == (8, 47, 8.001, 47.001)


@pytest.mark.parametrize("crs", ["EPSG:32701", "EPSG:3832"])
def test_extent_crosses_the_antimeridian(spooled, crs):
    places = [(180.0, -16.8), (179.9, -16.8), (-179.9, -16.9)]
    squares = [around(crs, *place) for place in places]
    found = extent(spooled(shapely.multipolygons(squares, indices=[0, 1, 2])), crs)[0]
    assert found == pytest.approx((179.9, -16.9, -179.9, -16.8), abs=1e-3)


def test_extent_of_longitudes_beyond_180(spooled):
    square = shapely.multipolygons([shapely.box(179.5, 10.0, 180.5, 11.0)])
    assert extent(spooled(np.array([square])), "EPSG:4326")[0] == (179.5, 10.0, -179.5, 11.0)
