"""The main job on several hosts: images from object storage, two workers, one of which dies."""

from __future__ import annotations

import json

from tests.hosts import engine, machines
from tests.hosts.cluster.agency import API, NETWORK, Agency
from tests.hosts.cluster.conftest import worked


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


def test_a_time_series_through_tls_from_outside(agency: Agency, login: list[str]) -> None:
    pid = agency.sql("SELECT pid FROM cbm.parcel ORDER BY 1 LIMIT 1")[0][0]
    path = f"/query/parcelTimeSeries?aoi=sample&year=2021&pid={pid}&tstype=s2&band=B04"
    status, body = agency.ask(API, path, *login)
    assert status == 200, body
    series = json.loads(body)
    assert len(series["mean"]) > 3
    status, body = agency.ask(API, path)
    assert status == 401, body
