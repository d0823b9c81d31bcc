"""Upgrades, a lost database host, an earlier state, other secrets, other workers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests import checkout
from tests.hosts.cluster.agency import API, Agency, Run

CBM = "/opt/cbm/current/venv/bin/cbm"
RELEASES = ("bastion1", "worker1", "worker2", "front1")


def versions(agency: Agency) -> set[str]:
    """The releases that the hosts run."""
    return {agency.on(host, CBM, "--version").split()[-1] for host in RELEASES}


def migration(agency: Agency) -> str:
    """The newest migration in the database."""
    return agency.sql("SELECT max(name) FROM cbm.schema_migration")[0][0]


@dataclass
class Upgraded:
    """What was there before, after an upgrade that failed, and after one that did not."""

    before: tuple[set[str], str]
    failed: Run
    back: tuple[set[str], str]
    answered: int
    after: tuple[set[str], str]


@pytest.fixture(scope="module")
def upgraded(agency: Agency, login: list[str]) -> Upgraded:
    """The older release, upgraded to one whose migration fails, and to this checkout's."""
    before = versions(agency), migration(agency)
    agency.checkout = checkout.failing(agency.folder / "failing")
    failed = agency.run("upgrade")
    back = versions(agency), migration(agency)
    answered, _ = agency.ask(API, "/query/parcelTimeSeries?aoi=sample&year=2021", *login)
    agency.checkout = checkout.copy(agency.folder / "newer")
    agency.must("upgrade")
    return Upgraded(before, failed, back, answered, (versions(agency), migration(agency)))


def test_an_upgrade_that_fails_leaves_a_system_that_works(upgraded: Upgraded) -> None:
    assert upgraded.failed.code != 0
    assert "all hosts run what they ran before" in upgraded.failed.output
    assert "division by zero" in upgraded.failed.output
    assert upgraded.before[0] == {checkout.OLDER}
    assert upgraded.back[0] == {checkout.OLDER}
    # The migrations before the one that fails stay.
    assert upgraded.before[1] < upgraded.back[1] == upgraded.after[1]
    # It asks for what is missing, and is not away.
    assert upgraded.answered == 400


def test_an_upgrade_changes_release_and_schema(agency: Agency, upgraded: Upgraded) -> None:
    assert upgraded.after[0] == {checkout.VERSION}
    assert agency.sql("SELECT to_regclass('cbm.halfway') IS NULL") == [["t"]]
    assert agency.must("extract").changed == 0


def content(agency: Agency) -> dict[str, Any]:
    """Rows, and of the signatures a checksum, too; not what the services write while they run."""
    tables = agency.counts()["tables"]
    slices = [tables[name] for name in tables if name.startswith("cbm.signature_d")]
    rows = {
        name: tables[f"cbm.{name}"][0] for name in ("dataset", "parcel_geometry", "scene", "run")
    }
    return rows | {"signature": (sum(one[0] for one in slices), sum(int(one[1]) for one in slices))}


@dataclass
class Restored:
    """What the database held: before a mistake and after it, and after each restore."""

    before: dict[str, Any]
    mistaken: dict[str, Any]
    corrected: dict[str, Any]
    lost: dict[str, Any]


@pytest.fixture(scope="module")
def restored(agency: Agency, upgraded: Upgraded) -> Restored:
    """Back to before a mistake; then the database's host is lost, and made anew."""
    agency.must("backup", backup_type="diff")
    before = content(agency)
    time = agency.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', :'form')".replace(
        ":'form'", "'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'"))[0][0]  # fmt: skip
    agency.sql("SELECT pg_switch_wal()")
    agency.sql("DELETE FROM cbm.signature")
    mistaken = content(agency)
    agency.must("restore", restore_time=time, restore_confirm=True)
    corrected = content(agency)
    agency.anew("db1")
    agency.must("site", "--skip-tags", "cbm_backup", "--limit", "db")
    agency.must("restore")
    return Restored(before, mistaken, corrected, content(agency))


def test_a_mistake_is_taken_back(restored: Restored) -> None:
    assert restored.mistaken != restored.before
    assert restored.corrected == restored.before


def test_a_lost_database_comes_back_on_a_bare_host(restored: Restored) -> None:
    assert restored.lost == restored.before


@pytest.fixture(scope="module")
def rotated(agency: Agency, restored: Restored) -> tuple[dict[str, str], dict[str, str]]:
    """All secrets made anew after the restore; those before and those after."""
    before = agency.secrets()
    agency.must("rotate_secrets")
    return before, agency.secrets()


def test_old_secrets_no_longer_work(
    agency: Agency, rotated: tuple[dict[str, str], dict[str, str]]
) -> None:
    before, after = rotated
    kept = {name for name in before if before[name] == after[name]}
    assert kept == {"backup_passphrase"}
    for secrets, said in ((before, "authentication failed"), (after, "let in")):
        password = secrets["cbm_extractor"]
        assert said in agency.database_says("worker1", "cbm_extractor", password, "verify-full")


def test_everything_works_after_all_that(
    agency: Agency, rotated: tuple[dict[str, str], dict[str, str]], login: list[str]
) -> None:
    assert agency.must("extract").changed == 0
    pid = agency.sql("SELECT pid FROM cbm.parcel ORDER BY 1 LIMIT 1")[0][0]
    path = f"/query/parcelTimeSeries?aoi=sample&year=2021&pid={pid}&tstype=s2&band=B04"
    status, body = agency.ask(API, path, *login)
    assert status == 200, body


def test_a_worker_is_taken_out_of_service(
    agency: Agency, rotated: tuple[dict[str, str], dict[str, str]]
) -> None:
    path = agency.inventory / "hosts.yml"
    document = yaml.safe_load(path.read_text())
    groups = document["all"]["children"]
    groups["retired"] = {"hosts": {"worker2": groups["workers"]["hosts"].pop("worker2")}}
    path.write_text(yaml.safe_dump(document))
    agency.must("scale_workers")
    shown = agency.on("worker2", "systemctl", "is-active", "cbm-dask-worker", check=False)
    assert shown.strip() == "inactive"
    secrets = ["-name", "*passfile*", "-o", "-name", "*.key", "-o", "-name", "*credentials*"]
    left = agency.on("worker2", "find", "/etc/cbm", *secrets).split()
    # The host itself is still watched.
    assert left == ["/etc/cbm/pki-monitoring/host.key"]
    address = agency.hosts()["worker2"]
    rules = agency.on("db1", "sh", "-c", "cat /etc/postgresql/*/cbm/pg_hba.conf")
    assert not re.search(rf"\b{re.escape(address)}\b", rules)
