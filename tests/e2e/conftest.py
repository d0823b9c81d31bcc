"""Fixtures of whole deployments. There are two, made one after the other."""

from collections.abc import Iterator

import pytest

from tests.e2e import demo_story, site_story
from tests.e2e.deployment import Deployment, deployed
from tests.postgis import free_port


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

    It is told its ports; the other deployment finds free ones by itself.
    """
    with deployed("demo", cbm_postgis_port=free_port(), cbm_api_port=free_port()) as place:
        yield place


@pytest.fixture(scope="session")
def demo(demo_place: Deployment) -> demo_story.Story:
    """The demo deployed, and what the runs said."""
    return demo_story.tell(demo_place)
