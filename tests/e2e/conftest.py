"""Fixtures of whole deployments."""

from collections.abc import Iterator

import pytest

from tests.e2e.deployment import Deployment, deployed


@pytest.fixture(scope="session")
def deployment() -> Iterator[Deployment]:
    """A place to deploy to; nothing is there until a test runs a playbook."""
    with deployed() as place:
        yield place
