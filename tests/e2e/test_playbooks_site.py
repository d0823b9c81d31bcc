"""site.yml on this machine: check before the first run, deploy, again, interrupted, as a guest."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.deployment import Deployment, clusters
from tests.e2e.site_story import Story


def test_check_before_the_first_run_changes_nothing(site: Story, deployment: Deployment) -> None:
    assert site.there_after_check == [str(deployment.checkout)]
    assert site.machine_after_check == site.before


def test_check_before_the_first_run_says_what_would_be_done(site: Story) -> None:
    assert site.checked.changed > 0
    for words in ("Would create the database cbm", "Would install 0.", "There is no command"):
        assert words in site.checked.output


def test_first_run_deploys(site: Story, deployment: Deployment) -> None:
    assert site.first.changed > 0
    status = deployment.cbm("schema status")
    assert status["pending"] == []
    assert len(status["applied"]) == len(list(deployment.checkout.glob("cbm_core/**/0*.sql")))


def test_second_run_changes_nothing(site: Story) -> None:
    assert site.second.changed == 0, site.second.output


def test_check_afterwards_reports_nothing(site: Story) -> None:
    assert site.checked_again.changed == 0, site.checked_again.output


def test_it_is_a_guest(site: Story) -> None:
    for name, was in site.before.items():
        assert site.after[name] == was, name


def test_only_loopback_and_no_trust(site: Story, deployment: Deployment) -> None:
    assert site.first.code == 0
    assert deployment.query("SHOW listen_addresses") == [("127.0.0.1",)]
    version = next(row[0] for row in clusters() if row[1] == deployment.cluster)
    hba = Path(f"/etc/postgresql/{version}/{deployment.cluster}/pg_hba.conf").read_text("utf-8")
    methods = {line.split()[-1] for line in hba.splitlines() if line and not line.startswith("#")}
    assert methods == {"peer", "map=cbm", "scram-sha-256", "reject"}


def test_others_of_this_machine_may_not_connect(site: Story, deployment: Deployment) -> None:
    assert site.first.code == 0
    port = next(row[2] for row in clusters() if row[1] == deployment.cluster)
    nobody = pwd.getpwnam("nobody").pw_uid
    for login in ("cbm_admin", "cbm_extractor", "postgres"):
        done = subprocess.run(
            ["psql", "-h", "/var/run/postgresql", "-p", port, "-U", login, "-c", "SELECT 1", "cbm"],
            user=nobody,
            cwd="/",
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        assert "Peer authentication failed" in done.stderr, done.stderr


def test_a_changed_setting_restarts_the_server_once(site: Story, deployment: Deployment) -> None:
    assert site.second.changed == 0
    started = "SELECT pg_postmaster_start_time()"
    before = deployment.query(started)
    changed = deployment.must("site", "--tags", "cbm_postgis,service", cbm_postgis_work_mem_mb=48)
    assert changed.changed > 0
    assert deployment.query("SHOW work_mem") == [("48MB",)]
    assert deployment.query(started) > before
    again = deployment.must("site", "--tags", "cbm_postgis,service", cbm_postgis_work_mem_mb=48)
    assert again.changed == 0
    deployment.must("site", "--tags", "cbm_postgis,service")
    assert deployment.query("SHOW work_mem") == [("32MB",)]


def test_another_port_is_refused(site: Story, deployment: Deployment) -> None:
    assert site.second.changed == 0
    done = deployment.run("site", "--tags", "cbm_postgis", cbm_postgis_port=5999)
    assert done.failed == 1
    assert "cbm_postgis_port says 5999" in " ".join(done.output.split())
    assert done.changed == 0


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="this machine runs systemd")
def test_a_killed_supervisor_is_made_good(site: Story, deployment: Deployment) -> None:
    """What it left running, which holds ports and sockets, is ended before it is started anew."""
    assert site.second.changed == 0
    orphans = deployment.processes()
    assert orphans
    os.kill(int(deployment.supervisor("pid")), signal.SIGKILL)
    deployment.must("site", "--tags", "service")
    assert "RUNNING" in deployment.supervisor("status")
    assert not orphans & deployment.processes()
    assert deployment.cbm("schema status")["pending"] == []


def test_a_killed_installation_is_made_good(site: Story, deployment: Deployment) -> None:
    """`current` stays at the old release until the new one is whole."""
    assert site.second.changed == 0
    old = (deployment.root / "current").readlink()
    (deployment.checkout / "cbm_core/py.typed").write_text("another release\n", "utf-8")
    running = deployment.start("site", "--tags", "cbm_runtime")
    venv = "venv/lib"
    for _ in range(1200):
        if any(
            release.name != old.name and (release / venv).exists()
            for release in (deployment.root / "releases").iterdir()
        ):
            break
        time.sleep(0.1)
    else:
        pytest.fail("the installation never began")
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert (deployment.root / "current").readlink() == old
    assert deployment.cbm("schema status")["pending"] == []
    assert deployment.must("site", "--tags", "cbm_runtime").changed > 0
    assert (deployment.root / "current").readlink() != old
    assert deployment.cbm("schema status")["pending"] == []
    # The services go over to the new release.
    deployment.must("site")
    assert deployment.must("site").changed == 0
