"""`site.yml` on five bare hosts: check mode, interruptions, the whole, and again."""

from __future__ import annotations

from tests.hosts.cluster.agency import Agency
from tests.hosts.cluster.conftest import INTERRUPTED_AT, Deployed


def test_check_on_bare_hosts_changes_nothing(deployed: Deployed) -> None:
    assert deployed.checked.changed > 0
    assert deployed.there_after_check == []


def test_an_interrupted_run_is_completed_by_the_next(deployed: Deployed) -> None:
    for mark, printed in zip(INTERRUPTED_AT, deployed.interrupted, strict=True):
        assert mark in printed
        assert "PLAY RECAP" not in printed or "failed=0" not in printed.rsplit("PLAY RECAP")[1]
    assert deployed.first.changed > 0


def test_a_second_run_changes_nothing(deployed: Deployed) -> None:
    assert deployed.second.changed == 0, deployed.second.output


def test_services_run_as_accounts_of_their_own(agency: Agency, deployed: Deployed) -> None:
    assert deployed.first.code == 0
    users = {
        ("bastion1", "cbm-dask-scheduler"): "cbm",
        ("bastion1", "cbm-dispatcher"): "cbm",
        ("worker1", "cbm-dask-worker"): "cbm",
        ("worker2", "cbm-dask-worker"): "cbm",
    }
    for (host, unit), user in users.items():
        shown = agency.on(host, "systemctl", "show", "-p", "User,ActiveState", unit)
        assert set(shown.split()) == {f"User={user}", "ActiveState=active"}, (host, unit)
