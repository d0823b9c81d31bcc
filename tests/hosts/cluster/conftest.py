"""One agency for all tests of the cluster, deployed once; at first with an older release."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import checkout, cluster, seaweed
from tests.hosts import engine, machines
from tests.hosts.cluster.agency import HERE, NETWORK, STORAGE, Agency, Run
from tests.seaweed import READER, WRITER, Seaweed

SAMPLE = "/srv/cbm/sample"
BACKUPS = "backups"
# Analysts' passwords: of the hub, of the database, of the API.
ANNA = {"hub": "annas-pass-phrase", "sql": "anna-reads-by-sql-1", "api": "anna-asks-the-api-1"}
WORKERS = ("worker1", "worker2")
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
    folder = tmp_path_factory.mktemp("agency")
    made = Agency(folder, checkout.older(folder / "older"))
    try:
        made.make()
        yield made
    finally:
        if "CBM_KEEP_HOSTS" not in os.environ:
            made.destroy()


@pytest.fixture(scope="session")
def storage(agency: Agency) -> Iterator[Seaweed]:
    """Object storage that the hosts reach by TLS, of an authority that they have to be told of."""
    pki = cluster.certificates(agency.folder / "storage-pki", f"IP:{HERE},DNS:{STORAGE}")
    with seaweed.server(HERE, pki) as running:
        running.client().create_bucket(Bucket=BACKUPS)
        authority = {"name": "storage", "certificate": (pki / "ca.pem").read_text()}
        endpoint = running.url.replace(HERE, STORAGE)
        agency.vary(
            "storage",
            cbm_common_ca_certificates=[authority],
            cbm_agency_storage={
                "endpoint": endpoint,
                "virtual_hosting": False,
                "ca_file": "/etc/ssl/certs/ca-certificates.crt",
            },
            cbm_agency_storage_access_key=READER.key,
            cbm_agency_storage_secret_key=READER.secret,
        )
        agency.vary(
            "cbm_backup",
            cbm_agency_backup=True,
            cbm_backup_repository="s3",
            cbm_backup_s3_endpoint=endpoint,
            cbm_backup_s3_bucket=BACKUPS,
            cbm_backup_s3_prefix="xx",
            cbm_backup_s3_access_key=WRITER.key,
            cbm_backup_s3_secret_key=WRITER.secret,
            cbm_backup_ca_file="/etc/ssl/certs/ca-certificates.crt",
        )
        yield running


@pytest.fixture(scope="session")
def analysts(agency: Agency) -> None:
    """Anna, who uses hub and database, and Paul, who uses the hub."""
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"],
        input=ANNA["hub"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    anna = {"name": "anna", "password_hash": hashed, "database_password": ANNA["sql"]}
    agency.vary("analysts", cbm_jupyterhub_users=[anna, {"name": "paul", "password_hash": hashed}])


@dataclass
class Deployed:
    """The runs of site.yml: checked, interrupted, to its end, and again."""

    checked: Run
    there_after_check: list[str]
    interrupted: list[str]
    first: Run
    second: Run


@pytest.fixture(scope="session")
def deployed(agency: Agency, storage: Seaweed, analysts: None) -> Deployed:
    """The agency's hosts, deployed as its operator does."""
    checked = agency.must("site", "--check", "--diff")
    there = [
        f"{host} {path}"
        for host in agency.hosts()
        for path in agency.on(
            host, "find", "/opt", "/etc/cbm", "/etc/postgresql", "-mindepth", "1", check=False
        ).split()
    ]
    interrupted = [agency.start("site").interrupt(mark) for mark in INTERRUPTED_AT]
    return Deployed(checked, there, interrupted, agency.must("site"), agency.must("site"))


@pytest.fixture(scope="session")
def dataset(agency: Agency, storage: Seaweed, deployed: Deployed) -> dict[str, Any]:
    """A sample: parcels and metadata on the manager, images in the object storage.

    Anna may read it by SQL and not the other dataset that there is.
    """
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
    described["dataset"]["readers"] = ["anna"]
    described["scenes"][0]["rewrite"] = [f"{SAMPLE}/=s3://{storage.bucket}/sample/"]
    agency.vary("datasets", cbm_datasets=[described])
    program = ["/opt/cbm/current/venv/bin/cbm", "dataset", "add", "other", "2021"]
    agency.on("bastion1", "runuser", "-u", "cbm", "--", *program)
    return described


@pytest.fixture(scope="session")
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
    return {"worker1", "worker2"} <= {name for (one,) in hosts for name in WORKERS if name in one}


@pytest.fixture(scope="session")
def login(agency: Agency, extracted: int) -> list[str]:
    """curl's options for a user of the API."""
    agency.on("bastion1", "install", "-d", "-o", "cbm", "-m", "700", "/etc/cbm/users")
    agency.on("bastion1", "tee", "/etc/cbm/users/anna", text=ANNA["api"])
    agency.on("bastion1", "chown", "cbm", "/etc/cbm/users/anna")
    agency.on("bastion1", "chmod", "600", "/etc/cbm/users/anna")
    anna = {"name": "anna", "password_file": "/etc/cbm/users/anna", "datasets": ["sample:2021"]}
    agency.vary("users", cbm_api_users=[anna])
    agency.must("users")
    return ["--user", f"anna:{ANNA['api']}"]
