"""Fixtures of whole deployments.

There are two, which two workers of pytest-xdist (``--dist loadgroup``) make and use side by side.
"""

from collections.abc import Iterator

import pytest

from tests.e2e import demo_story, site_story
from tests.e2e.deployment import Deployment, deployed
from tests.postgis import free_port


# Before pytest-xdist's own, which reads the marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of one deployment together, in their order."""
    for item in items:
        used = set(getattr(item, "fixturenames", ()))
        # What the demo's tests call their deployment is the demo's place.
        if place := {"demo_place"} & used or {"deployment"} & used:
            item.add_marker(pytest.mark.xdist_group(*place))


@pytest.fixture(scope="session")
def deployment() -> Iterator[Deployment]:
    """A place to deploy to; nothing is there until a test runs a playbook."""
    with deployed("site") as place:
        yield place


@pytest.fixture(scope="session")
def site(deployment: Deployment) -> site_story.Story:
    """The deployment deployed, and what the first runs said; comes before all that builds on it."""
    return site_story.tell(deployment)


@pytest.fixture(scope="session")
def demo_place() -> Iterator[Deployment]:
    """A place of its own: what the demo imports is not there for the tests of other playbooks.

    It is told its ports; the other deployment looks for free ones at the same time.
    """
    with deployed("demo", cbm_postgis_port=free_port(), cbm_api_port=free_port()) as place:
        yield place


@pytest.fixture(scope="session")
def demo(demo_place: Deployment) -> demo_story.Story:
    """The demo deployed, and what the runs said."""
    return demo_story.tell(demo_place)
