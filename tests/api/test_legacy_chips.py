"""The predecessor's routes to chips, as its client uses them: lists with a login, files without."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from itsdangerous import URLSafeTimedSerializer
from itsdangerous.timed import TimestampSigner

from cbm_core.settings import Settings
from tests.api import chips
from tests.api.chips import DAYS, LEFT, TOP, X, Y, image, pixels, scene, tiff, world
from tests.factories import add_dataset, asset, sql, transformed

pytestmark = pytest.mark.postgis
PERIOD = {"start_date": "2024-05-01", "end_date": "2024-05-31"}
PARCEL = {"aoi": "tt", "year": 2024, "pid": "p0"}
MIDDLE = transformed(chips.SHAPES[0].centroid, "EPSG:32632")
HERE = {"lon": MIDDLE.x, "lat": MIDDLE.y}


@pytest.fixture
def made(db, tmp_path):
    return world(db, tmp_path)


def owner(db: Settings) -> Settings:
    return replace(db, database=db.connection("owner"))


def test_the_client_lists_with_a_login_and_fetches_without(made, asking, app):
    scene(made)
    scene(made, 1)
    anna = asking("anna", made.dataset)
    found = anna.get("/query/rawChipByLocation", **HERE, **PERIOD, band="B04", chipsize=200).json
    assert list(found) == ["dates", "chips"]
    assert found["dates"] == ["20240501T103000", "20240506T103000"]
    # As pandas reads it, and the client names and sorts the files.
    frame = pd.read_json(io.StringIO(json.dumps(found)))
    assert frame["dates"].str[:8].tolist() == ["20240501", "20240506"]
    names = frame["chips"].str.split("/").str[-1]
    assert names[0] == "S2A_MSIL2A_20240501T103000_N0510.B04.tif"
    assert f"{names[0].split('.')[0]}.B04.tif" == names[0]
    assert all(chip.startswith("/query/") for chip in found["chips"])
    answer = app.test_client().get(found["chips"][0])
    with tiff(answer.data) as file:
        assert (file.dtypes[0], file.nodata, file.shape) == ("uint16", 0, (20, 20))
        row, column = round((TOP - file.bounds.top) / 10), round((file.bounds.left - LEFT) / 10)
        raw = pixels(1)[row : row + 20, column : column + 20].astype(int)
        # The offset is applied, and nothing that was observed becomes 0, which is no data.
        np.testing.assert_array_equal(file.read(1), np.maximum(raw - 1000, 1))
        x, y = (
            (file.bounds.left + file.bounds.right) / 2,
            (file.bounds.top + file.bounds.bottom) / 2,
        )
        assert abs(x - (X + 40)) <= 10
        assert abs(y - (Y + 40)) <= 10


def test_by_parcel_and_by_place_give_the_same_chip(made, asking):
    scene(made)
    anna = asking("anna", made.dataset)
    given = {**PERIOD, "band": "B4", "chipsize": 200}
    by_place = anna.get("/query/rawChipByLocation", **HERE, **given).json["chips"]
    bodies = [anna.client.get(by_place[0]).data]
    for spelling in ("ID", "Id"):
        route = f"/query/rawChipByParcel{spelling}"
        by_parcel = anna.get(route, **PARCEL, **given).json["chips"]
        bodies.append(anna.client.get(by_parcel[0]).data)
    with tiff(bodies[0]) as one, tiff(bodies[1]) as other:
        assert one.bounds == other.bounds
        np.testing.assert_array_equal(one.read(), other.read())
    assert bodies[1] == bodies[2]


def test_names_alone_are_what_a_batch_takes(made, asking):
    for day in (1, 0):
        scene(made, day)
    anna = asking("anna", made.dataset)
    names = [f"S2A_MSIL2A_{day:%Y%m%dT%H%M%S}_N0510" for day in DAYS[:2]]
    for route, where in (("rawChipByLocation", HERE), ("rawChipByParcelID", PARCEL)):
        # The predecessor's client names no band here.
        found = anna.get(f"/query/{route}", **where, **PERIOD, onlylist="True").json
        assert found == {"chips": names}
        full = anna.get(f"/query/{route}", **where, **PERIOD, band="B04", onlylist="False").json
        assert list(full) == ["dates", "chips"]
    body = {**HERE, "tiles": found["chips"], "bands": ["B04"], "chipsize": 200}
    assert len(anna.post("/query/rawChipsBatch", body).json["chips"]) == 2
    bert = asking("bert", add_dataset(made.settings, aoi="xx"))
    assert bert.get("/query/rawChipByLocation", **HERE, **PERIOD, onlylist="True").json == {}


def test_a_batch_by_names(made, asking):
    for day in range(2):
        scene(made, day)
    names = [f"S2A_MSIL2A_{day:%Y%m%dT%H%M%S}_N0510" for day in DAYS[:2]]
    anna = asking("anna", made.dataset)
    body = {**HERE, "tiles": names, "bands": ["B04", "B11"], "chipsize": 200}
    found = anna.post("/query/rawChipsBatch", body).json
    assert found["dates"] == [
        f"{day:%Y%m%dT%H%M%S}_{band}" for day in DAYS[:2] for band in ("B04", "B11")
    ]
    assert [chip.rpartition("/")[2] for chip in found["chips"]] == [
        f"{name}.{band}.tif" for name in names for band in ("B04", "B11")
    ]
    with tiff(anna.client.get(found["chips"][1]).data) as coarse:
        assert (coarse.shape, coarse.res) == ((10, 10), (20.0, 20.0))
    body["tiles"] = names * 10
    many = anna.post("/query/rawChipsBatch", {**body, "bands": ["B04"] * 30})
    assert (many.status_code, many.json["code"]) == (400, "bad_parameter")


def test_sentinel_1_chips_are_linear_power_as_floats(made, asking):
    power = np.full((60, 80), 0.25, "float32")
    power[30, 40] = -0.125
    bands = {band: asset(made.raster(band, power)) for band in ("VV", "VH")}
    made.scene(bands, card="bs", reference="S1A_IW_GRDH", obstime=DAYS[0])
    anna = asking("anna", made.dataset)
    body = {**HERE, "dates": ["2024-05-01", "2024-05-02"], "chipsize": 300, "plevel": "CARD-BS"}
    found = anna.post("/query/rawS1ChipsBatch", body).json
    assert found["dates"] == ["20240501T103000_VH", "20240501T103000_VV"]
    assert found["chips"][1].endswith("/S1A_IW_GRDH_VV.tif")
    with tiff(anna.client.get(found["chips"][1]).data) as file:
        assert file.dtypes[0] == "float32"
        assert set(np.unique(file.read(1))) == {-0.125, 0.25}
    body["plevel"] = "CARD-COH6"
    assert anna.post("/query/rawS1ChipsBatch", body).json == {"dates": [], "chips": []}


def test_a_page_of_pictures(made, asking):
    for day in range(3):
        scene(made, day)
    anna = asking("anna", made.dataset)
    for route, where in (("chipsByLocation", HERE), ("chipsByParcelID", PARCEL)):
        page = anna.get(f"/query/{route}", **where, **PERIOD, lut="0_4000_0_4000_0_4000")
        assert page.content_type.startswith("text/html")
        assert re.findall(r'id="(\w+)"', page.text) == [f"{day:%Y%m%dT%H%M%S}" for day in DAYS]
        first = re.findall(r'src="([^"]+)"', page.text)[0]
        answer = anna.client.get(first)
        assert answer.content_type == "image/png"
        assert image(answer.data).shape == (128, 128, 4)
    assert anna.get("/query/chipsByLocation", **HERE, **PERIOD).status_code == 200


def test_more_than_24_chips_are_refused(made, asking):
    number = scene(made)
    sql(
        made.settings,
        """INSERT INTO cbm.scene (reference, part, card, platform, obstime, datatake_start, tile,
             footprint, extent_crs, extent_bounds, assets, source)
           SELECT 'r' || n, part, card, platform, obstime + n * interval '1 hour',
             datatake_start + n * interval '1 hour', tile, footprint, extent_crs, extent_bounds,
             assets, source
           FROM cbm.scene, generate_series(1, 24) n WHERE id = %s""",
        number,
    )
    anna = asking("anna", made.dataset)
    answer = anna.get("/query/rawChipByLocation", **HERE, **PERIOD, band="B04")
    assert (answer.status_code, answer.json["code"]) == (400, "bad_parameter")
    names = anna.get("/query/rawChipByLocation", **HERE, **PERIOD, onlylist="True").json["chips"]
    assert len(names) == 25
    one_day = {"start_date": "2024-05-01", "end_date": "2024-05-01"}
    answer = anna.get("/query/rawChipByLocation", **HERE, **one_day, band="B04")
    assert len(answer.json["chips"]) == 14


def test_places_without_a_parcel_of_ones_own_have_nothing(made, asking, db):
    scene(made)
    other = add_dataset(db, aoi="xx")
    bert = asking("bert", other)
    asked = {**PERIOD, "band": "B04"}
    assert bert.get("/query/rawChipByLocation", **HERE, **asked).json == {}
    assert bert.get("/query/rawChipByParcelID", **PARCEL, **asked).json == {}
    assert bert.get("/query/chipsByLocation", **HERE, **PERIOD).json == {}
    assert bert.get("/query/chipsByParcelID", **PARCEL, **PERIOD).json == {}
    body = {**HERE, "tiles": ["scene"], "bands": ["B04"], "chipsize": 200}
    assert bert.post("/query/rawChipsBatch", body).json == {}
    body = {**HERE, "dates": ["2024-05-01", "2024-05-02"], "chipsize": 200, "plevel": "CARD-BS"}
    assert bert.post("/query/rawS1ChipsBatch", body).json == {}
    anna = asking("anna", made.dataset)
    away = {"lon": HERE["lon"] + 1, "lat": HERE["lat"]}
    assert anna.get("/query/rawChipByLocation", **away, **asked).json == {}
    assert anna.get("/query/rawChipByParcelID", **{**PARCEL, "pid": "p9"}, **asked).json == {}


def listed(made, asking) -> tuple:
    scene(made)
    anna = asking("anna", made.dataset)
    found = anna.get("/query/rawChipByLocation", **HERE, **PERIOD, band="B04", chipsize=200).json
    return anna.client, found["chips"][0]


def test_an_address_serves_only_while_its_user_may_look(made, asking, db):
    client, address = listed(made, asking)
    sql(owner(db), "DELETE FROM cbm.dataset_grant WHERE grantee = 'anna'")
    answer = client.get(address)
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    sql(owner(db), "INSERT INTO cbm.dataset_grant VALUES (%s, 'api', 'anna')", made.dataset)
    assert client.get(address).status_code == 200
    sql(owner(db), "UPDATE cbm.api_user SET disabled_at = now()")
    answer = client.get(address)
    assert (answer.status_code, answer.json["code"]) == (401, "login_failed")


def test_addresses_expire(made, asking, monkeypatch):
    client, address = listed(made, asking)
    now = TimestampSigner.get_timestamp
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda self: now(self) + 3500)
    assert client.get(address).status_code == 200
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda self: now(self) + 3700)
    answer = client.get(address)
    assert (answer.status_code, answer.json["code"]) == (401, "token_expired")


def test_addresses_cannot_be_made_or_changed(made, asking):
    client, address = listed(made, asking)
    _, _, _, ticket, name = address.split("/")
    signed, signature = ticket.rsplit(".", 1)
    forged = [
        "x",
        # Not its last character: two of that one's bits are filling, which decoding leaves out.
        f"{signed}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}",
        "A" + ticket[1:],
        ticket + "\x00",
        "..",
        URLSafeTimedSerializer("guess", salt="chip").dumps(
            ["anna", 1, ["B04"], HERE["lon"], HERE["lat"], 200, None]
        ),
    ]
    for one in forged:
        answer = client.get(f"/query/chips/{one}/{name}")
        assert answer.status_code in (401, 404), one
    # An address of another kind is none of a background.
    assert client.get(f"/query/backgrounds/{ticket}/google.tif").status_code == 401


def test_the_look_is_written_down_under_the_user_of_the_address(made, asking, db):
    client, address = listed(made, asking)
    sql(owner(db), "DELETE FROM cbm.audit")
    client.get(address)
    rows = sql(owner(db), "SELECT who, detail FROM cbm.audit")
    ((who, detail),) = rows
    assert (who, detail["dataset"], detail["parcels"]) == ("api:anna", "tt_2024", ["p0"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"lon": "nan"},
        {"lat": 91},
        {"lon": "5;rm -rf"},
        {"chipsize": 0},
        {"chipsize": 1e9},
        {"chipsize": "1280 && ls"},
        {"band": "B04' OR 1=1"},
        {"band": "../../etc"},
        {"band": "B99"},
        {"plevel": "LEVEL1C"},
        {"start_date": "01-05-2024"},
        {"end_date": "2024-05-31'"},
    ],
)
def test_bad_parameters_are_refused(made, asking, wrong):
    scene(made)
    given = {**HERE, **PERIOD, "band": "B04", **wrong}
    answer = asking("anna", made.dataset).get("/query/rawChipByLocation", **given)
    assert (answer.status_code, answer.json["code"]) == (400, "bad_parameter")


@pytest.mark.parametrize("lut", ["5", "95_5", "0_1_2_3", "x_y", "0_1_0_1_0_nan", "<script>"])
def test_bad_shades_are_refused_before_a_page_is_made(made, asking, lut):
    scene(made)
    answer = asking("anna", made.dataset).get("/query/chipsByLocation", **HERE, **PERIOD, lut=lut)
    assert (answer.status_code, answer.json["code"]) == (400, "bad_parameter")
