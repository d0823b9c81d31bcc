"""What the page shows, and how it is used."""

import io
import re
import secrets
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.factories import sql
from tests.viewer import world
from tests.viewer.conftest import DESKTOP, PHONE

pytestmark = pytest.mark.postgis


def picture(locator) -> np.ndarray:
    """What an element looks like: uint8 [rows, columns, 3]."""
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB"))


def share(image: np.ndarray, colour: str, within: int = 45) -> float:
    """The share of an image's pixels that are near a colour."""
    return float(_near(image, colour, within).mean())


def _near(image: np.ndarray, colour: str, within: int = 45) -> np.ndarray:
    """Which of an image's pixels are near a colour: bool [rows, columns]."""
    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return np.abs(image.astype(int) - wanted).max(axis=2) < within


def test_wrong_password_is_refused_and_the_right_one_is_kept_nowhere(visit):
    anna = visit()
    anna.open()
    anna.log_in(password="wrong")
    expect(anna.page.get_by_role("alert")).to_contain_text("wrong")
    expect(anna.page.get_by_role("dialog")).to_be_visible()
    anna.log_in()
    expect(anna.page.get_by_role("dialog")).to_be_hidden()
    assert anna.page.evaluate("sessionStorage.length + localStorage.length") == 0
    assert anna.page.context.cookies() == []
    anna.page.get_by_role("button", name="Log out").click()
    expect(anna.page.get_by_role("dialog")).to_be_visible()


def test_a_token_is_as_good_as_a_password(visit, site):
    secret = f"cbm_{secrets.token_urlsafe(32)}"
    admin = replace(site.settings, database=site.settings.connection("owner"))
    sql(
        admin,
        """INSERT INTO cbm.api_token (user_name, label, hash, expires_at)
           VALUES ('anna', 'page', sha256(%s), now() + interval '1 hour')""",
        secret.encode(),
    )
    anna = visit()
    anna.open()
    anna.page.get_by_text("Log in with a token").click()
    anna.page.get_by_label("Token").fill(secret)
    anna.page.get_by_role("button", name="Log in").click()
    expect(anna.page.locator("#collection option")).to_have_count(2)


def test_who_may_read_nothing_is_told_so(visit):
    berta = visit()
    berta.open()
    berta.log_in("berta")
    expect(berta.page.get_by_role("status")).to_contain_text("No dataset")
    assert berta.page.locator("#collection option").count() == 0


def test_parcels_have_the_colour_of_their_crop(visit):
    anna = visit()
    anna.enter()
    entries = anna.page.locator("#legend li")
    assert sorted(entries.all_inner_texts()) == sorted([crop or "no crop" for crop in world.CROPS])
    colours = [rect.get_attribute("fill") for rect in anna.page.locator("#legend rect").all()]
    assert len(set(colours)) == len(world.CROPS)
    seen = picture(anna.page.locator("#map"))
    ground = share(seen, "#eceae4", 5)
    assert 0.05 < ground < 0.9
    for colour in colours:
        assert share(seen, colour) > 0.01, colour


def test_a_dataset_without_parcels_shows_an_empty_map(visit):
    anna = visit()
    anna.enter("#collection=tt_2024&parcel=p0")
    anna.page.get_by_label("Dataset").select_option(f"{'z' * 32}_2024")
    expect(anna.page.locator("#panel")).to_be_hidden()
    expect(anna.page.locator("#legend")).to_be_hidden()
    expect(anna.page.get_by_role("status")).to_have_text("This dataset has no parcels yet.")
    anna.find("p0")
    expect(anna.page.get_by_role("status")).to_have_text("There is no parcel p0 in this dataset.")
    anna.page.get_by_label("Dataset").select_option("tt_2024")
    expect(anna.page.locator("#legend li")).to_have_count(len(world.CROPS))
    expect(anna.page.get_by_role("status")).to_be_empty()


def test_one_crop_can_be_shown_alone(visit):
    anna = visit()
    anna.enter()
    button = anna.page.get_by_role("button", name="Show only Maize")
    colour = button.locator("rect").get_attribute("fill")
    before = picture(anna.page.locator("#map"))
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    anna.page.wait_for_timeout(500)
    after = picture(anna.page.locator("#map"))
    assert share(after, colour) == pytest.approx(share(before, colour), rel=0.2)
    assert share(after, "#eceae4", 5) > share(before, "#eceae4", 5) + 0.1


def test_a_parcel_is_found_by_its_id_and_its_numbers_are_those_stored(visit, site):
    anna = visit()
    anna.enter()
    anna.find("p1")
    panel = anna.page.locator("#panel")
    expect(panel.get_by_role("heading", name="Parcel p1")).to_be_visible()
    expect(panel).to_contain_text("Maize")
    chart = panel.locator("figure.chart").filter(has_text="NDVI").first
    expect(chart.locator("circle")).to_have_count(len(world.OPTICAL))
    expect(chart.locator("circle.clouded")).to_have_count(len(world.CLOUDED))
    stored = sql(
        site.settings,
        """SELECT obstime::date::text, mean FROM cbm.signature_long
           WHERE pid = 'p1' AND band = 'NDVI' ORDER BY obstime""",
    )
    slider = panel.get_by_role("slider")
    slider.focus()
    slider.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", f"{world.OPTICAL[0]:%Y-%m-%d}")
    for day, mean in stored:
        while not chart.locator(".reading").inner_text().startswith(day):
            slider.press("ArrowRight")
        cloud = "100" if world.OPTICAL.index(_time(day)) in world.CLOUDED else "0"
        assert (
            chart.locator(".reading").inner_text() == f"{day} · NDVI {mean:.2f} · {cloud} % clouded"
        )


def _time(day: str):
    return next(when for when in world.OPTICAL if f"{when:%Y-%m-%d}" == day)


def test_radar_has_a_line_for_each_orbit_in_decibels(visit, site):
    anna = visit()
    anna.enter("#collection=tt_2024&parcel=p0")
    chart = anna.page.locator("figure.chart").filter(has_text="Backscatter")
    labels = ["VV ascending 117", "VV descending 22", "VH ascending 117", "VH descending 22"]
    expect(chart.locator(".choices label")).to_have_text(labels)
    chart.get_by_text("Values").click()
    first = chart.locator("tbody tr").first.locator("td").all_inner_texts()
    ((power,),) = sql(
        site.settings,
        """SELECT mean FROM cbm.signature_long
           WHERE pid = 'p0' AND band = 'VV' ORDER BY obstime LIMIT 1""",
    )
    assert first[1] == f"{10 * np.log10(power):.1f}"


def test_bands_can_be_chosen(visit):
    anna = visit()
    anna.enter("#collection=tt_2024&parcel=p0")
    chart = anna.page.locator("figure.chart").filter(has_text="Bands")
    expect(chart.locator("circle")).to_have_count(5 * len(world.OPTICAL))
    chart.get_by_role("checkbox", name="B11").uncheck()
    expect(chart.locator("circle")).to_have_count(4 * len(world.OPTICAL))


def test_images_stand_in_a_strip_and_can_be_enlarged(visit):
    anna = visit()
    anna.enter("#collection=tt_2024&parcel=p0")
    strip = anna.page.locator(".chips")
    expect(strip.locator("figure")).to_have_count(len(world.OPTICAL))
    expect(strip.locator("figcaption").nth(2)).to_contain_text("100 % clouded")
    loaded = "[...document.querySelectorAll('.chips img')].filter((one) => one.naturalWidth).length"
    anna.page.wait_for_function(f"{loaded} >= 3")
    # What is out of sight was not fetched.
    assert anna.page.evaluate(loaded) < len(world.OPTICAL)
    strip.get_by_role("button").first.click()
    large = anna.page.get_by_role("dialog").get_by_role("img")
    expect(large).to_have_js_property("naturalWidth", 512)
    anna.page.keyboard.press("Escape")
    anna.page.get_by_label("Images are shown in").select_option("radar (VV)")
    expect(strip.locator("figure")).to_have_count(len(world.RADAR))


def test_the_orthophoto_stands_beside_the_data_and_can_be_enlarged(visit):
    anna = visit()
    anna.enter("#collection=tt_2024&parcel=p5")
    small = anna.page.locator(".ground img")
    expect(small).to_have_js_property("naturalWidth", 224)
    colour = "#{:02x}{:02x}{:02x}".format(*world.GROUND)
    assert share(picture(small), colour, 10) > 0.9
    anna.page.get_by_role("button", name="Orthophoto").click()
    dialog = anna.page.get_by_role("dialog", name="Orthophoto")
    expect(dialog.get_by_role("img")).to_have_js_property("naturalWidth", 512)


def test_a_dataset_without_an_orthophoto_is_asked_once(visit):
    anna = visit()
    asked = []

    def nothing(route):
        asked.append(route.request.url)
        route.fulfill(status=404, json={"code": "not_found", "detail": "No orthophoto."})

    anna.page.route("**/background.png*", nothing)
    anna.enter("#collection=tt_2024&parcel=p0")
    expect(anna.page.locator("figure.chart")).to_have_count(3)
    anna.find("p1")
    expect(anna.page.get_by_role("heading", name="Parcel p1")).to_be_visible()
    expect(anna.page.locator("figure.chart")).to_have_count(3)
    expect(anna.page.locator(".ground")).to_be_empty()
    assert len(asked) == 1


def test_what_failed_can_be_tried_again_where_it_would_stand(visit):
    anna = visit()
    broken = {"status": 503, "json": {"detail": "The database restarts."}}
    anna.page.route(
        "**/p0/signatures?product=radar*", lambda route: route.fulfill(**broken), times=1
    )
    anna.enter("#collection=tt_2024&parcel=p0")
    curves = anna.page.locator(".curves")
    expect(curves.get_by_role("alert")).to_have_text("The database restarts.")
    curves.get_by_role("button", name="Try again").click()
    expect(curves.locator("figure.chart")).to_have_count(3)
    expect(curves.get_by_role("alert")).to_have_count(0)


def test_a_parcel_that_is_found_lies_within_the_map_beside_its_panel(visit):
    for viewport in (DESKTOP, PHONE):
        anna = visit(viewport=viewport)
        anna.enter()
        maize = anna.page.locator("#legend li").filter(has_text="Maize")
        colour = maize.locator("rect").get_attribute("fill")
        anna.find("p1")
        expect(anna.page.locator("figure.chart")).to_have_count(3)
        anna.page.wait_for_timeout(500)
        seen = _near(picture(anna.page.locator("#map")), colour)
        middle = seen[seen.shape[0] // 2], seen[:, seen.shape[1] // 2]
        for line in middle:
            assert line[len(line) // 2]
            assert not line[:20].any()
            assert not line[-20:].any()


def test_a_click_on_the_map_opens_the_parcel(visit):
    anna = visit()
    anna.enter()
    box = anna.page.locator("#map").bounding_box()
    # The corner that four fields share is in the middle of neither row: the second row is.
    anna.page.mouse.click(box["x"] + box["width"] / 2 + 40, box["y"] + box["height"] / 2)
    expect(anna.page.get_by_role("heading", name=re.compile("Parcel p6"))).to_be_visible()
    assert "parcel=p6" in anna.page.url


def test_the_keyboard_alone_opens_and_closes_a_parcel(visit):
    anna = visit()
    anna.enter()
    anna.page.locator("#map canvas").focus()
    anna.page.keyboard.press("ArrowRight")
    anna.page.wait_for_timeout(500)
    anna.page.keyboard.press("Enter")
    panel = anna.page.locator("#panel")
    expect(panel.get_by_role("heading", name="Parcel p")).to_be_visible()
    expect(panel).to_be_focused()
    anna.page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    assert "parcel=" not in anna.page.url


def test_an_unknown_id_is_said_and_changes_nothing(visit):
    anna = visit()
    anna.enter()
    anna.find("p1'; DROP TABLE <b>x</b> ../../..")
    expect(anna.page.get_by_role("status")).to_contain_text(
        "There is no parcel p1'; DROP TABLE <b>"
    )
    expect(anna.page.locator("#panel")).to_be_hidden()


@pytest.fixture
def held(site):
    """One of the optical images is held back."""
    change = "UPDATE cbm.scene SET state = %s WHERE reference = 'optical5'"
    sql(site.settings, change, "held")
    yield world.OPTICAL[5]
    sql(site.settings, change, "active")


def test_it_says_why_there_is_no_value_of_a_date(visit, held):
    anna = visit()
    anna.enter("#collection=tt_2024&parcel=p0")
    gaps = anna.page.locator("details").filter(has_text="Dates without a value")
    gaps.locator("summary").click()
    expect(gaps.locator("li")).to_have_count(1)
    expect(gaps.locator("li")).to_contain_text(f"{held:%Y-%m-%d} · optical · The scene was found")


def test_an_expired_login_is_asked_for_again_and_the_page_goes_on(visit):
    anna = visit()
    anna.enter("#collection=tt_2024&parcel=p0")
    expect(anna.page.locator("figure.chart")).to_have_count(3)
    expired = {"status": 401, "json": {"detail": "Expired."}}
    anna.page.route("**/items/p1", lambda route: route.fulfill(**expired), times=1)
    anna.find("p1")
    expect(anna.page.get_by_role("alert")).to_have_text("Expired.")
    anna.log_in()
    expect(anna.page.get_by_role("dialog")).to_be_hidden()
    expect(anna.page.get_by_role("heading", name="Parcel p0")).to_be_visible()
    expect(anna.page.locator("figure.chart")).to_have_count(3)


def test_a_busy_server_is_asked_again(visit):
    anna = visit()
    anna.enter()
    refused = []

    def once(route):
        if refused:
            route.continue_()
            return
        refused.append(route.request.url)
        route.fulfill(status=503, headers={"Retry-After": "1"}, json={"detail": "Busy."})

    anna.page.route("**/items/p2", once)
    anna.find("p2")
    expect(anna.page.get_by_role("heading", name="Parcel p2")).to_be_visible()
    assert len(refused) == 1


def test_no_more_is_asked_at_once_than_the_server_allows(visit):
    anna = visit()
    anna.enter()
    held = []

    def hold(route):
        held.append(route)

    anna.page.route("**/chips/*.png*", hold)
    anna.find("p0")
    expect(anna.page.locator(".chips figure")).to_have_count(len(world.OPTICAL))
    for _ in range(100):
        anna.page.wait_for_timeout(100)
        if len(held) == 5:
            break
    anna.page.wait_for_timeout(500)
    assert len(held) == 5
    # Lets those go on that are held.
    anna.page.unroute("**/chips/*.png*")
    expect(anna.page.locator("figure.chart")).to_have_count(3)


def test_the_series_is_saved_as_csv(visit):
    anna = visit()
    anna.enter("#collection=tt_2024&parcel=p3")
    with anna.page.expect_download() as waiting:
        anna.page.get_by_role("button", name="Download optical as CSV").click()
    assert waiting.value.suggested_filename == "p3_optical.csv"
    lines = waiting.value.path().read_text().splitlines()
    assert lines[0].startswith("pid,obstime")
    assert len(lines) == 1 + len(world.OPTICAL)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_within_its_width(visit, scheme):
    anna = visit(viewport=PHONE, color_scheme=scheme, has_touch=True, is_mobile=True)
    anna.enter("#collection=tt_2024&parcel=p0")
    expect(anna.page.locator("figure.chart")).to_have_count(3)
    width = anna.page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"]
    for part in ("#map", "#panel", "#pid", "#collection"):
        box = anna.page.locator(part).bounding_box()
        assert box["x"] >= 0, part
        assert box["x"] + box["width"] <= PHONE["width"], part


def test_dark_is_dark(visit):
    anna = visit(color_scheme="dark")
    anna.enter()
    assert share(picture(anna.page.locator("#map")), "#1b1f1d", 5) > 0.05
    assert picture(anna.page.locator("header")).mean() < 90
