"""The demo's deployment with workers: scheduler, dispatcher and worker processes as services."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e import demo_story
from tests.e2e.deployment import Deployment, Run
from tests.postgis import free_port

PLAYBOOKS = ["import_parcels", "catalogue", "extract"]
SERVICES = {"cbm-dask-scheduler", "cbm-dask-worker", "cbm-dispatcher"}


@dataclass
class Story:
    """`site.yml` in check mode, for real, again; then data through the playbooks."""

    given: dict[str, Any]
    checked: Run
    content: tuple[dict[str, int], dict[str, int]]
    first: Run
    second: Run
    checked_again: Run
    data: dict[str, Run]
    data_again: dict[str, Run]


@pytest.fixture(scope="module")
def deployment(demo_place: Deployment) -> Deployment:
    return demo_place


@pytest.fixture(scope="module")
def story(demo: demo_story.Story, deployment: Deployment) -> Story:
    assert demo.first.code == 0
    given = {
        "cbm_agency_engine": "cluster",
        "cbm_agency_pki_folder": str(deployment.folder / "authority"),
        "cbm_agency_certificate_folder": str(deployment.root / "pki"),
        "cbm_dask_scheduler_port": free_port(),
        "cbm_dask_scheduler_config_path": str(deployment.root / "etc/dask-scheduler.yaml"),
        "cbm_dask_worker_config_path": str(deployment.root / "etc/dask-worker.yaml"),
        "cbm_dask_worker_scratch_folder": str(deployment.root / "dask"),
        "cbm_dask_worker_processes": 2,
        "cbm_dask_worker_memory_mb": 2000,
    }
    before = deployment.content()
    checked = deployment.must("site", "--check", "--diff", **given)
    content = before, deployment.content()
    runs = [deployment.must("site", *words, **given) for words in ([], [], ["--check", "--diff"])]
    data = {**given, "cbm_datasets": [described(deployment.root / "sample")]}
    done = [{name: deployment.must(name, **data) for name in PLAYBOOKS} for _ in range(2)]
    return Story(data, checked, content, *runs, *done)


def described(sample: Path) -> dict[str, Any]:
    """What the demo's sample says of itself, as another dataset; days as texts."""
    text = (sample / "demo.yml").read_text("utf-8")
    one = yaml.load(text, yaml.BaseLoader) | {"folder": str(sample)}
    one["dataset"]["aoi"] = "workers"
    return one


def test_check_changes_nothing(story: Story) -> None:
    assert story.checked.changed > 0
    assert story.content[0] == story.content[1]


def test_second_runs_change_nothing(story: Story) -> None:
    assert story.first.changed > 0
    assert story.second.changed == 0, story.second.output
    assert story.checked_again.changed == 0, story.checked_again.output
    for name in PLAYBOOKS:
        # The demo catalogued the scenes.
        assert (story.data[name].changed > 0) == (name != "catalogue")
        assert story.data_again[name].changed == 0, story.data_again[name].output


def test_services_run(story: Story, deployment: Deployment) -> None:
    assert story.first.code == 0
    running = re.findall(r"^(\S+)\s+RUNNING", deployment.supervisor("status"), re.MULTILINE)
    assert set(running) >= SERVICES


def test_workers_did_the_work(story: Story, deployment: Deployment) -> None:
    """Both processes took part, and what they stored is what a recomputation gives."""
    assert story.data["extract"].code == 0
    name = "{aoi}:{year}".format(**story.given["cbm_datasets"][0]["dataset"])
    workers = deployment.query(
        "SELECT DISTINCT worker FROM cbm.run r JOIN cbm.dataset d ON d.id = r.dataset_id"
        f" WHERE d.aoi || ':' || d.year = '{name}'"
    )
    service = re.search(r"cbm-dask-worker .*pid (\d+)", deployment.supervisor("status"))
    assert service
    for (worker,) in workers:
        assert _is_below(int(worker.rpartition(":")[2]), int(service[1])), worker
    assert deployment.cbm("signatures verify", dataset=name, recompute=True)


def _is_below(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        status = Path(f"/proc/{pid}/status").read_text()
        pid = int(re.search(r"PPid:\s+(\d+)", status)[1])  # type: ignore[index]
    return False


def test_keys_are_secret(story: Story, deployment: Deployment) -> None:
    assert story.first.code == 0
    for key in (deployment.root / "pki/host.key", deployment.folder / "authority/ca.key"):
        assert key.stat().st_mode & 0o077 == 0, key
    unprivileged = subprocess.run(
        ["cat", deployment.root / "pki/host.key"], user="nobody", capture_output=True, check=False
    )
    assert unprivileged.returncode != 0


def test_the_scheduler_speaks_tls_to_those_it_knows(story: Story, deployment: Deployment) -> None:
    port = story.given["cbm_dask_scheduler_port"]
    pki = deployment.root / "pki"

    def heard(known: bool) -> bytes:
        context = ssl.create_default_context(cafile=pki / "ca.pem")
        if known:
            context.load_cert_chain(pki / "host.pem", pki / "host.key")
        with (
            socket.create_connection(("127.0.0.1", port), 10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            return connection.recv(1)

    assert heard(known=True)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        heard(known=False)


def test_a_renewed_certificate_restarts_what_shows_it(story: Story, deployment: Deployment) -> None:
    before = _pids(deployment)
    certificate = deployment.root / "pki/host.pem"
    old = certificate.read_text()
    certificate.unlink()
    deployment.must("certificates", **story.given)
    done = deployment.must("cluster", **story.given)
    assert done.changed > 0
    assert certificate.read_text() != old
    after = _pids(deployment)
    assert all(before[name] != after[name] for name in SERVICES)
    assert deployment.must("cluster", **story.given).changed == 0


def _pids(deployment: Deployment) -> dict[str, str]:
    return dict(re.findall(r"^(\S+)\s+RUNNING\s+pid (\d+)", deployment.supervisor("status"), re.M))


def test_back_to_one_process(story: Story, deployment: Deployment) -> None:
    """What the workers do in a cluster, the command does by itself where the inventory says so."""
    given = {**story.given, "cbm_agency_engine": "serial"}
    assert deployment.must("extract", **given).changed == 0
