"""Pictures of the ground: from an orthophoto, map tiles and a map service; never anything else."""

import io
import math
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

from cbm_core.datasets.background import BACKGROUND
from cbm_core.errors import CbmError
from cbm_core.verbs import Context
from tests.api.chips import LEFT, SHAPES, TOP, image, tiff, world
from tests.factories import add_dataset, sql, transformed, write_raster

pytestmark = pytest.mark.postgis
BASE = "/v1/collections/tt_2024/items/p0"
MIDDLE = transformed(SHAPES[0].centroid, "EPSG:32632")
HERE = {"lon": MIDDLE.x, "lat": MIDDLE.y}
PARCEL = {"aoi": "tt", "year": 2024, "pid": "p0"}


@pytest.fixture
def made(db, tmp_path):
    return world(db, tmp_path)


def set_background(made, **given):
    arguments = BACKGROUND.arguments.model_validate({"dataset": "tt:2024", **given})
    return BACKGROUND.run(arguments, Context(made.settings))


def orthophoto(made) -> str:
    """Half metre pixels of which red rises to the east, green to the south; blue is 7."""
    rows, columns = 1200, 1600
    red = np.broadcast_to(np.arange(columns) // 8, (rows, columns))
    green = np.broadcast_to((np.arange(rows) // 8)[:, None], (rows, columns))
    colours = np.stack([red, green, np.full((rows, columns), 7)]).astype("uint8")
    path = made.folder / "ortho.tif"
    write_raster(path, colours, left=LEFT, top=TOP, res=0.5, photometric="RGB", tiled=True)
    return str(path)


def colour_at(x: float, y: float) -> tuple[float, float, int]:
    return (x - LEFT) / 4, (TOP - y) / 4, 7


def test_the_orthophoto_around_a_parcel(made, asking):
    set_background(made, source=orthophoto(made))
    answer = asking("anna", made.dataset).get(f"{BASE}/background.png", size=200, side=100)
    pixels = image(answer.data).astype(int)
    assert pixels.shape == (100, 100, 4)
    assert (pixels[..., 3] == 255).all()
    # 2 m a pixel; Web Mercator is turned against UTM by a degree.
    x, y = SHAPES[0].centroid.x, SHAPES[0].centroid.y
    for row, column in ((50, 50), (5, 5), (5, 95), (95, 5)):
        expected = colour_at(x + 2 * (column - 49.5), y - 2 * (row - 49.5))
        np.testing.assert_allclose(pixels[row, column, :3], expected, atol=1.5)


def test_without_an_orthophoto_there_is_none(made, asking):
    anna = asking("anna", made.dataset)
    answer = anna.get(f"{BASE}/background.png")
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert anna.get("/query/backgroundByLocation", **HERE).json == {}
    assert anna.get("/query/backgroundByParcelID", **PARCEL).json == {}


def test_the_client_gets_an_address_and_fetches_it_without_a_login(made, asking, app):
    set_background(made, source=orthophoto(made))
    anna = asking("anna", made.dataset)
    asked = {"chipsize": 64, "extend": 128, "tms": "Google", "iformat": "tif"}
    address = anna.get("/query/backgroundByLocation", **HERE, **asked).text
    assert address.startswith("http://")
    assert address.endswith("/google.tif")
    answer = app.test_client().get(urlsplit(address).path)
    with tiff(answer.data) as found:
        assert (found.count, found.shape, found.dtypes[0]) == (3, (64, 64), "uint8")
        assert found.crs.to_epsg() == 3857
        # 128 m on the ground are more in Web Mercator.
        stretched = 128 / math.cos(math.radians(MIDDLE.y))
        assert found.bounds.right - found.bounds.left == pytest.approx(stretched, rel=1e-6)
        np.testing.assert_allclose(
            found.read()[:, 32, 32], colour_at(*SHAPES[0].centroid.coords[0]), atol=1.5
        )
    asked |= {"iformat": "png", "raw": ""}
    by_parcel = anna.get("/query/backgroundByParcelId", **PARCEL, **asked).text
    assert image(app.test_client().get(urlsplit(by_parcel).path).data).shape == (64, 64, 4)
    page = anna.get("/query/backgroundByParcelID", **PARCEL, chipsize=64)
    assert page.content_type.startswith("text/html")
    assert 'src="http://' in page.text


def test_the_parcel_is_drawn_into_pictures(made, asking, db):
    set_background(made, source=orthophoto(made))
    anna = asking("anna", made.dataset)
    asked = {**PARCEL, "chipsize": 200, "extend": 200, "raw": ""}

    def fetched(**given):
        address = anna.get("/query/backgroundByParcelID", **asked, **given).text
        return anna.client.get(urlsplit(address).path)

    def file(answer):
        with tiff(answer.data) as found:
            return found.read()

    plain = image(fetched().data)
    np.testing.assert_array_equal(image(fetched(withGeometry="False").data), plain)
    drawn = image(fetched(withGeometry="True").data)
    rows, columns = np.nonzero((drawn != plain).any(axis=2))
    assert (drawn[..., :2] == 255).all(axis=2).sum() > 100
    # A metre a pixel: the parcel's sides, and a pixel more for the line.
    box = transformed(SHAPES[0], "EPSG:32632", "EPSG:3857").bounds
    shrunk = math.cos(math.radians(MIDDLE.y))
    for found, length in ((columns, box[2] - box[0]), (rows, box[3] - box[1])):
        assert found.max() - found.min() == pytest.approx(length * shrunk, abs=4)
        assert (found.max() + found.min()) / 2 == pytest.approx(100, abs=2)
    # A GeoTIFF is for calculating, as it was.
    plain = file(fetched(iformat="tif"))
    np.testing.assert_array_equal(file(fetched(iformat="tif", withGeometry="True")), plain)
    address = anna.get("/query/backgroundByParcelID", **asked, withGeometry="True").text
    sql(replace(db, database=db.connection("owner")), "UPDATE cbm.parcel SET known_to = now()")
    assert anna.client.get(urlsplit(address).path).status_code == 404


def test_places_without_a_parcel_of_ones_own_have_no_background(made, asking, db):
    set_background(made, source=orthophoto(made))
    other = add_dataset(db, aoi="xx")
    bert = asking("bert", other)
    assert bert.get("/query/backgroundByLocation", **HERE, raw="").json == {}
    assert bert.get("/query/backgroundByParcelID", **PARCEL, raw="").json == {}
    assert bert.get(f"{BASE}/background.png").json["code"] == "dataset_unknown"
    anna = asking("anna", made.dataset)
    address = urlsplit(anna.get("/query/backgroundByLocation", **HERE, raw="").text).path
    assert anna.client.get(address).status_code == 200
    owner = replace(db, database=db.connection("owner"))
    sql(owner, "DELETE FROM cbm.dataset_grant WHERE grantee = 'anna'")
    assert anna.client.get(address).status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"chipsize": 100_000},
        {"extend": "nan"},
        {"extend": 1e7},
        {"tms": "../../etc/passwd"},
        {"iformat": "vrt"},
        {"lon": "181"},
    ],
)
def test_bad_parameters_are_refused(made, asking, wrong):
    answer = asking("anna", made.dataset).get("/query/backgroundByLocation", **{**HERE, **wrong})
    assert (answer.status_code, answer.json["code"]) == (400, "bad_parameter")


@contextmanager
def pictures_of(answer):
    """A server that answers each path and query with a picture, or a status."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_arguments):
            pass

        def do_GET(self):
            asked.append(self.path)
            found = answer(self.path)
            body = io.BytesIO()
            if not isinstance(found, int):
                found.save(body, "PNG")
            self.send_response(found if isinstance(found, int) else 200)
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(body.getvalue())))
            self.end_headers()
            self.wfile.write(body.getvalue())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def tile_of(lon: float, lat: float, zoom: int) -> tuple[int, int]:
    """https://wiki.openstreetmap.org/wiki/Slippy_map_tilenames"""
    count = 2**zoom
    down = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2
    return int((lon + 180) / 360 * count), int(down * count)


def test_map_tiles_of_the_zoom_that_is_fine_enough(made, asking):
    def answer(path):
        _, z, x, y = path.removesuffix(".png").split("/")
        return Image.new("RGB", (256, 256), (int(z), int(x) % 256, int(y) % 256))

    anna = asking("anna", made.dataset)
    with pictures_of(answer) as (url, asked):
        set_background(made, source=url + "/{z}/{x}/{y}.png", zoom=20)
        pixels = image(anna.get(f"{BASE}/background.png", size=600, side=256).data)
        zoom = int(pixels[128, 128, 0])
        # 2.3 m a pixel are between zoom 15 and 16; at most twice as fine is asked for.
        assert 15 <= zoom <= 17
        x, y = tile_of(MIDDLE.x, MIDDLE.y, zoom)
        assert tuple(pixels[128, 128]) == (zoom, x % 256, y % 256, 255)
        assert len(asked) <= 25


def test_tiles_that_are_not_there_are_transparent_and_failures_are_503(made, asking):
    statuses = {"now": 404}
    anna = asking("anna", made.dataset)
    with pictures_of(lambda _path: statuses["now"]) as (url, _asked):
        set_background(made, source=url + "/{z}/{x}/{y}.png?key=secret")
        pixels = image(anna.get(f"{BASE}/background.png", side=64).data)
        assert (pixels[..., 3] == 0).all()
        statuses["now"] = 500
        answer = anna.get(f"{BASE}/background.png", side=64)
        assert (answer.status_code, answer.json["code"]) == (503, "raster_unreachable")
        assert "secret" not in answer.text


def test_a_map_service_is_asked_for_its_layers(made, asking):
    anna = asking("anna", made.dataset)
    picture = Image.new("RGBA", (256, 256), (10, 20, 30, 255))
    with pictures_of(lambda _path: picture) as (url, asked):
        set_background(made, source=f"{url}/wms?map=a&", layers="ortho<2024>")
        pixels = image(anna.get(f"{BASE}/background.png", side=64).data)
        assert tuple(pixels[32, 32]) == (10, 20, 30, 255)
    found = parse_qs(urlsplit(asked[0]).query)
    query = {name.lower(): value for name, (value, *_) in found.items()}
    assert (query["map"], query["request"], query["srs"]) == ("a", "GetMap", "EPSG:3857")
    assert query["layers"] == "ortho<2024>"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"source": "ortho.tif"},
        {"source": "ftp://x/y.tif"},
        {"source": "<GDAL_WMS/>"},
        {"source": "file:///x"},
        {"source": "https://x/{z}/{x}.png"},
        {"source": "s3://b/{z}/{x}/{y}.png"},
        {"source": "/maps", "layers": "a"},
        {"source": "/x.tif", "absent": True},
    ],
)
def test_sources_that_cannot_be_are_refused(made, given):
    with pytest.raises(CbmError) as caught:
        set_background(made, **given)
    assert caught.value.code == "background_invalid"


def test_setting_it_again_changes_nothing_and_check_writes_nothing(made, db):
    def stored():
        return sql(db, "SELECT settings FROM cbm.dataset")[0][0]

    sql(db, """UPDATE cbm.dataset SET settings = '{"bounds": [1, 2, 3, 4]}'""")
    assert set_background(made, source="/o.tif", check=True).changed
    assert "background" not in stored()
    assert set_background(made, source="/o.tif").changed
    assert stored() == {"bounds": [1, 2, 3, 4], "background": {"source": "/o.tif"}}
    assert not set_background(made, source="/o.tif").changed
    assert set_background(made, absent=True).changed
    assert stored() == {"bounds": [1, 2, 3, 4]}
    assert not set_background(made, absent=True).changed
