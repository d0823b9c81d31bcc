"""Image chips of /v1: the right pixels, for the right people, and failures said as they are."""

from dataclasses import replace

import numpy as np
import pytest
from rasterio.features import rasterize

from tests.api import chips
from tests.api.chips import LEFT, TOP, X, Y, image, pixels, scene, tiff, world
from tests.extraction import texture
from tests.factories import add_dataset, add_scene, asset, sql
from tests.unit.read.server import serve

pytestmark = pytest.mark.postgis
BOUNDS = (LEFT, TOP - 600, LEFT + 800, TOP)
BASE = "/v1/collections/tt_2024/items/p0"


@pytest.fixture
def made(db, tmp_path):
    return world(db, tmp_path)


def test_the_list_has_one_image_per_pass_and_where_to_get_it(made, asking):
    first = scene(made)
    scene(made, 1)
    # The same pass in another tile.
    scene(made, 1, reference="other_tile", tile="32TLT")
    anna = asking("anna", made.dataset)
    found = anna.get(f"{BASE}/chips").json
    assert len(found["chips"]) == 2
    assert found["chips"][0]["scene"] == first
    assert found["complete"] is True
    assert found["chips"][0]["bands"] == ["B03", "B04", "B08", "B11"]
    assert anna.get(found["chips"][0]["png"]).status_code == 200
    assert anna.get(found["chips"][0]["tiff"]).content_type == "image/tiff"
    cut = anna.get(f"{BASE}/chips", limit=1).json
    assert (len(cut["chips"]), cut["complete"]) == (1, False)
    days = anna.get(f"{BASE}/chips", datetime="2024-05-02/..").json["chips"]
    assert [one["obstime"] for one in days] == ["2024-05-06T10:30:00Z"]
    assert anna.get(f"{BASE}/chips", card="bs").json["chips"] == []


def test_ids_may_hold_slashes_and_spaces(made, asking, db):
    scene(made)
    sql(db, "UPDATE cbm.parcel SET pid = 'A/1 b' WHERE pid = 'p0'")
    anna = asking("anna", made.dataset)
    (found,) = anna.get("/v1/collections/tt_2024/items/A%2F1%20b/chips").json["chips"]
    assert anna.client.get(found["png"], headers=anna.headers).content_type == "image/png"


def test_clouded_scenes_can_be_left_out(made, asking):
    number = scene(made)
    sql(made.settings, "UPDATE cbm.scene SET cloud_percent = 40 WHERE id = %s", number)
    anna = asking("anna", made.dataset)
    assert len(anna.get(f"{BASE}/chips", max_cloud=40).json["chips"]) == 1
    assert anna.get(f"{BASE}/chips", max_cloud=39).json["chips"] == []


def test_the_numbers_are_those_of_the_file_in_the_unit_of_the_statistics(made, asking):
    number = scene(made)
    answer = asking("anna", made.dataset).get(
        f"{BASE}/chips/{number}.tif", bands="B04,B11", size=200
    )
    with tiff(answer.data) as found:
        assert found.descriptions == ("B04", "B11")
        assert found.crs.to_epsg() == 32632
        assert (found.width, found.height, found.dtypes[0]) == (20, 20, "float32")
        assert abs(found.bounds.left - (X + 40 - 100)) <= 10
        column = round((found.bounds.left - LEFT) / 10)
        row = round((TOP - found.bounds.top) / 10)
        fine = pixels(1)[row : row + 20, column : column + 20]
        np.testing.assert_array_equal(found.read(1), fine.astype(float) - 1000)
        coarse = np.kron(pixels(99, 30, 40), np.ones((2, 2)))
        np.testing.assert_array_equal(
            found.read(2), coarse[row : row + 20, column : column + 20] - 1000
        )


def test_a_chip_gives_the_mean_that_the_extraction_stored(made, asking):
    number = scene(made)
    made.extract({"name": "p", "card": "s2", "bands": ["B04"]})
    stored = made.rows()[min(made.rows())]
    answer = asking("anna", made.dataset).get(f"{BASE}/chips/{number}.tif", bands="B04")
    with tiff(answer.data) as found:
        inside = rasterize(
            [(chips.SHAPES[0], 1)], out_shape=found.shape, transform=found.transform
        ).astype(bool)
        assert found.read(1)[inside].mean(dtype=float) == pytest.approx(stored.stats["B04"][1])


def test_what_lies_beside_the_image_is_no_data(made, asking):
    number = scene(made)
    answer = asking("anna", made.dataset).get(
        f"/v1/collections/tt_2024/items/p1/chips/{number}.tif", bands="B04", size=400
    )
    with tiff(answer.data) as found:
        values = found.read(1)
        assert values.shape == (40, 40)
        row, column = found.index(LEFT + 5, TOP - 5)
        assert np.isnan(values[:row]).all()
        assert np.isnan(values[:, :column]).all()
        corner = pixels(1)[: 40 - row, : 40 - column].astype(float) - 1000
        np.testing.assert_array_equal(values[row:, column:], corner)


def test_no_data_values_of_catalogue_and_file_are_no_data(made, asking):
    values = texture(seed=3)
    values[:, ::2] = 0
    values[::2] = 7
    path = made.raster("holes", values, nodata=7)
    number = made.scene({"B04": asset(path)})
    answer = asking("anna", made.dataset).get(f"{BASE}/chips/{number}.tif", bands="B04", size=100)
    with tiff(answer.data) as found:
        share = np.isnan(found.read(1)).mean()
    assert share == 0.75


def test_a_picture_shows_low_values_black_and_high_ones_white(made, asking):
    steps = np.zeros((60, 80), "uint16")
    steps[:, :35], steps[:, 35:] = 1000, 3000
    number = made.scene({"B04": asset(made.raster("steps", steps, nodata=0))})
    anna = asking("anna", made.dataset)
    shown = {"bands": "B04", "size": 200, "side": 40, "outline": "false"}
    answer = anna.get(f"{BASE}/chips/{number}.png", range="1000,3000", **shown)
    assert answer.content_type == "image/png"
    pixels = image(answer.data)
    assert pixels.shape == (40, 40, 4)
    assert set(np.unique(pixels[..., :3])) == {0, 255}
    assert (pixels[..., 3] == 255).all()
    border = np.flatnonzero(pixels[0, :, 0])[0]
    answer = anna.get(f"{BASE}/chips/{number}.tif", bands="B04", size=200)
    with tiff(answer.data) as found:
        assert border == 2 * round((LEFT + 350 - found.bounds.left) / 10)
    halves = image(anna.get(f"{BASE}/chips/{number}.png", range="0,4000", **shown).data)
    assert set(np.unique(halves[..., 0])) == {64, 191}
    stretched = image(anna.get(f"{BASE}/chips/{number}.png", stretch="2,98", **shown).data)
    assert set(np.unique(stretched[..., 0])) == {0, 255}


def test_three_bands_are_red_green_and_blue(made, asking):
    flat = {
        band: asset(made.raster(band, np.full((60, 80), value, "uint16")))
        for band, value in (("B08", 5000), ("B04", 1250), ("B03", 1))
    }
    number = made.scene(flat)
    anna = asking("anna", made.dataset)
    pixels = image(anna.get(f"{BASE}/chips/{number}.png", outline="false").data)
    assert [tuple(one) for one in np.unique(pixels.reshape(-1, 4), axis=0)] == [(255, 128, 0, 255)]


def test_the_outline_is_where_the_parcel_is(made, asking):
    number = made.scene({"B04": made.raster("grey", np.full((60, 80), 1250, "uint16"))})
    anna = asking("anna", made.dataset)
    asked = {"bands": "B04", "size": 200}
    pixels = image(anna.get(f"{BASE}/chips/{number}.png", side=400, **asked).data)
    yellow = (pixels[..., :3] == (255, 255, 0)).all(axis=-1)
    rows, columns = np.nonzero(yellow)
    with tiff(anna.get(f"{BASE}/chips/{number}.tif", **asked).data) as found:
        top, left = found.index(X, Y + 80, op=float)
        bottom, right = found.index(X + 80, Y, op=float)
    expected = [20 * one for one in (left, right, top, bottom)]
    drawn = [columns.min(), columns.max(), rows.min(), rows.max()]
    np.testing.assert_allclose(drawn, expected, atol=1.5)


def test_many_dates_in_one_picture(made, asking):
    for day in range(3):
        scene(made, day)
    anna = asking("anna", made.dataset)
    asked = {"size": 200, "side": 40, "columns": 2, "outline": "false"}
    sheet = image(anna.get(f"{BASE}/chips.png", **asked).data)
    chip = (40 + 4, 40 + 16 + 4)
    assert sheet.shape == (2 * chip[1] + 4, 2 * chip[0] + 4, 3)
    first = anna.get(f"{BASE}/chips").json["chips"][0]["scene"]
    alone = image(anna.get(f"{BASE}/chips/{first}.png", size=200, side=40, outline="false").data)
    np.testing.assert_array_equal(sheet[4:44, 4:44], alone[..., :3])
    assert (sheet[chip[1] + 4 : chip[1] + 44, chip[0] + 4 : chip[0] + 44] == 255).all()


def test_a_file_that_is_gone_is_said_and_leaves_a_place_in_the_sheet(made, asking):
    numbers = [scene(made, day) for day in range(2)]
    (made.folder / "S2A_MSIL2A_20240501T103000_N0510_B08.tif").unlink()
    anna = asking("anna", made.dataset)
    gone = anna.get(f"{BASE}/chips/{numbers[0]}.png")
    assert (gone.status_code, gone.json["code"]) == (404, "raster_missing")
    assert str(made.folder) not in gone.text
    asked = {"size": 200, "side": 40, "outline": "false"}
    sheet = image(anna.get(f"{BASE}/chips.png", **asked).data)
    assert (sheet[4:44, 4:44] == 225).all()
    assert not (sheet[4:44, 48:88] == 225).all()


def test_damaged_files_and_other_formats_are_not_opened(made, asking):
    numbers = []
    secret = made.folder / "secret.vrt"
    secret.write_text("<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>")
    cut = made.raster("cut", texture())
    cut.write_bytes(cut.read_bytes()[:2000])
    hrefs = [str(cut), str(secret), "/etc/passwd", "/vsizip/x.zip/y.tif", "GTIFF_DIR:1:/x.tif"]
    for number, href in enumerate(hrefs):
        assets = {"B04": {**asset("x"), "href": href}}
        numbers.append(add_scene(made.settings, assets, bounds=BOUNDS, reference=f"r{number}"))
    anna = asking("anna", made.dataset)
    for number, href in zip(numbers, hrefs, strict=True):
        answer = anna.get(f"{BASE}/chips/{number}.tif", bands="B04")
        assert (answer.status_code, answer.json["code"]) == (502, "raster_damaged"), href
        assert href not in answer.text


def test_other_users_and_other_places_see_nothing(made, asking, db):
    number = scene(made)
    other = add_dataset(db, aoi="xx")
    bert = asking("bert", other)
    for path in ("chips", "chips.png", f"chips/{number}.png", f"chips/{number}.tif"):
        answer = bert.get(f"{BASE}/{path}")
        assert (answer.status_code, answer.json["code"]) == (404, "dataset_unknown")
    anna = asking("anna", made.dataset)
    far = scene(made, 2)
    sql(
        db,
        "UPDATE cbm.scene SET footprint = ST_Translate(footprint, 5, 0) WHERE id = %s",
        far,
    )
    answer = anna.get(f"{BASE}/chips/{far}.png")
    assert (answer.status_code, answer.json["code"]) == (404, "scene_unknown")
    sql(db, "UPDATE cbm.scene SET state = 'retracted' WHERE id = %s", number)
    assert anna.get(f"{BASE}/chips/{number}.png").json["code"] == "scene_unknown"
    unknown = anna.get("/v1/collections/tt_2024/items/p9/chips")
    assert (unknown.status_code, unknown.json["code"]) == (404, "parcel_unknown")


def test_who_looked_at_which_parcel_is_written_down(made, asking, db):
    number = scene(made)
    asking("anna", made.dataset).get(f"{BASE}/chips/{number}.png")
    admin = replace(db, database=db.connection("owner"))
    rows = sql(admin, "SELECT who, detail ->> 'parcels' FROM cbm.audit WHERE action = 'read'")
    assert rows == [("api:anna", '["p0"]')]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("chips/{}.png", {"bands": "B04,B03"}),
        ("chips/{}.png", {"bands": "B99"}),
        ("chips/{}.png", {"bands": "B04,B04,B04,"}),
        ("chips/{}.png", {"bands": "B4;rm"}),
        ("chips/{}.png", {"stretch": "98,2"}),
        ("chips/{}.png", {"stretch": "nan,98"}),
        ("chips/{}.png", {"range": "0,inf"}),
        ("chips/{}.png", {"range": "0,1,2"}),
        ("chips/{}.png", {"range": "0,1", "stretch": "2,98"}),
        ("chips/{}.png", {"size": "nan"}),
        ("chips/{}.png", {"size": 1e9}),
        ("chips/{}.png", {"side": 100000}),
        ("chips/{}.png", {"unknown": 1}),
        ("chips/{}.tif", {"bands": "B04\0"}),
        ("chips/99999999999999.tif", {}),
        ("chips", {"datetime": "yesterday"}),
        ("chips", {"card": "zz"}),
        ("chips.png", {"limit": 1000}),
    ],
)
def test_bad_parameters_are_refused(made, asking, path, query):
    number = scene(made)
    answer = asking("anna", made.dataset).get(f"{BASE}/{path.format(number)}", **query)
    assert (answer.status_code, answer.json["code"]) == (400, "bad_parameter"), answer.text


def test_storage_that_is_away_is_503_and_serves_again(made, asking):
    body = made.raster("remote", texture(seed=5)).read_bytes()
    anna = asking("anna", made.dataset)
    with serve({"/b04.tif": body}) as site:
        number = add_scene(
            made.settings, {"B04": asset(f"{site.url}/b04.tif?token=secret")}, bounds=BOUNDS
        )
        site.failures["/b04.tif"] = [503] * 20
        answer = anna.get(f"{BASE}/chips/{number}.tif", bands="B04")
        assert (answer.status_code, answer.json["code"]) == (503, "raster_unreachable")
        assert int(answer.headers["Retry-After"]) > 0
        assert "secret" not in answer.text
        assert site.host not in answer.text
        site.failures.clear()
        answer = anna.get(f"{BASE}/chips/{number}.tif", bands="B04", size=100)
        with tiff(answer.data) as found:
            row = round((TOP - found.bounds.top) / 10)
            column = round((found.bounds.left - LEFT) / 10)
            values = texture(seed=5)[row : row + 10, column : column + 10]
            np.testing.assert_array_equal(found.read(1), values)
        del site.files["/b04.tif"]
        answer = anna.get(f"{BASE}/chips/{number}.tif", bands="B04")
        assert (answer.status_code, answer.json["code"]) == (404, "raster_missing")
