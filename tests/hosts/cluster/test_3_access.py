"""Who reaches what: ports, the database, the hub's users, secrets."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.hosts.cluster.agency import API, HUB, PUBLIC, STRANGER, Agency
from tests.hosts.cluster.conftest import ANNA, Deployed
from tests.hosts.hub_session import RefusedError, Session

# Of each host's ports that listen, those that answer.
FROM_OUTSIDE = {"bastion1": {22}, "front1": {80, 443}}
FROM_STRANGER = FROM_OUTSIDE | {"db1": set(), "worker1": set(), "worker2": set()}
FROM_WORKER2 = FROM_STRANGER | {"db1": {5432}}
ASK_PORTS = """
import socket, sys
for port in sys.argv[2:]:
    try:
        socket.create_connection((sys.argv[1], int(port)), timeout=1.5).close()
    except OSError:
        continue
    print(port)
"""
# What a user's kernel may do; PASSWORD is replaced.
NOTEBOOK = """
import json, os, socket, urllib.request
from pathlib import Path
import psycopg2
from cbm_client import Client

def refused(action):
    try:
        action()
    except (OSError, psycopg2.Error) as error:
        return type(error).__name__
    return "allowed"

def read():
    return sql("SELECT count(*) FROM cbm.signature_long WHERE band = 'B04'")

def sql(statement):
    with psycopg2.connect("service=cbm") as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()

pid = sql("SELECT min(pid) FROM cbm.parcel")[0][0]
client = Client(os.environ["CBM_URL"], "anna", "PASSWORD")
print(json.dumps({
    "rows": read()[0][0],
    "series": len(client.signatures("sample_2021", pid, bands="B04", statistics="mean")),
    "datasets": [list(row) for row in sql("SELECT aoi FROM cbm.dataset")],
    "write": refused(lambda: sql("UPDATE cbm.parcel SET pid = pid")),
    "create": refused(lambda: sql("CREATE TABLE public.mine (id int)")),
    "homes": sorted(one.name for one in Path("/home").iterdir()),
    "metadata": refused(lambda: urllib.request.urlopen("http://169.254.169.254:8169/", timeout=5)),
}))
"""


def listening(agency: Agency, host: str) -> list[str]:
    """The ports of a host on which something listens, also on loopback only."""
    rows = agency.on(host, "ss", "-Htln").splitlines()
    return sorted({row.split()[3].rsplit(":", 1)[1] for row in rows}, key=int)


def answering(agency: Agency, host: str, address: str, ports: list[str]) -> set[int]:
    """Those of the ports at an address that answer a host."""
    out = agency.on(host, "/usr/bin/python3", "-c", ASK_PORTS, address, *ports)
    return {int(line) for line in out.split()}


def test_only_the_intended_ports_answer(agency: Agency, deployed: Deployed) -> None:
    seen: dict[str, dict[str, set[int]]] = {"outside": {}, STRANGER: {}, "worker2": {}}
    for name, address in agency.hosts().items():
        ports = listening(agency, name)
        assert len(ports) > 2, name
        if name in PUBLIC:
            seen["outside"][name] = answering(agency, "outside", PUBLIC[name], ports)
        seen[STRANGER][name] = answering(agency, "stranger", address, ports)
        if name != "worker2":
            seen["worker2"][name] = answering(agency, "worker2", address, ports)
    workers = {port for port in seen["worker2"]["worker1"] if 8800 <= port < 9000}
    assert workers, "workers do not reach each other"
    assert seen == {
        "outside": FROM_OUTSIDE,
        STRANGER: FROM_STRANGER,
        "worker2": {
            **{name: ports for name, ports in FROM_WORKER2.items() if name != "worker2"},
            "bastion1": {22, 8786},
            "worker1": workers,
        },
    }


@pytest.mark.parametrize(
    ("host", "user", "sslmode", "said"),
    [
        ("worker1", "cbm_extractor", "verify-full", "let in"),
        ("worker1", "cbm_extractor", "disable", "no encryption"),
        ("worker1", "cbm_admin", "verify-full", "pg_hba.conf rejects"),
        ("worker1", "postgres", "verify-full", "pg_hba.conf rejects"),
        ("front1", "cbm_extractor", "verify-full", "pg_hba.conf rejects"),
    ],
)
def test_the_database_lets_in(
    agency: Agency, deployed: Deployed, host: str, user: str, sslmode: str, said: str
) -> None:
    password = agency.secrets().get(user, "none")
    assert said in agency.database_says(host, user, password, sslmode)
    if said == "let in":
        refused = agency.database_says(host, user, "wrong" + password, sslmode)
        assert "authentication failed" in refused


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The public names lead to the front host, on the machine that runs the tests."""
    resolve = socket.getaddrinfo

    def found(host: Any, *more: Any, **given: Any) -> Any:
        return resolve(PUBLIC["front1"] if host in (API, HUB) else host, *more, **given)

    monkeypatch.setattr(socket, "getaddrinfo", found)


@pytest.fixture
def metadata(agency: Agency) -> None:
    """What a cloud has: an address that tells a machine's secrets to who asks on it."""
    agency.on("front1", "ip", "address", "replace", "169.254.169.254/32", "dev", "lo")
    agency.on(
        "front1",
        *["systemd-run", "--quiet", "--unit=metadata", "--collect"],
        *["/usr/bin/python3", "-m", "http.server", "8169", "--directory", "/usr/share/base-files"],
        check=False,
    )
    agency.on("front1", "curl", "-sS", "--retry-connrefused", "--retry", "20", METADATA)


METADATA = "http://169.254.169.254:8169/"


@pytest.mark.usefixtures("names", "metadata")
def test_a_hub_user_reads_what_was_granted_and_writes_nothing(
    agency: Agency, login: list[str]
) -> None:
    source = NOTEBOOK.replace("PASSWORD", ANNA["api"])
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "source": source}
    document = {"cells": [cell | {"execution_count": None}], "metadata": {}, "nbformat": 4}
    agency.on(
        "front1", "tee", "/home/anna/probe.ipynb", text=json.dumps(document | {"nbformat_minor": 5})
    )
    session = Session(f"https://{HUB}", "anna", str(agency.authority))
    session.log_in(ANNA["hub"])
    session.start_server()
    seen = json.loads(asyncio.run(session.run("probe.ipynb"))[0])
    count = agency.sql("SELECT count(*) FROM cbm.signature_long WHERE band = 'B04'")[0][0]
    assert seen == {
        "rows": int(count),
        "series": seen["series"],
        "datasets": [["sample"]],
        "write": "InsufficientPrivilege",
        "create": "InsufficientPrivilege",
        "homes": ["anna"],
        "metadata": "URLError",
    }
    assert seen["rows"] > 0
    assert seen["series"] > 3


@pytest.mark.usefixtures("names")
def test_strangers_are_not_let_into_the_hub(agency: Agency, deployed: Deployed) -> None:
    session = Session(f"https://{HUB}", "anna", str(agency.authority))
    with pytest.raises(RefusedError):
        session.log_in("another password")


def test_public_pages_speak_tls_of_the_authority_only(
    agency: Agency, deployed: Deployed, names: None
) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"https://{API}/", timeout=20, verify=True)
    redirected = requests.get(f"http://{API}/", timeout=20, allow_redirects=False)
    assert redirected.status_code in {301, 308}
    assert redirected.headers["Location"].startswith(f"https://{API}/")


def test_secrets_are_nowhere_to_be_read(agency: Agency, login: list[str]) -> None:
    """Not in command lines and logs, and in no file that nobody may read."""
    secrets = [*agency.secrets().values(), *ANNA.values()]
    patterns = "\n".join(secrets)
    for host in agency.hosts():
        commands = agency.on(host, "sh", "-c", "cat /proc/[0-9]*/cmdline", check=False)
        journal = agency.on(host, "journalctl", "--no-pager", "--output=cat")
        for place, text in (("process list", commands), ("journal", journal)):
            assert not [one for one in secrets if one in text], f"{place} of {host}"
        logs = agency.on(
            host, "grep", "-rlaFf", "-", "/var/log", "--exclude-dir=journal",
            check=False, text=patterns,
        )  # fmt: skip
        assert logs == "", host
        readable = agency.on(
            host, "runuser", "-u", "nobody", "--", "grep", "-srlaFf", "-", "--devices=skip",
            "/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/usr/local", "/var",
            check=False, text=patterns,
        )  # fmt: skip
        assert readable == "", host
    for log in sorted(agency.folder.glob("*.log")):
        text = log.read_text()
        assert not [one for one in secrets if one in text], log
    assert [one for one in secrets if one in Path(agency.inventory / "hosts.yml").read_text()] == []
