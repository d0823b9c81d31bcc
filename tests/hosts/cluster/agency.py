"""An agency of its own on bare hosts: its inventory, made as operators do, and playbook runs.

Every connection is ssh through the bastion, as inventories/cluster says; nothing of that inventory
is changed. Beside its hosts there are ``outside``, which has a public address only, and
``stranger``, which has one on the hosts' network and is none of theirs.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.hosts import engine, machines

NETWORK = "cbm-cluster"
SUBNETS = ("10.86.0.0/24", "198.18.86.0/24")
# The machine that runs the tests has this address on the hosts' network.
HERE = "10.86.0.1"
STORAGE = "storage.example.org"
# Hosts of inventories/cluster, and that of inventories/single.
PUBLIC = {"bastion1": "198.18.86.10", "front1": "198.18.86.20", "cbm": "198.18.86.30"}
STRANGER = "10.86.0.99"
OTHERS = (
    machines.Machine("outside", public="198.18.86.99"),
    machines.Machine("stranger", address=STRANGER),
)
ASK_DATABASE = """
import psycopg2, sys
try:
    psycopg2.connect(sys.stdin.read()).close()
except psycopg2.OperationalError as error:
    print(error)
else:
    print("let in")
"""
API, HUB = "api.example.org", "hub.example.org"


@dataclass(frozen=True)
class Run:
    """What a playbook run said; ``changed`` counts over all hosts."""

    code: int
    changed: int
    output: str


@dataclass(frozen=True)
class Playing:
    """A playbook that runs, and the file of its output."""

    process: subprocess.Popen[bytes]
    log: Path

    def end(self, seconds: float = 2400) -> Run:
        """Wait for its end."""
        code = self.process.wait(timeout=seconds)
        output = self.log.read_text()
        counts = re.findall(r"^\S+ +: ok=\d+ +changed=(\d+)", output, re.MULTILINE)
        return Run(code, sum(map(int, counts)), output)

    def interrupt(self, mark: str) -> str:
        """Press Ctrl-C once it has come to a task; all that it printed."""
        while mark not in self.log.read_text():
            if self.process.poll() is not None:
                break
            time.sleep(0.2)
        else:
            os.killpg(self.process.pid, signal.SIGINT)
        return self.end(300).output


class Agency:
    """A copy of ``inventories/<sample>``, and what is done with it from a checkout."""

    def __init__(self, folder: Path, checkout: Path, sample: str = "cluster") -> None:
        self.folder = folder
        self.sample = sample
        self.checkout = checkout
        self.inventory = folder / "inventory"
        self.ssh = folder / "ssh"
        self.authority = folder / ".config/cbm/pki/ca.pem"
        self._environment = os.environ | {
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_FORKS": "6",
            "ANSIBLE_VAULT_PASSWORD_FILE": str(folder / "vault/xx.vault-password"),
            "CBM_VAULT_FOLDER": str(folder / "vault"),
            "CBM_CONTROLLER_PYTHON": sys.executable,
            "HOME": str(folder),
        }

    def make(self) -> None:
        """Start bare hosts, and make the inventory that names them."""
        machines.up(NETWORK, [*self.machines(), *OTHERS], self.ssh, SUBNETS)
        subprocess.run(
            [self.checkout / "tools/new-agency", "xx", str(self.inventory), self.sample],
            check=True,
            env=self._environment,
        )
        self.know()
        self.vary("operator", ansible_ssh_private_key_file=str(self.ssh / "identity"))
        # Where there is no such file Node says so and goes on. The controller has its own.
        npm = {"NODE_EXTRA_CA_CERTS": "/etc/cbm-test-ca.pem"}
        self.vary("operator", "hub", cbm_mirror_npm_environment=npm)

    def machines(self) -> list[machines.Machine]:
        """The hosts of the sample inventory."""
        return [
            machines.Machine(
                name, address=address, public=PUBLIC.get(name, ""), names=(f"{STORAGE}:{HERE}",)
            )
            for name, address in self.hosts().items()
        ]

    def know(self) -> None:
        """Put the hosts' keys into the inventory."""
        known = (self.ssh / "known_hosts").read_text()
        for name, private in self.hosts().items():
            if private and name in PUBLIC:
                known = known.replace(f"{private},", f"{private},{PUBLIC[name]},")
        (self.inventory / "known_hosts.txt").write_text(known)

    def anew(self, name: str) -> None:
        """Destroy a host with its volumes, and make a bare one in its place."""
        engine.docker("rm", "--force", "--volumes", machines.container(NETWORK, name))
        machines.up(NETWORK, self.machines(), self.ssh, SUBNETS)
        self.know()

    def hosts(self) -> dict[str, str]:
        """Each host's address on the private network, if it has one."""
        path = self.checkout / f"inventories/{self.sample}/hosts.yml"
        everything = yaml.safe_load(path.read_text())["all"]
        return {
            name: given.get("cbm_agency_address", "")
            for group in (everything, *everything["children"].values())
            for name, given in group.get("hosts", {}).items()
            if given
        }

    def secrets(self) -> dict[str, str]:
        """What the vault holds."""
        view = [Path(sys.executable).parent / "ansible-vault", "view"]
        text = subprocess.run(
            [*view, self.inventory / "group_vars/all/vault.yml"],
            check=True,
            capture_output=True,
            env=self._environment,
        ).stdout
        secrets: dict[str, str] = yaml.safe_load(text)["cbm_agency_secrets"]
        return secrets

    def vary(self, name: str, group: str = "all", **variables: Any) -> None:
        """Write a group's variables into a file of the inventory, as an operator does."""
        path = self.inventory / f"group_vars/{group}/{name}.yml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(variables))

    def start(self, playbook: str, *arguments: str, **variables: Any) -> Playing:
        """Start a playbook in a process group of its own; its output goes to a file of its own."""
        ansible = Path(sys.executable).parent / "ansible-playbook"
        given = ["--extra-vars", json.dumps(variables)] if variables else []
        number = len(list(self.folder.glob("*.log")))
        log = self.folder / f"{number:03}-{playbook}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [ansible, "-i", self.inventory, f"playbooks/{playbook}.yml", *given, *arguments],
                cwd=self.checkout,
                env=self._environment | {"ANSIBLE_CONFIG": str(self.checkout / "ansible.cfg")},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Playing(process, log)

    def run(self, playbook: str, *arguments: str, **variables: Any) -> Run:
        """Run a playbook to its end."""
        return self.start(playbook, *arguments, **variables).end()

    def must(self, playbook: str, *arguments: str, **variables: Any) -> Run:
        """Run, and fail the test with the output where the playbook fails."""
        done = self.run(playbook, *arguments, **variables)
        assert done.code == 0, done.output[-6000:]
        return done

    def on(self, host: str, *command: str, check: bool = True, text: str | None = None) -> str:
        """The output of a command as root on a host."""
        there = machines.container(NETWORK, host)
        done = engine.docker("exec", "-i", there, *command, check=False, text=text)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def sql(self, statement: str) -> list[list[str]]:
        """Rows of a statement as the database's superuser."""
        psql = ["runuser", "-u", "postgres", "--", "psql", "-XAtq", "-F\t", "-d", "cbm"]
        psql += ["-v", "ON_ERROR_STOP=1"]
        out = self.on("db1", *psql, "-p", "5432", text=statement)
        return [line.split("\t") for line in out.splitlines()]

    def database_says(self, host: str, user: str, password: str, sslmode: str) -> str:
        """What the database says to a login from a host of a release: `let in`, or why not."""
        words = f"host={self.hosts()['db1']} dbname=cbm user={user} password={password}"
        words += f" sslmode={sslmode} sslrootcert=/etc/cbm/pki/ca.pem connect_timeout=10"
        return self.on(host, "/opt/cbm/current/venv/bin/python", "-c", ASK_DATABASE, text=words)

    def counts(self) -> dict[str, Any]:
        """Rows of each table, and a checksum over the signatures."""
        program = ["/opt/cbm/backup/cbm-backup", "--settings", "/etc/cbm-backup/settings.json"]
        out = self.on("db1", "runuser", "-u", "postgres", "--", *program, "count")
        counted: dict[str, Any] = json.loads(out)
        return counted

    def ask(
        self, name: str, path: str, *options: str, at: str = PUBLIC["front1"]
    ) -> tuple[int, str]:
        """Ask a public name over TLS from outside; the status (0: none) and the body."""
        self.on("outside", "tee", "/etc/cbm-agency-ca.pem", text=self.authority.read_text())
        body = self.on(
            "outside",
            *["curl", "--silent", "--max-time", "20", "--cacert", "/etc/cbm-agency-ca.pem"],
            *["--resolve", f"{name}:443:{at}", "--write-out", "\n%{http_code}"],
            *options,
            f"https://{name}{path}",
            check=False,
        )
        text, _, status = body.rpartition("\n")
        return int(status), text

    def destroy(self) -> None:
        """Take the hosts away."""
        machines.down(NETWORK)
