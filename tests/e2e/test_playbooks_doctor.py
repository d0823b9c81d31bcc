"""The doctor on this machine: nothing is wrong; then something is."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.deployment import Deployment, Run, clusters


def ask(deployment: Deployment, *arguments: str) -> Run:
    """What it says. How full the disk is, is the machine's own matter."""
    return deployment.run("doctor", *arguments, cbm_monitoring_limits={"disk_percent": 0})


@pytest.fixture
def too_much(deployment: Deployment) -> Iterator[None]:
    """The API's login is a member of the owner's group, for a while."""
    port = next(row[2] for row in clusters() if row[1] == deployment.cluster)

    def psql(statement: str) -> None:
        command = ["runuser", "-u", "postgres", "--", "psql", "-qX", "-p", port, "-d", "cbm"]
        subprocess.run([*command, "-c", statement], check=True, cwd="/")

    psql("GRANT cbm_owner TO cbm_web")
    yield
    psql("REVOKE cbm_owner FROM cbm_web")


def test_nothing_is_wrong_after_site(demo: Any, deployment: Deployment) -> None:
    assert demo.first.code == 0
    asked = ask(deployment, "--check")
    assert (asked.code, asked.changed) == (0, 0), asked.output
    said = " ".join(asked.output.split())
    for words in (
        "grants: 4 logins as they should be",
        "schema: up to date",
        "root as cbm_extractor by its socket",
        "root as cbm_admin by its socket",
        "www-data as cbm_web by its socket",
        "/readyz answers",
        "1 host: 0 problems",
    ):
        assert words in said


@pytest.mark.usefixtures("too_much")
def test_a_login_that_may_too_much_is_a_problem(demo: Any, deployment: Deployment) -> None:
    assert demo.first.code == 0
    asked = ask(deployment)
    assert (asked.code, asked.changed) == (2, 0), asked.output
    assert "expected  cbm_web a member of cbm_api alone" in asked.output
    assert "do        REVOKE cbm_owner FROM cbm_web" in asked.output
    assert "1 host: 1 problem, " in asked.output
