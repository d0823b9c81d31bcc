"""A deployment by the playbooks, beside whatever else is on this machine, and taken away again.

It has its own root folder, its own PostgreSQL cluster and a copy of the checkout, so that neither a
deployed system nor an edit in the middle of a test gets in the way. Needs root and Debian packages.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests import checkout

# Names of clusters go on with the session's process: sessions side by side do not share one.
PREFIX = "cbm_e2e_"


@dataclass(frozen=True)
class Run:
    """What a playbook run said."""

    code: int
    changed: int
    failed: int
    output: str


class Deployment:
    """Runs playbooks of the copied checkout against this machine (inventories/local)."""

    def __init__(self, folder: Path, cluster: str) -> None:
        self.folder = folder
        self.cluster = cluster
        self.root = folder / "root"
        self.config = self.root / "etc/cbm.toml"
        self.checkout = folder / "checkout"
        checkout.copy(self.checkout)
        self._variables = {
            "cbm_runtime_root": str(self.root),
            "cbm_runtime_config_path": str(self.config),
            "cbm_api_settings_path": str(self.root / "etc/api.toml"),
            "cbm_service_supervisor_root": str(self.root / "supervisor"),
            "cbm_postgis_cluster": cluster,
        }

    def start(self, playbook: str, *arguments: str, **variables: Any) -> subprocess.Popen[str]:
        """Start a playbook, or several by one command, in a process group of its own."""
        ansible = Path(sys.executable).parent / "ansible-playbook"
        given = json.dumps({**self._variables, **variables})
        playbooks = [f"playbooks/{name}.yml" for name in playbook.split()]
        command = [str(ansible), "-i", "inventories/local", *playbooks]
        return subprocess.Popen(
            [*command, "--extra-vars", given, *arguments],
            cwd=self.checkout,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, playbook: str, *arguments: str, **variables: Any) -> Run:
        process = self.start(playbook, *arguments, **variables)
        try:
            output, _ = process.communicate(timeout=1200)
        except BaseException:
            # It has a process group of its own, which an interrupted test session does not end.
            os.killpg(process.pid, signal.SIGKILL)
            raise
        recap = re.findall(r"^localhost .*changed=(\d+).*failed=(\d+)", output, re.MULTILINE)
        changed, failed = (int(number) for number in recap[-1]) if recap else (-1, -1)
        return Run(process.returncode, changed, failed, output)

    def must(self, playbook: str, *arguments: str, **variables: Any) -> Run:
        """Run and fail the test with the output where the playbook fails."""
        done = self.run(playbook, *arguments, **variables)
        assert done.code == 0, done.output[-6000:]
        return done

    def cbm(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """The `result` of a command of the deployed release."""
        command = [str(self.root / "current/venv/bin/cbm"), "--json", "--config", str(self.config)]
        done = subprocess.run(
            [*command, *verb.split()],
            input=json.dumps(arguments),
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)["result"]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query as the extracting login."""
        database = tomllib.loads(self.config.read_text(encoding="utf-8"))["database"]
        database.pop("owner")
        connection = psycopg2.connect(**database)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall()
        finally:
            connection.close()

    def content(self) -> dict[str, int]:
        """Rows per table of the schema: what a run in check mode must leave as it was."""
        tables = self.query(
            "SELECT relname FROM pg_class WHERE relnamespace = 'cbm'::regnamespace"
            " AND relkind IN ('r', 'p') AND has_table_privilege(oid, 'SELECT') ORDER BY 1"
        )
        return {name: self.query(f'SELECT count(*) FROM cbm."{name}"')[0][0] for (name,) in tables}

    def supervisor(self, *words: str) -> str:
        home = self.root / "supervisor"
        command = [home / "venv/bin/python", "-m", "supervisor.supervisorctl"]
        done = subprocess.run(
            [*command, "-c", home / "supervisord.conf", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout

    def processes(self) -> set[int]:
        """What runs of the deployment's releases, as process ids."""
        found = set()
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if str(self.root / "current").encode() in command:
                found.add(int(process.name))
        return found


def clusters() -> list[list[str]]:
    """Version, name, port, status, owner and folders of every PostgreSQL cluster here."""
    if not shutil.which("pg_lsclusters"):
        return []
    done = subprocess.run(["pg_lsclusters", "-h"], capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


@contextmanager
def deployed() -> Iterator[Deployment]:
    """Give a deployment that is not deployed yet; take it away at the end."""
    if os.geteuid() != 0:
        pytest.skip("deploying needs root")
    # A short path: it holds a socket, and those may have no more than 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="cbm-e2e-", dir="/tmp"))
    folder.chmod(0o755)
    _remove_clusters()
    deployment = Deployment(folder, f"{PREFIX}{os.getpid()}")
    try:
        yield deployment
    finally:
        if (deployment.root / "supervisor/run/supervisor.sock").exists():
            deployment.supervisor("shutdown")
            _wait_until_down(deployment.cluster)
        _remove_clusters(deployment.cluster)
        shutil.rmtree(folder)


def _wait_until_down(cluster: str) -> None:
    for _ in range(100):
        if all(row[3] == "down" for row in clusters() if row[1] == cluster):
            return
        time.sleep(0.2)


def _remove_clusters(own: str = "") -> None:
    """Remove one's own, and what killed sessions left."""
    for version, name, *_ in clusters():
        if not name.startswith(PREFIX):
            continue
        session = name.removeprefix(PREFIX)
        if name != own and (not session.isdigit() or Path("/proc", session).exists()):
            continue
        unit = f"postgresql@{version}-{name}.service"
        if Path("/run/systemd/system").exists():
            subprocess.run(["systemctl", "disable", "--now", unit], check=False)
            shutil.rmtree(f"/etc/systemd/system/{unit}.d", ignore_errors=True)
        subprocess.run(["pg_dropcluster", "--stop", version, name], check=True)
