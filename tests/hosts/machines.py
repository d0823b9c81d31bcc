"""Test hosts: containers that run systemd, on a network of their own, reached by ssh."""

import json
import os
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from tests.hosts import images
from tests.hosts.engine import docker

USER = "debian"


@dataclass(frozen=True)
class Machine:
    """A host to be: its name, its Debian and, where they matter, memory and addresses.

    ``address`` is on the network, ``public`` on a second one beside it; who has only that one is
    outside. It knows ``names`` (name:address) without asking.
    """

    name: str
    debian: str = "12"
    memory: str = "8g"
    address: str = ""
    public: str = ""
    names: tuple[str, ...] = ()

    def home(self, network: str) -> tuple[str, str]:
        """The network that it starts on, and its address there, if one is fixed."""
        if self.public and not self.address:
            return public(network), self.public
        return network, self.address


def up(
    network: str, machines: Iterable[Machine], folder: Path, subnets: tuple[str, ...] = ()
) -> list[dict[str, str | int]]:
    """Starts hosts on a network; `folder` takes the key to them and their own (`known_hosts`).

    ``subnets`` are those of the network and of the public one, for hosts with addresses.

    Returns one mapping per host with molecule's names: instance, address, user, port,
    identity_file.
    """
    wanted = list(machines)
    key = identity(folder)
    for name, subnet in zip_longest((network, public(network))[: len(subnets) or 1], subnets):
        if docker("network", "inspect", name, check=False).returncode != 0:
            docker("network", "create", *([f"--subnet={subnet}"] if subnet else []), name)
    for machine in wanted:
        if (
            docker("container", "inspect", container(network, machine.name), check=False).returncode
            != 0
        ):
            run(network, machine)
    reached = [reach(network, machine, key) for machine in wanted]
    (folder / "known_hosts").write_text("".join(known for _, known in reached))
    return [one for one, _ in reached]


def public(network: str) -> str:
    """The public network beside a network."""
    return f"{network}-public"


def container(network: str, name: str) -> str:
    """The container of a host."""
    return f"{network}-{name}"


def run(network: str, machine: Machine) -> None:
    """Starts one host."""
    authority = os.environ.get("CBM_HOSTS_CA_FILE") or os.environ.get("PIP_CERT")
    mounts = ["--volume", f"{authority}:/etc/cbm-test-ca.pem:ro"] if authority else []
    home, address = machine.home(network)
    docker(
        "run",
        "--detach",
        "--privileged",
        "--cgroupns=private",
        "--tmpfs=/run",
        "--tmpfs=/run/lock",
        # The volume is what gives a Docker engine in the host its overlay file system.
        "--volume=/var/lib/docker",
        *mounts,
        f"--memory={machine.memory}",
        f"--network={home}",
        *([f"--ip={address}"] if address else []),
        f"--network-alias={machine.name}",
        *(f"--add-host={one}" for one in machine.names),
        f"--hostname={machine.name}",
        f"--name={container(network, machine.name)}",
        f"--label=cbm-test-network={network}",
        images.name(machine.debian),
    )
    if machine.public and home == network:
        there = container(network, machine.name)
        docker("network", "connect", f"--ip={machine.public}", public(network), there)


def reach(network: str, machine: Machine, key: Path) -> tuple[dict[str, str | int], str]:
    """How a host that has booted is reached, and its line of `known_hosts`."""
    there = container(network, machine.name)
    write(there, f"/home/{USER}/.ssh/authorized_keys", key.with_suffix(".pub").read_text())
    docker("exec", there, "chown", "-R", f"{USER}:{USER}", f"/home/{USER}/.ssh")
    for path, text in index().items():
        write(there, path, text)
    for _ in range(240):
        ssh = docker("exec", there, "systemctl", "is-active", "ssh.service", check=False)
        if ssh.returncode == 0:
            break
        time.sleep(0.25)
    else:
        raise RuntimeError(f"{there} has not booted: see `docker exec {there} systemctl status`.")
    networks = json.loads(
        docker("inspect", "--format={{json .NetworkSettings.Networks}}", there).stdout
    )
    address = networks[machine.home(network)[0]]["IPAddress"]
    host_key = docker("exec", there, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").stdout.split()
    reached = {"instance": machine.name, "address": address, "user": USER, "port": 22}
    return (
        {**reached, "identity_file": str(key)},
        f"{address},{machine.name} {host_key[0]} {host_key[1]}\n",
    )


def index() -> dict[str, str]:
    """Files that lead a host's pip and npm to the index and CA file of who runs the tests."""
    names = ("INDEX_URL", "EXTRA_INDEX_URL", "TRUSTED_HOST", "DEFAULT_TIMEOUT")
    settings = {one.lower().replace("_", "-"): os.environ.get(f"PIP_{one}", "") for one in names}
    if os.environ.get("CBM_HOSTS_CA_FILE") or os.environ.get("PIP_CERT"):
        settings["cert"] = "/etc/cbm-test-ca.pem"
    lines = [f"{name} = {value}\n" for name, value in settings.items() if value]
    files = {"/etc/pip.conf": "[global]\n" + "".join(lines)} if lines else {}
    if "cert" in settings:
        files["/etc/npmrc"] = "cafile=/etc/cbm-test-ca.pem\n"
    return files


def write(there: str, path: str, text: str) -> None:
    """Writes a file in a container."""
    docker("exec", there, "mkdir", "-p", str(Path(path).parent))
    docker("exec", "-i", there, "cp", "/dev/stdin", path, text=text)


def identity(folder: Path) -> Path:
    """The key that reaches the hosts; made once per folder."""
    key = folder / "identity"
    if not key.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key


def down(network: str) -> None:
    """Takes hosts and network away, with what the hosts wrote."""
    found = docker(
        "ps", "--all", "--quiet", f"--filter=label=cbm-test-network={network}"
    ).stdout.split()
    if found:
        docker("rm", "--force", "--volumes", *found)
    for one in (network, public(network)):
        docker("network", "rm", one, check=False)
