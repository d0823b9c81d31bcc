"""site.yml on this machine: check before the first run, deploy, again, changed, as a guest."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.deployment import Deployment, clusters
from tests.e2e.stories import Changes, Demo, Seen


def test_check_before_the_first_run_changes_nothing(demo: Demo, deployment: Deployment) -> None:
    assert demo.there_after_check == [str(deployment.checkout)]
    assert demo.machine_after_check == demo.machine_before


def test_check_before_the_first_run_says_what_would_be_done(demo: Demo) -> None:
    assert demo.checked.changed > 0
    for words in ("Would create the database cbm", "Would install 0.", "There is no command"):
        assert words in demo.checked.output


def test_first_run_deploys(demo: Demo, deployment: Deployment) -> None:
    assert demo.first.changed > 0
    status = deployment.cbm("schema status")
    assert status["pending"] == []
    assert len(status["applied"]) == len(list(deployment.checkout.glob("cbm_core/**/0*.sql")))


def test_it_is_a_guest(demo: Demo) -> None:
    for name, was in demo.machine_before.items():
        assert demo.machine_after[name] == was, name


def test_only_loopback_and_no_trust(demo: Demo, deployment: Deployment) -> None:
    assert demo.first.code == 0
    assert deployment.query("SHOW listen_addresses") == [("127.0.0.1",)]
    version = next(row[0] for row in clusters() if row[1] == deployment.cluster)
    hba = Path(f"/etc/postgresql/{version}/{deployment.cluster}/pg_hba.conf").read_text("utf-8")
    methods = {line.split()[-1] for line in hba.splitlines() if line and not line.startswith("#")}
    assert methods == {"peer", "map=cbm", "scram-sha-256", "reject"}


def test_others_of_this_machine_may_not_connect(demo: Demo, deployment: Deployment) -> None:
    assert demo.first.code == 0
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


def test_changed_settings_restart_what_reads_them(changes: Changes, deployment: Deployment) -> None:
    assert changes.run.changed > 0
    before, after = changes.before, changes.after
    assert before.services["cbm-api"] != after.services["cbm-api"]
    assert before.database_started < after.database_started
    assert deployment.query("SHOW work_mem") == [("48MB",)]


def test_check_afterwards_reports_nothing(changes: Changes) -> None:
    assert changes.checked.changed == 0, changes.checked.output
    assert changes.after_check == changes.after


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="this machine runs systemd")
def test_a_killed_supervisor_is_made_good(changes: Changes, deployment: Deployment) -> None:
    """What it left running, which holds ports and sockets, is ended before it is started anew."""
    assert changes.run.code == 0
    orphans = deployment.processes()
    assert orphans
    os.kill(int(deployment.supervisor("pid")), signal.SIGKILL)
    deployment.must("site", "--tags", "service", **changes.given)
    assert set(Seen.of(deployment).services) == set(changes.after.services)
    assert not orphans & deployment.processes()
    assert deployment.cbm("schema status")["pending"] == []
