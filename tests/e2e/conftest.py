"""Fixtures of whole deployments."""

from collections.abc import Iterator

import pytest

from tests.e2e import site_story
from tests.e2e.deployment import Deployment, deployed


@pytest.fixture(scope="session")
def deployment() -> Iterator[Deployment]:
    """A place to deploy to; nothing is there until a test runs a playbook."""
    with deployed("site") as place:
        yield place


@pytest.fixture(scope="session")
def site(deployment: Deployment) -> site_story.Story:
    """The deployment deployed, and what the first runs said; comes before all that builds on it."""
    return site_story.tell(deployment)
