"""Parcels by the client: whole, filtered, in the right place, on however many pages."""

import sys
from datetime import date
from urllib.parse import parse_qs, urlsplit

import geopandas
import pandas as pd
import pytest
import shapely
from psycopg2.extras import Json

from cbm_client import ApiError, Client, parcels
from tests.client.stub import Answer, serve
from tests.client.world import COLLECTION, PARCELS, SHAPES
from tests.factories import sql, transformed

pytestmark = pytest.mark.postgis
PIDS = {*(f"p{n}" for n in range(PARCELS - 1)), "A/1 b"}


def test_collections_are_those_granted(client):
    (row,) = client.collections().itertuples()
    assert (row.Index, row.aoi, row.year, row.parcels, row.crs) == (
        COLLECTION, "tt", 2024, PARCELS, 32632,
    )  # fmt: skip
    assert (row.start.date(), row.end.date()) == (date(2024, 1, 1), date(2024, 12, 31))
    union = transformed(shapely.union_all(SHAPES), "EPSG:32632")
    assert row.bbox == pytest.approx(union.bounds, abs=1e-6)


@pytest.mark.parametrize("page", [2000, 7, 1])
def test_all_parcels_whatever_the_pages(client, monkeypatch, page):
    monkeypatch.setattr(parcels, "_PAGE", page)
    found = client.parcels(COLLECTION)
    assert isinstance(found, geopandas.GeoDataFrame)
    assert len(found) == PARCELS and set(found.pid) == PIDS
    assert found.crs.to_epsg() == 4326
    by_pid = found.set_index("pid")
    expected = transformed(SHAPES[7], "EPSG:32632")
    assert shapely.hausdorff_distance(by_pid.geometry["p7"], expected) < 1e-8
    assert by_pid.valid_from["p7"] == pd.Timestamp(2024, 1, 1) and pd.isna(by_pid.valid_to["p7"])
    areas = found.to_crs(3035).area
    assert found.area_m2.to_numpy() == pytest.approx(areas.to_numpy(), abs=0.1)


def test_no_more_pages_than_are_needed(client, monkeypatch):
    monkeypatch.setattr(parcels, "_PAGE", 5)
    asked = []
    ask = client._transport.get
    monkeypatch.setattr(
        client._transport, "get", lambda path, query: asked.append(query) or ask(path, query)
    )
    assert len(client.parcels(COLLECTION, most=8)) == 8
    assert len(asked) == 2
    assert len(client.parcels(COLLECTION, most=2)) == 2
    assert asked[2]["limit"] == "2"


def _too_wide(cursor: str) -> Answer:
    answer = Answer.problem(422, "search_too_wide")
    answer.body["cursor"] = cursor
    return answer


def _found(*pids: str, cursor: str | None) -> Answer:
    features = [{"properties": {"pid": pid, **NOTHING}, "geometry": POINT} for pid in pids]
    to = [] if cursor is None else [{"rel": "next", "href": f"https://a.b/items?cursor={cursor}"}]
    return Answer(200, {"features": features, "links": to})


NOTHING = dict.fromkeys(["crop_code", "crop_name", "area_m2", "valid_from", "valid_to"])
POINT = {"type": "Point", "coordinates": [0, 0]}


def test_a_search_goes_on_where_nothing_was_found_in_time():
    answers = [
        _too_wide("3.0"), _found("a", cursor="5.1"), _too_wide("7.0"), _too_wide("9.0"),
        _found("b", "c", cursor=None),
    ]  # fmt: skip
    seen: list[int] = []
    with serve(*answers) as stub, Client(stub.url, token="t") as one:
        found = one.parcels("tt_2024", crop_code="300", progress=seen.append)
    assert (list(found.pid), seen) == (["a", "b", "c"], [0, 1, 1, 1, 3])
    asked = [parse_qs(urlsplit(path).query) for path, _ in stub.asked]
    assert [query.get("cursor") for query in asked] == [None, ["3.0"], ["5.1"], ["7.0"], ["9.0"]]
    assert all(query["crop_code"] == ["300"] for query in asked)


@pytest.mark.parametrize("stuck", [_too_wide("3.0"), Answer.problem(422, "search_too_wide")])
def test_a_search_that_stays_where_it_is_ends(stuck):
    with serve(_too_wide("3.0"), stuck) as stub, Client(stub.url, token="t") as one:
        with pytest.raises(ApiError) as failure:
            one.parcels("tt_2024", crop_code="300")
        assert (failure.value.code, len(stub.asked)) == ("search_too_wide", 2)


def test_filters(client, monkeypatch):
    monkeypatch.setattr(parcels, "_PAGE", 2)
    rye = client.parcels(COLLECTION, crop_code="200")
    assert set(rye.crop_name) == {"rye"} and len(rye) == 9
    assert set(client.parcels(COLLECTION, crop_name="rye").pid) == set(rye.pid)
    box = transformed(SHAPES[12], "EPSG:32632").bounds
    assert list(client.parcels(COLLECTION, bbox=box).pid) == ["p12"]
    x, y = transformed(SHAPES[3], "EPSG:32632").centroid.coords[0]
    assert list(client.parcels(COLLECTION, bbox=(x, y, x, y)).pid) == ["p3"]
    assert len(client.parcels(COLLECTION, datetime=date(2024, 6, 1))) == PARCELS
    none = client.parcels(COLLECTION, datetime=(None, date(2023, 6, 1)))
    assert len(none) == 0 and none.crs.to_epsg() == 4326 and "crop_code" in none


@pytest.mark.parametrize("code", [32632, 4326, 3857])
def test_other_reference_systems_have_x_first(client, code):
    found = client.parcels(COLLECTION, crs=code).set_index("pid")
    expected = transformed(SHAPES[0], "EPSG:32632", f"EPSG:{code}")
    assert found.crs.to_epsg() == code
    tolerance = 1e-8 if code == 4326 else 2e-3
    assert shapely.hausdorff_distance(found.geometry["p0"], expected) < tolerance


def test_one_parcel(client):
    (found,) = client.parcel(COLLECTION, "A/1 b").itertuples()
    assert (found.pid, found.crop_code) == ("A/1 b", "200")
    assert found.geometry.area > 0
    with pytest.raises(ApiError) as failure:
        client.parcel(COLLECTION, "p24")
    assert failure.value.code == "parcel_unknown"
    assert "parcels()" in failure.value.hint


def test_peers_are_the_nearest_of_the_crop(client, site):
    found = client.peers(COLLECTION, "p12", limit=3)
    expected = sql(
        site.world.settings,
        """SELECT p.pid, ST_Distance(g.geom::geography, mine.geom::geography)
           FROM cbm.parcel p JOIN cbm.parcel_geometry g ON g.id = p.geometry_id,
             (SELECT g.geom FROM cbm.parcel JOIN cbm.parcel_geometry g ON g.id = geometry_id
              WHERE pid = 'p12') mine
           WHERE p.crop_code = '200' AND p.pid <> 'p12' ORDER BY 2 LIMIT 3""",
    )
    assert list(found.distance_m) == pytest.approx([far for _, far in expected], abs=0.06)
    assert set(found.crop_code) == {"200"}
    assert len(client.peers(COLLECTION, "p12", min_area=10_000)) == 0


def test_without_geopandas_there_is_geojson(client, monkeypatch):
    monkeypatch.setitem(sys.modules, "geopandas", None)
    found = client.parcels(COLLECTION, bbox=transformed(SHAPES[0], "EPSG:32632").bounds)
    assert type(found) is pd.DataFrame
    shape = shapely.geometry.shape(found.geometry[0])
    assert shapely.hausdorff_distance(shape, transformed(SHAPES[0], "EPSG:32632")) < 1e-8


def test_columns_of_the_agency_stay_as_they_are(client, site):
    """Also those that are called like columns of the API's other answers."""
    own = {
        "start": "sown late", "end": "never", "datetime": 7, "obstime": "31/12",
        "reference_time": {"a": 1}, "relative_orbit": "A12",
    }  # fmt: skip
    settings = site.world.settings
    sql(settings, "UPDATE cbm.parcel SET attributes = %s WHERE pid IN ('p3', 'p0')", Json(own))
    try:
        pages = [
            client.parcels(COLLECTION).set_index("pid").loc[["p3"]],
            client.parcel(COLLECTION, "p3"),
            client.peers(COLLECTION, "p6").set_index("pid").loc[["p3"]],
        ]
    finally:
        sql(settings, "UPDATE cbm.parcel SET attributes = '{}'")
    for page in pages:
        (row,) = page.to_dict("records")
        assert {name: row[name] for name in own} == own
        assert row["valid_from"] == pd.Timestamp(2024, 1, 1) and row["valid_to"] is pd.NaT
