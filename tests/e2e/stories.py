"""The runs that the tests look at, told once: each takes a while, and one goes on from another."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.api import settings_of
from tests.e2e.deployment import Deployment, Run, clusters
from tests.e2e.machine import machine
from tests.postgis import free_port


@dataclass
class Demo:
    """`demo.yml`, which begins with `site.yml`: checked on nothing, for real, again."""

    given: dict[str, Any]
    machine_before: dict[str, object]
    checked: Run
    there_after_check: list[str]
    machine_after_check: dict[str, object]
    first: Run
    second: Run
    machine_after: dict[str, object]

    @property
    def output(self) -> Path:
        return Path(self.given["demo_output"])

    @property
    def password(self) -> str:
        return (self.output / "password").read_text("utf-8").strip()


def tell_demo(deployment: Deployment) -> Demo:
    """Deploy to a place where nothing is yet, checking before."""
    given = {"demo_output": str(deployment.folder / "demo-output")}
    before = machine()
    checked = deployment.must("demo", "--check", "--diff", **given)
    there = [*map(str, deployment.folder.iterdir())]
    there += [row[1] for row in clusters() if row[1] == deployment.cluster]
    there += ["dist"] if (deployment.checkout / "dist").exists() else []
    machine_after_check = machine()
    runs = [deployment.must("demo", **given) for _ in range(2)]
    return Demo(given, before, checked, there, machine_after_check, *runs, machine())


@dataclass(frozen=True)
class Seen:
    """What runs at a moment: services by name with their process, the database; a setting."""

    services: dict[str, int]
    database_started: object
    listen: str

    @classmethod
    def of(cls, deployment: Deployment) -> Seen:
        status = deployment.supervisor("status")
        running = re.findall(r"^(\S+)\s+RUNNING\s+pid (\d+)", status, re.MULTILINE)
        return cls(
            {name: int(pid) for name, pid in running},
            deployment.query("SELECT pg_postmaster_start_time()")[0][0],
            settings_of(deployment)["api"]["listen"],
        )


@dataclass
class Changes:
    """The demo's deployment with workers and other settings; then checked as a whole."""

    given: dict[str, Any]
    before: Seen
    run: Run
    after: Seen
    checked: Run
    after_check: Seen


def tell_changes(deployment: Deployment, demo: Demo) -> Changes:
    """Go on from the demo."""
    given = with_workers(deployment) | {
        "cbm_postgis_work_mem_mb": 48,
        "cbm_api_settings": {"pool_size": 3},
    }
    before = Seen.of(deployment)
    run = deployment.must("site", **given)
    after = Seen.of(deployment)
    checked = deployment.must("demo", "--check", "--diff", **demo.given, **given)
    return Changes(given, before, run, after, checked, Seen.of(deployment))


def with_workers(deployment: Deployment) -> dict[str, Any]:
    return {
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
