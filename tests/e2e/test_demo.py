"""The demo where nothing is deployed yet: it runs again without change and tells a login."""

from __future__ import annotations

import urllib.request

from tests.e2e.api import ask, settings_of
from tests.e2e.deployment import Deployment
from tests.e2e.stories import Demo


def test_the_demo_runs_again_without_change(demo: Demo) -> None:
    assert demo.first.changed > 0
    assert demo.second.changed == 0, demo.second.output


def test_the_demo_tells_address_and_login(demo: Demo, deployment: Deployment) -> None:
    address = f"http://{settings_of(deployment)['api']['listen']}/viewer/"
    for run in (demo.first, demo.second):
        assert address in run.output
        assert f"password in {demo.output}/password" in " ".join(run.output.split())
        assert demo.password not in run.output
    assert (demo.output / "password").stat().st_mode & 0o777 == 0o600
    assert len(demo.password) == 20


def test_the_login_shows_the_demo_and_nothing_else(demo: Demo, deployment: Deployment) -> None:
    dataset = deployment.query(
        "SELECT d.aoi || '_' || d.year FROM cbm.dataset d JOIN cbm.dataset_grant g"
        " ON g.dataset_id = d.id WHERE g.via = 'api' AND g.grantee = 'demo'"
    )
    status, document = ask(deployment, "/v1/collections", f"demo:{demo.password}")
    assert status == 200
    assert [one["id"] for one in document["collections"]] == [name for (name,) in dataset]
    assert len(dataset) == 1
    assert ask(deployment, "/v1/collections", "demo:another password")[0] == 401


def test_the_viewer_is_served(demo: Demo, deployment: Deployment) -> None:
    assert demo.first.code == 0
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    base = f"http://{settings_of(deployment)['api']['listen']}/viewer/"
    for name in ("", "viewer.js", "worker.js", "style.css"):
        with opener.open(base + name, timeout=30) as answer:
            assert answer.status == 200
            assert answer.read()
