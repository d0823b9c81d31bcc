"""The page against the rules of WCAG 2.1 (A and AA), by axe-core."""

import pytest
from playwright.sync_api import expect

from tests.viewer.conftest import DESKTOP, PHONE, REPO

pytestmark = pytest.mark.postgis

AXE = REPO / "viewer" / "node_modules" / "axe-core" / "axe.min.js"
RULES = "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})"


def violations(page) -> list[str]:
    page.evaluate(AXE.read_text())
    found = page.evaluate(RULES)["violations"]
    return [f"{one['id']}: {node['html'][:120]}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_login_map_panel_and_picture_break_no_rule(visit, viewport, scheme):
    anna = visit(viewport=viewport, color_scheme=scheme)
    anna.open()
    assert violations(anna.page) == []
    anna.enter("#collection=tt_2024&parcel=p0")
    expect(anna.page.locator("figure.chart")).to_have_count(3)
    for summary in anna.page.locator("#panel summary").all():
        summary.click()
    assert violations(anna.page) == []
    anna.page.get_by_role("button", name="Orthophoto").click()
    expect(anna.page.get_by_role("dialog").get_by_role("img")).to_be_visible()
    assert violations(anna.page) == []
