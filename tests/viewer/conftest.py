"""The page in a real browser, asking the real API on a real database."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from werkzeug.serving import make_server

from cbm_api.app import create_app
from cbm_core.settings import Settings
from tests import postgis
from tests.api.conftest import PASSWORD, add_user
from tests.factories import add_dataset
from tests.viewer import world

REPO = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium"
# Machines that test are busy.
PATIENCE_MS = 30_000
# WebGL by the processor: there is no graphics card.
ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
# No larger than needed: every pixel of the map is drawn by the processor.
DESKTOP, PHONE = {"width": 960, "height": 600}, {"width": 360, "height": 740}


@dataclass(frozen=True)
class Site:
    """A server with the dataset tt_2024 and the user anna, who may read it."""

    address: str
    settings: Settings


@pytest.fixture(scope="session")
def site(pg_server, migrated_template, tmp_path_factory) -> Iterator[Site]:
    subprocess.run([REPO / "tools" / "build-viewer"], check=True, stdout=subprocess.DEVNULL,
                   env=os.environ | {"PYTHON": sys.executable})  # fmt: skip
    name = postgis.new_database(pg_server, migrated_template)
    settings = pg_server.settings(name)
    made = world.make(settings, tmp_path_factory.mktemp("images"))
    # A dataset without parcels, with as long a name as there is.
    empty = add_dataset(settings, aoi="z" * 32)
    add_user(settings, "anna", made.dataset, empty)
    add_user(settings, "berta")
    app = create_app(replace(settings, database={**settings.database, "user": "cbm_web"}))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Site(f"http://127.0.0.1:{server.port}", settings)
    server.shutdown()
    thread.join()
    app.extensions["cbm_database"].close()
    postgis.drop_database(pg_server, name)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def contexts(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Visitors of a kind share the browser's cache of compiled code; the page keeps nothing."""
    made: dict[str, BrowserContext] = {}

    def of(**options) -> BrowserContext:
        key = repr(sorted(options.items()))
        if key not in made:
            made[key] = browser.new_context(
                **{"viewport": DESKTOP, "reduced_motion": "reduce", **options}
            )
        return made[key]

    yield of
    for context in made.values():
        context.close()


@dataclass
class Visit:
    """Somebody looks at the page."""

    page: Page
    address: str

    def open(self, place: str = "") -> None:
        self.page.goto(f"{self.address}/viewer/{place}")

    def log_in(self, user: str = "anna", password: str = PASSWORD) -> None:
        self.page.get_by_label("User").fill(user)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()

    def enter(self, place: str = "") -> None:
        """Log in, and wait until the map shows what it should."""
        self.open(place)
        self.log_in()
        expect(self.page.get_by_role("dialog")).to_be_hidden()
        expect(self.page.locator("#legend li").first).to_be_attached()

    def find(self, pid: str) -> None:
        self.page.get_by_label("Parcel", exact=True).fill(pid)
        self.page.get_by_role("button", name="Find").click()


@pytest.fixture
def visit(site: Site, contexts: Callable[..., BrowserContext]):
    """visit(viewport=PHONE, color_scheme="dark"): a new visitor.

    Afterwards: the page asked nobody but the API, and met no error or forbidden source.
    """
    visits, foreign, errors = [], [], []

    def begin(**context) -> Visit:
        page = contexts(**context).new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda one: _note(foreign, one.url, site.address))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda one: _complaint(errors, one))
        visits.append(page)
        return Visit(page, site.address)

    yield begin
    for page in visits:
        page.close()
    assert foreign == []
    assert errors == []


def _note(foreign: list[str], url: str, address: str) -> None:
    if not url.startswith((address, "blob:", "data:")):
        foreign.append(url)


def _complaint(errors: list[str], message) -> None:
    # Chromium reports answers of 400 and above as errors; what the page makes of them is tested.
    if message.type == "error" and not message.text.startswith("Failed to load resource"):
        errors.append(message.text)
