"""The main job on several hosts: images from object storage, two workers, one of which dies."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.hosts import engine, machines
from tests.hosts.cluster.agency import API, NETWORK, Agency

PASSWORD = "a-long-password-for-anna"


@pytest.fixture(scope="module")
def extracted(agency: Agency, dataset: dict[str, Any]) -> int:
    """Everything imported, catalogued and extracted, though worker1 died; runs before it did."""
    agency.must("import_parcels")
    agency.must("catalogue")
    playing = agency.start("extract")
    deadline = time.monotonic() + 600
    while (done := int(agency.sql("SELECT count(*) FROM cbm.run")[0][0])) < 6 or not worked(agency):
        assert playing.process.poll() is None, playing.end().output[-4000:]
        assert time.monotonic() < deadline, "nothing is extracted"
        time.sleep(0.2)
    engine.docker("kill", machines.container(NETWORK, "worker1"))
    done_at_last = playing.end(1200)
    assert done_at_last.code == 0, done_at_last.output[-6000:]
    return done


def worked(agency: Agency) -> bool:
    """Whether both worker hosts finished something."""
    hosts = agency.sql("SELECT DISTINCT worker FROM cbm.run")
    return {"worker1", "worker2"} <= {name for (one,) in hosts for name in HOSTS if name in one}


HOSTS = ("worker1", "worker2")


def test_the_rest_finishes_when_a_worker_host_dies(agency: Agency, extracted: int) -> None:
    states = agency.sql("SELECT state, count(*) FROM cbm.work_item GROUP BY 1")
    assert [state for state, _ in states] == ["done"]
    items = int(states[0][1])
    assert extracted < items, "worker1 died after everything was done"
    # Once each: the evidence counts what was committed.
    assert agency.sql("SELECT count(*) FROM cbm.run") == [[str(items)]]
    assert worked(agency)


def test_extracting_again_changes_nothing(agency: Agency, extracted: int) -> None:
    engine.docker("start", machines.container(NETWORK, "worker1"))
    assert agency.must("extract").changed == 0


@pytest.fixture(scope="module")
def login(agency: Agency, extracted: int) -> list[str]:
    """curl's options for a user of the API."""
    agency.on("bastion1", "install", "-d", "-o", "cbm", "-m", "700", "/etc/cbm/users")
    agency.on("bastion1", "tee", "/etc/cbm/users/anna", text=PASSWORD)
    agency.on("bastion1", "chown", "cbm", "/etc/cbm/users/anna")
    agency.on("bastion1", "chmod", "600", "/etc/cbm/users/anna")
    anna = {"name": "anna", "password_file": "/etc/cbm/users/anna", "datasets": ["sample:2021"]}
    agency.vary("users", cbm_api_users=[anna])
    agency.must("users")
    return ["--user", f"anna:{PASSWORD}"]


def test_a_time_series_through_tls_from_outside(agency: Agency, login: list[str]) -> None:
    pid = agency.sql("SELECT pid FROM cbm.parcel ORDER BY 1 LIMIT 1")[0][0]
    path = f"/query/parcelTimeSeries?aoi=sample&year=2021&pid={pid}&tstype=s2&band=B04"
    status, body = agency.ask(API, path, *login)
    assert status == 200, body
    series = json.loads(body)
    assert len(series["mean"]) > 3
    status, body = agency.ask(API, path)
    assert status == 401, body
