"""The API deployed: its service, its rights, its users."""

from __future__ import annotations

import grp
import os
import pwd
import re
import subprocess
from pathlib import Path

from tests.e2e.api import ask, settings_of
from tests.e2e.deployment import Deployment, clusters
from tests.e2e.stories import Changes, Demo

ACCOUNT = "www-data"


def pid_of(deployment: Deployment) -> int:
    found = re.search(r"^cbm-api\s+RUNNING\s+pid (\d+)", deployment.supervisor("status"), re.M)
    assert found
    return int(found[1])


def connects(deployment: Deployment, account: str, login: str) -> bool:
    """Whether an account of this machine gets into the database as a login."""
    port = next(row[2] for row in clusters() if row[1] == deployment.cluster)
    done = subprocess.run(
        ["psql", "-h", "/var/run/postgresql", "-p", port, "-U", login, "-c", "SELECT 1", "cbm"],
        user=pwd.getpwnam(account).pw_uid,
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 or "Peer authentication failed" in done.stderr, done.stderr
    return done.returncode == 0


def test_it_answers_on_loopback_and_asks_for_a_login(demo: Demo, deployment: Deployment) -> None:
    assert demo.first.code == 0
    assert settings_of(deployment)["api"]["listen"].startswith("127.0.0.1:")
    assert ask(deployment, "/readyz") == (200, {"status": "ok", "version": "0.1.0"})
    status, problem = ask(deployment, "/v1/collections")
    assert (status, problem["code"]) == (401, "login_required")


def test_the_service_has_few_rights(demo: Demo, deployment: Deployment) -> None:
    assert demo.first.code == 0
    if not Path("/run/systemd/system").exists():
        assert Path(f"/proc/{pid_of(deployment)}").stat().st_uid == pwd.getpwnam(ACCOUNT).pw_uid
    assert connects(deployment, ACCOUNT, "cbm_web")
    for login in ("cbm_admin", "cbm_extractor", "postgres"):
        assert not connects(deployment, ACCOUNT, login)
    assert not connects(deployment, "nobody", "cbm_web")
    groups = deployment.query(
        "SELECT roleid::regrole::text FROM pg_auth_members WHERE member = 'cbm_web'::regrole"
    )
    assert groups == [("cbm_api",)]


def test_its_settings_are_for_it_alone(demo: Demo, deployment: Deployment) -> None:
    assert demo.first.code == 0
    found = (deployment.root / "etc/api.toml").stat()
    assert (found.st_mode & 0o777, found.st_uid) == (0o640, 0)
    assert found.st_gid == grp.getgrnam(ACCOUNT).gr_gid
    assert settings_of(deployment)["database"]["user"] == "cbm_web"


def test_changed_settings_reach_it(changes: Changes, deployment: Deployment) -> None:
    assert changes.run.code == 0
    api = settings_of(deployment)["api"]
    assert api["pool_size"] == 3
    # It found a free port once, and keeps it.
    assert api["listen"] == changes.before.listen
    assert ask(deployment, "/readyz")[0] == 200


def test_users_of_an_inventory(demo: Demo, deployment: Deployment) -> None:
    assert demo.first.code == 0
    file = deployment.folder / "anna"
    file.write_text("a password of anna\n", encoding="utf-8")
    file.chmod(0o600)
    users = [{"name": "anna", "password_file": str(file), "datasets": []}]
    before = deployment.content()
    assert deployment.must("users", "--check", cbm_api_users=users).changed == 1
    assert deployment.content() == before
    assert ask(deployment, "/v1/collections", "anna:a password of anna")[0] == 401
    assert deployment.must("users", cbm_api_users=users).changed == 1
    status, document = ask(deployment, "/v1/collections", "anna:a password of anna")
    assert (status, document["collections"]) == (200, [])
    gone = [{"name": "anna", "state": "disabled"}]
    assert deployment.must("users", cbm_api_users=gone).changed == 1
    assert ask(deployment, "/v1/collections", "anna:a password of anna")[0] == 401
