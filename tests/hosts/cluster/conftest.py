"""One agency for all tests of the cluster, deployed once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import seaweed
from tests.hosts import engine, machines
from tests.hosts.cluster.agency import HERE, NETWORK, Agency, Run
from tests.seaweed import READER, Seaweed

SAMPLE = "/srv/cbm/sample"
# Where the first deployment is interrupted: in packages, in the release, in the services.
INTERRUPTED_AT = (
    "TASK [cbm_postgis : Install packages",
    "TASK [cbm_runtime : Install | Install the packages]",
    "TASK [cbm_dask_worker :",
)


@pytest.fixture(scope="session")
def agency(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agency]:
    """Bare hosts and an inventory; CBM_KEEP_HOSTS leaves the hosts running."""
    engine.start()
    machines.down(NETWORK)
    made = Agency(tmp_path_factory.mktemp("agency"))
    try:
        made.make()
        yield made
    finally:
        if "CBM_KEEP_HOSTS" not in os.environ:
            made.destroy()


@pytest.fixture(scope="session")
def storage(agency: Agency) -> Iterator[Seaweed]:
    """Object storage that the hosts reach."""
    with seaweed.server(HERE) as running:
        agency.vary(
            "storage",
            cbm_agency_storage={"endpoint": running.url, "virtual_hosting": False},
            cbm_agency_storage_access_key=READER.key,
            cbm_agency_storage_secret_key=READER.secret,
        )
        yield running


@dataclass
class Deployed:
    """The runs of site.yml: checked, interrupted, to its end, and again."""

    checked: Run
    there_after_check: list[str]
    interrupted: list[str]
    first: Run
    second: Run
    checked_again: Run


@pytest.fixture(scope="session")
def deployed(agency: Agency, storage: Seaweed) -> Deployed:
    """The agency's hosts, deployed as its operator does."""
    checked = agency.must("site", "--check", "--diff")
    there = [
        f"{host} {path}"
        for host in agency.hosts("inventories/cluster")
        for path in agency.on(
            host, "find", "/opt", "/etc/cbm", "/etc/postgresql", "-mindepth", "1", check=False
        ).split()
    ]
    interrupted = [agency.start("site").interrupt(mark) for mark in INTERRUPTED_AT]
    return Deployed(
        checked,
        there,
        interrupted,
        agency.must("site"),
        agency.must("site"),
        agency.must("site", "--check", "--diff"),
    )


@pytest.fixture(scope="session")
def dataset(agency: Agency, storage: Seaweed, deployed: Deployed) -> dict[str, Any]:
    """A sample: parcels and metadata on the manager, images in the object storage."""
    folder = agency.folder / "sample"
    cbm = Path(sys.executable).parent / "cbm"
    subprocess.run([cbm, "sample", str(folder), "--parcels", "300", "--dates", "12"], check=True)
    for image in sorted((folder / "scenes").rglob("*.tif")):
        storage.put(f"sample/{image.relative_to(folder)}", image.read_bytes())
        image.unlink()
    agency.on("bastion1", "mkdir", "-p", SAMPLE)
    manager = machines.container(NETWORK, "bastion1")
    engine.docker("cp", f"{folder}/.", f"{manager}:{SAMPLE}")
    agency.on("bastion1", "chmod", "-R", "a+rX", SAMPLE)
    described: dict[str, Any] = yaml.load((folder / "demo.yml").read_text(), yaml.BaseLoader)
    described |= {"folder": SAMPLE}
    described["scenes"][0]["rewrite"] = [f"{SAMPLE}/=s3://{storage.bucket}/sample/"]
    agency.vary("datasets", cbm_datasets=[described])
    return described
