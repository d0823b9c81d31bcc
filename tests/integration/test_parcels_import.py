"""What an import does to a layer: differences, history, geometries; checked in the database."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import psycopg2
import pytest
import shapely
from pyproj import Geod, Transformer

from cbm_core.datasets import verbs as datasets
from cbm_core.errors import CbmError
from cbm_extract.parcels import verbs
from cbm_extract.parcels.load import apply
from tests.integration import imports
from tests.integration.imports import FOREVER, START, active, counts, everything, known, query, run
from tests.unit.parcels import files

pytestmark = pytest.mark.postgis


@pytest.fixture
def dataset(db):
    return imports.dataset(db)


@pytest.fixture
def put(dataset, tmp_path):
    return imports.put(dataset, tmp_path)


def test_first_import(put, dataset):
    answer = put(files.frame(3, crop=[1, 2, 3]))
    assert counts(answer) == (3, 0, 0)
    assert known(dataset) == [(f"p{i}", str(i), START, FOREVER) for i in (1, 2, 3)]
    row = query(
        dataset,
        """SELECT layer, parcels, added, changed, removed, crs_id, options ->> 'id',
                  report ->> 'parcels', length(checksum) FROM cbm.parcel_set""",
    )
    assert row == [("", 3, 3, 0, 0, 32632, "column:pid", "3", 32)]
    assert query(dataset, "SELECT * FROM cbm.crs") == [(32632, "EPSG:32632")]
    assert query(dataset, "SELECT DISTINCT ST_SRID(geom_src), ST_SRID(geom) FROM parcel_geometry") \
        == [(32632, 4326)]  # fmt: skip


def test_the_same_again_changes_nothing(put, dataset, tmp_path):
    put(files.frame(3))
    before = everything(dataset)
    answer = put(0)
    assert (answer.changed, answer.plan, counts(answer)) == (False, [], (0, 0, 0))
    assert answer.result["parcel_set"] == 1
    assert answer.before == answer.after
    (tmp_path / "0.gpkg").rename(tmp_path / "7.gpkg")
    assert not put(7).changed
    assert everything(dataset) == before


def test_other_bytes_with_the_same_parcels_are_recorded_and_touch_none(put, dataset):
    put(files.frame(3))
    before = everything(dataset)
    shuffled = files.frame(3, note="x").iloc[[2, 0, 1]]
    answer = put(shuffled)  # file number 1
    assert (answer.changed, counts(answer)) == (True, (0, 0, 0))
    assert answer.plan[0].startswith("record the import")
    after = everything(dataset)
    assert len(after.pop("parcel_set")) == 2
    before.pop("parcel_set")
    assert after == before
    assert not put(1).changed


def test_other_options_with_the_same_parcels_are_recorded(put, dataset):
    put(files.frame(3))
    answer = put(0, overlap_threshold_m2=5)
    assert answer.plan[0].startswith("record the import")
    assert not put(0, overlap_threshold_m2=5).changed


def test_a_changed_file_touches_only_what_differs(put, dataset):
    put(files.frame(50, crop=list(range(50))))
    before = {row[2]: row for row in everything(dataset)["parcel"]}
    parcels = files.frame(50, crop=list(range(50)))
    parcels.loc[3, "crop"] = 999
    parcels.loc[7, "geometry"] = shapely.box(0, 0, 50, 50)
    parcels = parcels.drop(index=[10, 11])
    parcels.loc[60] = ["new", 5, shapely.box(100, 0, 150, 50)]
    answer = put(parcels)
    assert counts(answer) == (1, 2, 2)
    assert answer.result["new_geometries"] == 2
    assert answer.plan == [
        "add 1 parcels to ie:2024 layer ''",
        "change the geometry of 1 parcels of ie:2024 layer ''",
        "change attributes of 1 parcels of ie:2024 layer ''",
        "remove 2 parcels from ie:2024 layer ''",
    ]
    after = {row[2]: row for row in everything(dataset)["parcel"]}
    same = [text for text in after if text in before]
    assert len(same) == 46
    assert all(after[text] == before[text] for text in same), "not even rewritten"


def test_an_attribute_edit_keeps_the_geometry(put, dataset):
    put(files.frame(2, crop=[1, 2]))
    geometries = active(dataset)
    assert counts(put(files.frame(2, crop=[1, 3]))) == (0, 1, 0)
    assert active(dataset) == geometries
    assert known(dataset) == [("p1", "1", START, FOREVER), ("p2", "3", START, FOREVER)]
    assert counts(put(files.frame(2, crop=[1, 3], note="n"), keep_columns=["note"])) == (0, 2, 0)
    assert active(dataset) == geometries


def test_a_changed_geometry_is_a_new_row_and_the_old_one_retires(put, dataset):
    put(files.frame(2))
    before, _ = active(dataset)
    parcels = files.frame(2)
    parcels.loc[0, "geometry"] = shapely.box(0, 0, 50, 50)
    put(parcels)
    after, ids = active(dataset)
    assert after["p2"] == before["p2"]
    assert after["p1"] > max(before.values())
    assert ids == sorted(after.values())
    introduced = query(
        dataset, "SELECT parcel_set_id FROM cbm.parcel_geometry WHERE id = %s", after["p1"]
    )
    assert introduced == [(2,)]
    put(files.frame(2))
    again, ids = active(dataset)
    assert again["p1"] > after["p1"], "a geometry that comes back is a new row"
    assert ids == sorted(again.values())


def test_equal_geometries_share_a_row(put, dataset):
    square = files.squares(1)[0]
    turned = shapely.Polygon(list(square.exterior.coords)[2:] + list(square.exterior.coords)[1:3])
    answer = put(files.frame(geometry=[square, turned, shapely.MultiPolygon([square])]))
    assert (answer.result["new_geometries"], counts(answer)) == (1, (3, 0, 0))
    of_parcel, ids = active(dataset)
    assert set(of_parcel.values()) == set(ids)
    put(files.frame(geometry=[square]))
    assert active(dataset)[1] == ids, "as long as one parcel has it"


def test_layers_are_independent_and_share_geometries(put, dataset):
    put(files.frame(3))
    answer = put(files.frame(2, crop=[7, 8]), layer="eco")
    assert (counts(answer), answer.result["new_geometries"]) == ((2, 0, 0), 0)
    assert [row[:2] for row in known(dataset, "eco")] == [("p1", "7"), ("p2", "8")]
    assert len(known(dataset)) == 3
    _, ids = active(dataset)
    put(files.frame(3).iloc[2:])  # p1 and p2 leave the first layer
    assert active(dataset)[1] == ids, "the other layer keeps the geometries"
    put(files.frame(3).iloc[[0]].assign(pid="x"), layer="eco")
    assert len(active(dataset)[1]) == 2


def test_check_says_the_same_and_changes_nothing(put, dataset):
    put(files.frame(4))
    before = everything(dataset)
    parcels = files.frame(5, crop=[100, 100, 100, 1, 2]).iloc[1:]
    planned = put(parcels, check=True)
    assert everything(dataset) == before
    done = put(1)
    assert (planned.plan, planned.changed, counts(planned)) == (done.plan, True, counts(done))
    assert planned.after == done.after
    assert planned.before == done.before


def test_geometry_ids_follow_a_hilbert_curve(put, dataset):
    side = 16
    x, y = np.meshgrid(np.arange(side) * 100.0 + 5e5, np.arange(side) * 100.0 + 5e6)
    boxes = shapely.box(x.ravel(), y.ravel(), x.ravel() + 100, y.ravel() + 100)
    put(files.frame(geometry=np.random.default_rng(2).permutation(boxes)))
    rows = query(
        dataset, "SELECT ST_XMin(geom_src), ST_YMin(geom_src) FROM cbm.parcel_geometry ORDER BY id"
    )
    steps = np.abs(np.diff(np.array(rows), axis=0)).sum(axis=1)
    assert len(rows) == side * side
    assert steps.max() == 100.0


def test_more_than_one_batch(put, dataset, monkeypatch):
    monkeypatch.setattr(apply, "_BATCH", 7)
    monkeypatch.setattr("cbm_extract.parcels.tables.ROWS_PER_BATCH", 5)
    put(files.frame(50))
    rows = query(
        dataset,
        """SELECT p.pid, ST_XMin(g.geom_src) FROM cbm.parcel p
           JOIN cbm.parcel_geometry g ON g.id = p.geometry_id""",
    )
    assert dict(rows) == {f"p{i + 1}": 5e5 + 100 * i for i in range(50)}


@pytest.mark.parametrize(
    ("crs", "longitude", "latitude"),
    [("EPSG:4326", 8.5, 47.4), ("EPSG:32734", 20.0, -33.0), ("EPSG:2193", 175.5, -37.5),
     ("EPSG:32701", 180.0, -16.8), ("EPSG:3857", 10.0, 60.0)],
)  # fmt: skip
def test_everywhere_on_earth(put, dataset, crs, longitude, latitude):
    half = 50 / 111_320 if crs == "EPSG:4326" else 50.0
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(longitude, latitude)
    put(files.frame(geometry=[shapely.box(x - half, y - half, x + half, y + half)], crs=crs))
    ((wkb, area, postgis_area, valid, type_name),) = query(
        dataset,
        """SELECT ST_AsBinary(geom), area_m2, ST_Area(geom::geography), ST_IsValid(geom),
                  GeometryType(geom) FROM cbm.parcel_geometry""",
    )
    geometry = shapely.from_wkb(bytes(wkb))
    parts = shapely.get_parts(geometry)
    assert (valid, type_name) == (True, "MULTIPOLYGON")
    assert len(parts) == (2 if longitude == 180.0 else 1)
    assert all(np.ptp(shapely.bounds(part)[[0, 2]]) < 0.01 for part in parts)
    assert np.abs(shapely.bounds(geometry)[[1, 3]] - latitude).max() < 0.01
    expected = sum(abs(Geod(ellps="WGS84").geometry_area_perimeter(part)[0]) for part in parts)
    assert area == pytest.approx(expected, rel=2e-3)
    assert postgis_area == pytest.approx(expected, rel=1e-6)


def test_crs_without_a_code(put, dataset):
    crs = "+proj=tmerc +lat_0=45 +lon_0=9 +x_0=0 +y_0=0 +datum=WGS84 +units=m"
    put(files.frame(geometry=files.squares(2, x=0.0, y=0.0), crs=crs))
    ((srid, definition),) = query(dataset, "SELECT id, definition FROM cbm.crs")
    assert srid >= 900_000
    assert definition.startswith("PROJCRS")
    assert query(dataset, "SELECT DISTINCT ST_SRID(geom_src) FROM cbm.parcel_geometry") == [(srid,)]
    assert not put(files.frame(geometry=files.squares(2, x=0.0, y=0.0), crs=crs),
                   valid_from=START).result["new_geometries"]  # fmt: skip


def test_bounds_of_the_dataset_are_checked(db, tmp_path):
    run(datasets.ADD, db, aoi="ch", year=2022, bounds="5.9,45.8,10.5,47.9")
    path = files.gpkg(tmp_path / "a.gpkg")
    wanted = {"dataset": "ch:2022", "source": path, "id": "column:pid"}
    with pytest.raises(CbmError) as caught:
        run(verbs.IMPORT, db, **wanted)
    assert caught.value.code == "outside_area"
    answer = run(verbs.IMPORT, db, **wanted, bounds="8,45,10,46")
    assert answer.result["report"]["outside"]["count"] == 0


def test_unusual_text(put, dataset):
    names = ['a\tb\\N"c"', "Zürich 🌾", "back\\slash\nline"]
    put(files.frame(3, pid=names, crop=names, name=names), keep_columns=["name"])
    rows = query(dataset, "SELECT pid, crop_code, attributes ->> 'name' FROM cbm.parcel")
    assert sorted(rows) == sorted((n, n, n) for n in names)


def test_list_shows_the_imports(put, dataset):
    assert run(verbs.LIST, dataset, dataset="ie:2024").result["parcel_sets"] == []
    put(files.frame(3))
    put(files.frame(2), layer="eco")
    sets = run(verbs.LIST, dataset, dataset="ie:2024").result["parcel_sets"]
    assert [(s["id"], s["layer"], s["parcels"], s["crs"]) for s in sets] == [
        (1, "", 3, "EPSG:32632"),
        (2, "eco", 2, "EPSG:32632"),
    ]
    assert run(datasets.LIST, dataset).result["datasets"][0]["parcels"] == {"": 3, "eco": 2}


def test_unknown_dataset_and_layer_names(dataset, tmp_path):
    path = files.gpkg(tmp_path / "a.gpkg")
    with pytest.raises(CbmError) as caught:
        run(verbs.IMPORT, dataset, dataset="ie:2025", source=path, id="column:pid")
    assert caught.value.code == "dataset_unknown"
    for wrong in ({"layer": "Eco Schemes"}, {"id": "pid"}, {"duplicates": "ask"}):
        with pytest.raises(ValueError, match="validation error"):
            run(verbs.IMPORT, dataset, **{"dataset": "ie:2024", "source": path, "id": "column:pid"}
                | wrong)  # fmt: skip


@pytest.mark.parametrize("user", ["cbm_analyst", "cbm_web"])
def test_only_ingest_may_import(dataset, tmp_path, user):
    settings = replace(dataset, database={**dataset.database, "user": user})
    run(datasets.ADD, dataset, aoi="ie", year=2024, readers=["cbm_analyst"])
    path = files.gpkg(tmp_path / "a.gpkg")
    with pytest.raises(CbmError) as caught:
        run(verbs.IMPORT, settings, dataset="ie:2024", source=path, id="column:pid")
    assert caught.value.code in {"no_permission", "dataset_unknown"}
    assert query(dataset, "SELECT count(*) FROM cbm.parcel") == [(0,)]


def test_analyst_sees_parcels_of_granted_datasets_only(put, dataset):
    put(files.frame(2))
    settings = {**dataset.database, "user": "cbm_analyst"}
    statement = "SELECT count(*) FROM cbm.parcel JOIN cbm.parcel_geometry g ON g.id = geometry_id"

    def seen():
        with closing(psycopg2.connect(**settings)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0]

    assert seen() == 0
    run(datasets.ADD, dataset, aoi="ie", year=2024, readers=["cbm_analyst"])
    assert seen() == 2


def test_purge_and_import_again(put, dataset):
    put(files.frame(3))
    purged = run(datasets.PURGE, dataset, aoi="ie", year=2024, confirm="ie:2024")
    assert purged.result["removed"] == {"parcels": 3, "geometries": 3, "signatures": 0}
    run(datasets.ADD, dataset, aoi="ie", year=2024)
    assert counts(put(files.frame(3))) == (3, 0, 0)
