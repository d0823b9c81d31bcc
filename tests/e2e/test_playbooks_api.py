"""The API deployed, and the demo that ends with it: its service, its login, its users."""

from __future__ import annotations

import base64
import grp
import json
import os
import pwd
import re
import subprocess
import tomllib
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import site_story
from tests.e2e.deployment import CLUSTER, Deployment, Run, clusters

ACCOUNT = "www-data"
LAYOUT = {"parcels": 60, "dates": 8, "size": 256}


@dataclass
class Story:
    """`demo.yml` on a small sample: for real, again, in check mode."""

    given: dict[str, str]
    output: Path
    first: Run
    second: Run
    checked_again: Run

    @property
    def password(self) -> str:
        return (self.output / "password").read_text("utf-8").strip()


@pytest.fixture(scope="module")
def story(site: site_story.Story, deployment: Deployment) -> Story:
    assert site.first.code == 0
    sample, output = deployment.folder / "demo-sample", deployment.folder / "demo-output"
    deployment.cbm("sample", out_dir=str(sample), **LAYOUT)
    given = {"demo_data": str(sample), "demo_output": str(output)}
    runs = [deployment.must("demo", *words, **given) for words in ([], [], ["--check", "--diff"])]
    return Story(given, output, *runs)


def settings_of(deployment: Deployment) -> dict[str, Any]:
    return tomllib.loads((deployment.root / "etc/api.toml").read_text("utf-8"))


def ask(deployment: Deployment, path: str, login: str | None = None) -> tuple[int, Any]:
    """Status and document of an answer; login is user:password."""
    request = urllib.request.Request(f"http://{settings_of(deployment)['api']['listen']}{path}")
    if login is not None:
        token = base64.b64encode(login.encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


def pid_of(deployment: Deployment) -> int:
    found = re.search(r"^cbm-api\s+RUNNING\s+pid (\d+)", deployment.supervisor("status"), re.M)
    assert found
    return int(found[1])


def connects(deployment: Deployment, account: str, login: str) -> bool:
    """Whether an account of this machine gets into the database as a login."""
    port = next(row[2] for row in clusters() if row[1] == CLUSTER)
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


def test_it_answers_on_loopback_and_asks_for_a_login(
    site: site_story.Story, deployment: Deployment
) -> None:
    assert site.first.code == 0
    assert settings_of(deployment)["api"]["listen"].startswith("127.0.0.1:")
    assert ask(deployment, "/readyz") == (200, {"status": "ok", "version": "0.1.0"})
    status, problem = ask(deployment, "/v1/collections")
    assert (status, problem["code"]) == (401, "login_required")


def test_the_service_has_few_rights(site: site_story.Story, deployment: Deployment) -> None:
    assert site.first.code == 0
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


def test_its_settings_are_for_it_alone(site: site_story.Story, deployment: Deployment) -> None:
    assert site.first.code == 0
    found = (deployment.root / "etc/api.toml").stat()
    assert (found.st_mode & 0o777, found.st_uid) == (0o640, 0)
    assert found.st_gid == grp.getgrnam(ACCOUNT).gr_gid
    assert settings_of(deployment)["database"]["user"] == "cbm_web"


def test_a_changed_setting_restarts_it_once(site: site_story.Story, deployment: Deployment) -> None:
    assert site.second.changed == 0
    before, listened = pid_of(deployment), settings_of(deployment)["api"]["listen"]
    words, given = ("--tags", "cbm_api,service"), {"cbm_api_settings": {"pool_size": 3}}
    assert deployment.must("site", *words, **given).changed > 0
    changed = pid_of(deployment)
    assert changed != before
    assert settings_of(deployment)["api"]["pool_size"] == 3
    assert settings_of(deployment)["api"]["listen"] == listened
    assert ask(deployment, "/readyz")[0] == 200
    assert deployment.must("site", *words, **given).changed == 0
    assert pid_of(deployment) == changed
    deployment.must("site", *words)


def test_settings_that_it_refuses_do_not_reach_it(
    site: site_story.Story, deployment: Deployment
) -> None:
    assert site.second.changed == 0
    before = pid_of(deployment), settings_of(deployment)
    done = deployment.run("site", "--tags", "cbm_api,service", cbm_api_settings={"no_such": 1})
    assert done.failed == 1
    assert "has keys that mean nothing here: no_such" in " ".join(done.output.split())
    assert (pid_of(deployment), settings_of(deployment)) == before


def test_the_demo_runs_again_without_change(story: Story) -> None:
    assert story.first.changed > 0
    assert story.second.changed == 0, story.second.output
    assert story.checked_again.changed == 0, story.checked_again.output


def test_the_demo_tells_address_and_login(story: Story, deployment: Deployment) -> None:
    address = f"http://{settings_of(deployment)['api']['listen']}/viewer/"
    for run in (story.first, story.second):
        assert address in run.output
        assert f"password in {story.output}/password" in " ".join(run.output.split())
        assert story.password not in run.output
    assert (story.output / "password").stat().st_mode & 0o777 == 0o600
    assert len(story.password) == 20


def test_the_login_shows_the_demo_and_nothing_else(story: Story, deployment: Deployment) -> None:
    dataset = deployment.query(
        "SELECT d.aoi || '_' || d.year FROM cbm.dataset d JOIN cbm.dataset_grant g"
        " ON g.dataset_id = d.id WHERE g.via = 'api' AND g.grantee = 'demo'"
    )
    status, document = ask(deployment, "/v1/collections", f"demo:{story.password}")
    assert status == 200
    assert [one["id"] for one in document["collections"]] == [name for (name,) in dataset]
    assert len(dataset) == 1
    assert ask(deployment, "/v1/collections", "demo:another password")[0] == 401


def test_users_of_an_inventory(story: Story, deployment: Deployment) -> None:
    file = deployment.folder / "anna"
    file.write_text("a password of anna\n", encoding="utf-8")
    file.chmod(0o600)
    users = [{"name": "anna", "password_file": str(file), "datasets": []}]
    before = deployment.content()
    assert deployment.must("users", "--check", cbm_api_users=users).changed == 1
    assert deployment.content() == before
    assert ask(deployment, "/v1/collections", "anna:a password of anna")[0] == 401
    assert deployment.must("users", cbm_api_users=users).changed == 1
    assert deployment.must("users", cbm_api_users=users).changed == 0
    status, document = ask(deployment, "/v1/collections", "anna:a password of anna")
    assert (status, document["collections"]) == (200, [])
    gone = [{"name": "anna", "state": "disabled"}]
    assert deployment.must("users", cbm_api_users=gone).changed == 1
    assert ask(deployment, "/v1/collections", "anna:a password of anna")[0] == 401
