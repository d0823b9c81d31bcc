"""Series of many parcels: chosen by id or place, streamed in pieces."""

import io
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from cbm_api.routes import bulk
from cbm_core.errors import CbmError
from tests.api.stored import random_rows
from tests.factories import add_dataset, add_parcels, add_product, add_scene, sql, square
from tests.factories import transformed as moved

pytestmark = pytest.mark.postgis

LEFT, TOP = 600_000.0, 5_300_000.0
PATH = "/v1/collections/tt_2024/signatures"
PARCELS = 9


@pytest.fixture
def dataset(db, monkeypatch) -> int:
    """Nine parcels in a row with nine scenes, and as many of another dataset; read by fours."""
    monkeypatch.setattr(bulk, "CHUNK", 4)
    shapes = [square(LEFT + 200 * n, TOP) for n in range(PARCELS)]
    scenes = [
        add_scene(db, {}, reference=f"s{n}", obstime=datetime(2024, 5, 1, 10, tzinfo=UTC) + n * DAY)
        for n in range(9)
    ]
    product = add_product(db, variables=("B04", "B08"))
    made = []
    for aoi in ("tt", "zz"):
        made.append(add_dataset(db, aoi=aoi))
        random_rows(db, made[-1], add_parcels(db, made[-1], shapes), product, scenes)
    return made[0]


DAY = timedelta(days=1)


def test_the_same_series_as_one_by_one(asking, dataset):
    anna = asking("anna", dataset)
    found = anna.post(PATH, {})
    assert found.status_code == 200
    body = found.json
    assert body["product"]["name"] == "s2"
    assert [one["pid"] for one in body["parcels"]] == [f"p{n}" for n in range(PARCELS)]
    for one in body["parcels"]:
        alone = anna.get(f"/v1/collections/tt_2024/items/{one['pid']}/signatures").json
        assert one["columns"] == alone["columns"]


def test_all_formats_hold_the_same_rows(asking, dataset):
    anna = asking("anna", dataset)
    body = {"bands": ["B08"], "statistics": ["mean"], "max_cloud": 0.5}
    table = pa.ipc.open_stream(anna.post(PATH, body, f="arrow").data).read_all()
    parquet = pq.ParquetFile(io.BytesIO(anna.post(PATH, body, f="parquet").data))
    assert parquet.read().equals(table)
    assert parquet.num_row_groups == 3
    lines = anna.post(PATH, body, f="csv").text.splitlines()
    assert len(lines) == 1 + table.num_rows
    assert lines[0] == ",".join(table.column_names)
    parcels = anna.post(PATH, body, f="json").json["parcels"]
    means = [mean for one in parcels for mean in one["columns"]["B08_mean"]]
    assert len(means) == table.num_rows > PARCELS
    assert pa.array(means, pa.float32()).equals(table["B08_mean"].combine_chunks())


def test_parcels_by_id(asking, dataset):
    anna = asking("anna", dataset)
    found = anna.post(PATH, {"pids": ["p7", "p2", "p7"]}).json
    assert [one["pid"] for one in found["parcels"]] == ["p2", "p7"]
    unknown = anna.post(PATH, {"pids": ["p7", "x'; --"]})
    assert (unknown.status_code, unknown.json["code"]) == (404, "parcel_unknown")
    assert "x'; --" in unknown.json["detail"]


def test_parcels_by_place(asking, dataset):
    anna = asking("anna", dataset)

    def pids(shape):
        area = shapely.geometry.mapping(moved(shape, "EPSG:32632"))
        found = anna.post(PATH, {"polygon": json.loads(json.dumps(area))})
        assert found.status_code == 200
        return [one["pid"] for one in found.json["parcels"]]

    assert pids(square(LEFT + 250, TOP - 10, 400)) == ["p1", "p2", "p3"]
    # Within the box of this one, but not within it.
    assert pids(shapely.Polygon([(LEFT, TOP), (LEFT, TOP + 2000), (LEFT + 5, TOP)])) == ["p0"]
    bow = [(LEFT, TOP), (LEFT + 900, TOP + 90), (LEFT + 900, TOP), (LEFT, TOP + 90), (LEFT, TOP)]
    assert pids(shapely.Polygon(bow)) == ["p0", "p1", "p2", "p3", "p4"]
    assert pids(square(0, 0)) == []


def test_one_log_entry_per_piece_names_its_parcels(asking, dataset, db):
    assert asking("anna", dataset).post(PATH, {}).data
    owner = {**db.database, "user": "cbm_admin"}
    rows = sql(type(db)(database=owner), "SELECT detail -> 'parcels' FROM cbm.audit ORDER BY id")
    assert [one for (one,) in rows] == [
        ["p0", "p1", "p2", "p3"], ["p4", "p5", "p6", "p7"], ["p8"]
    ]  # fmt: skip


def test_no_session_is_held_while_a_client_reads(app, asking, dataset):
    anna = asking("anna", dataset)
    response = anna.client.post(PATH, json={}, headers=anna.headers, buffered=False)
    pieces = iter(response.response)
    next(pieces)
    database = app.extensions["cbm_database"]
    held = [database._free.acquire(blocking=False) for _ in range(app_pool(app))]
    assert all(held)
    for _ in held:
        database._free.release()


def app_pool(app) -> int:
    return app.extensions["cbm_settings"].api.pool_size


def test_a_grant_revoked_meanwhile_breaks_the_answer_off(asking, dataset, db):
    anna = asking("anna", dataset)
    response = anna.client.post(PATH, json={}, headers=anna.headers, buffered=False)
    pieces = iter(response.response)
    next(pieces)
    owner = {**db.database, "user": "cbm_admin"}
    sql(type(db)(database=owner), "DELETE FROM cbm.dataset_grant WHERE grantee = 'anna'")
    with pytest.raises(CbmError, match="not granted"):
        list(pieces)


def test_of_others_nothing(asking, dataset, db):
    other = add_dataset(db, aoi="yy")
    bert = asking("bert", other)
    for body in ({}, {"pids": ["p0"]}):
        found = bert.post(PATH, body)
        assert (found.status_code, found.json["code"]) == (404, "dataset_unknown")


RING = [[11, 47], [12, 47], [12, 48], [11, 47]]
BAD = [
    {"pids": []}, {"pids": "p0"}, {"pids": ["a\0b"]}, {"pids": ["\ud800"]}, {"pids": [1]},
    {"pids": [""]}, {"pids": ["p0"], "polygon": {"type": "Polygon", "coordinates": [RING]}},
    {"polygon": {"type": "Polygon", "coordinates": [RING[:3]]}},
    {"polygon": {"type": "Polygon", "coordinates": [[*RING[:3], [13, 47]]]}},
    {"polygon": {"type": "Polygon", "coordinates": []}},
    {"polygon": {"type": "Point", "coordinates": [11, 47]}},
    {"polygon": {"type": "Polygon", "coordinates": [[[11, 91]] * 4]}},
    {"polygon": {"type": "Polygon", "coordinates": [[[float("nan"), 47]] * 4]}},
    {"polygon": {"type": "Polygon", "coordinates": [[[10**400, 47]] * 4]}},
    {"polygon": "POLYGON((0 0,1 0,1 1,0 0))"}, {"bands": ["B04\0"]}, {"surprise": 1}, [], "x", None,
    {"max_cloud": "x"}, {"datetime": 5},
]  # fmt: skip


def test_bad_requests(asking, dataset):
    anna = asking("anna", dataset)
    for body in BAD:
        found = anna.client.post(PATH, data=json.dumps(body), headers=anna.headers,
                                 content_type="application/json")  # fmt: skip
        assert (found.status_code, found.json["code"]) == (400, "bad_parameter"), body
    for text in (b"{", b"\xff\xfe", b'{"pids": ["' + b"[" * 5000):
        found = anna.client.post(PATH, data=text, headers=anna.headers,
                                 content_type="application/json")  # fmt: skip
        assert found.status_code == 400
    large = anna.client.post(PATH, data=b"x" * 2**21, headers=anna.headers)
    assert large.status_code in (400, 413)


def test_a_tangled_polygon_is_refused_before_it_is_mended(asking, dataset):
    """Mending thousands of crossings would bring the database server down."""
    anna = asking("anna", dataset)
    random = np.random.default_rng(1)
    tangle = random.uniform((10, 46), (12, 48), (3000, 2)).tolist()
    area = {"type": "Polygon", "coordinates": [[*tangle, tangle[0]]]}
    found = anna.post(PATH, {"polygon": area})
    assert (found.status_code, found.json["code"]) == (400, "bad_parameter")
    assert "3001 positions" in found.json["detail"]
