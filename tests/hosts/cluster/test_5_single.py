"""`inventories/single`, as it is: everything on one host."""

from __future__ import annotations

import pytest

from tests import checkout
from tests.hosts.cluster.agency import API, HUB, PUBLIC, Agency


@pytest.fixture(scope="module")
def single(agency: Agency) -> Agency:
    """The host, deployed; it stands beside those of the cluster, which take it away."""
    made = Agency(agency.folder / "single", checkout.copy(agency.folder / "present"), "single")
    made.folder.mkdir()
    made.make()
    made.must("site")
    return made


def test_a_second_run_changes_nothing(single: Agency) -> None:
    assert single.must("site").changed == 0


def test_api_and_hub_answer_outside(single: Agency) -> None:
    for name, path in ((API, "/readyz"), (HUB, "/hub/login")):
        status, body = single.ask(name, path, at=PUBLIC["cbm"])
        assert status == 200, (name, body)


def test_the_doctor_finds_nothing_wrong(single: Agency) -> None:
    assert single.must("doctor").changed == 0
