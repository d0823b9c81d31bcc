"""The demo where nothing is deployed yet: it runs again without change and tells a login."""

from __future__ import annotations

import urllib.request

import pytest

from tests.e2e.api import ask, settings_of
from tests.e2e.demo_story import Story
from tests.e2e.deployment import Deployment


@pytest.fixture
def deployment(demo_place: Deployment) -> Deployment:
    return demo_place


@pytest.fixture
def story(demo: Story) -> Story:
    return demo


def test_the_demo_runs_again_without_change(story: Story) -> None:
    assert story.first.changed > 0
    assert story.second.changed == 0, story.second.output
    assert story.checked_again.changed == 0, story.checked_again.output


def test_the_demo_tells_address_and_login(story: Story, deployment: Deployment) -> None:
    address = f"http://{settings_of(deployment)['api']['listen']}/viewer/"
    for run in (story.first, story.second):
        assert address in run.output
        assert f"password in {story.output}/password" in " ".join(run.output.split())
        assert story.password not in run.output
    assert (story.output / "password").stat().st_mode & 0o777 == 0o600
    assert len(story.password) == 20


def test_the_login_shows_the_demo_and_nothing_else(story: Story, deployment: Deployment) -> None:
    dataset = deployment.query(
        "SELECT d.aoi || '_' || d.year FROM cbm.dataset d JOIN cbm.dataset_grant g"
        " ON g.dataset_id = d.id WHERE g.via = 'api' AND g.grantee = 'demo'"
    )
    status, document = ask(deployment, "/v1/collections", f"demo:{story.password}")
    assert status == 200
    assert [one["id"] for one in document["collections"]] == [name for (name,) in dataset]
    assert len(dataset) == 1
    assert ask(deployment, "/v1/collections", "demo:another password")[0] == 401


def test_the_viewer_is_served(story: Story, deployment: Deployment) -> None:
    assert story.first.code == 0
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    base = f"http://{settings_of(deployment)['api']['listen']}/viewer/"
    for name in ("", "viewer.js", "worker.js", "style.css"):
        with opener.open(base + name, timeout=30) as answer:
            assert answer.status == 200
            assert answer.read()
