"""Fixtures of one deployment, on which the demo is made first and all else goes on from there."""

from collections.abc import Iterator

import pytest

from tests.e2e import stories
from tests.e2e.deployment import Deployment, deployed


@pytest.fixture(scope="session")
def deployment() -> Iterator[Deployment]:
    """A place to deploy to; nothing is there until a test runs a playbook."""
    with deployed() as place:
        yield place


@pytest.fixture(scope="session")
def demo(deployment: Deployment) -> stories.Demo:
    """The demo deployed, and what the runs said; comes before all that builds on it."""
    return stories.tell_demo(deployment)


@pytest.fixture(scope="session")
def changes(demo: stories.Demo, deployment: Deployment) -> stories.Changes:
    """The demo's deployment set otherwise, with workers."""
    return stories.tell_changes(deployment, demo)
