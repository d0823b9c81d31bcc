"""The doctor: what it calls a warning and a problem, and how it tells."""

from __future__ import annotations

import copy
import importlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.ansible.tree import REPO, load

FILES = REPO / "roles/cbm_doctor/files"
NOW = 1_800_000_000.0
DAY = 86400
LIMITS = {"disk_percent": 10, "certificate_days": 14, "backup_hours": 26, "drill_days": 35}
LOGINS = [
    {"name": "cbm_admin", "group": "cbm_owner"},
    {"name": "anna", "group": "cbm_read"},
]


def role(name: str, *groups: str, **more: Any) -> dict[str, Any]:
    plain = {"name": name, "login": True, "superuser": False, "powers": [], "groups": [*groups]}
    return {**plain, **more}


def group(name: str, **more: Any) -> dict[str, Any]:
    return role(name, login=False, **more)


GROUPS = [group(f"cbm_{name}") for name in ("owner", "ingest", "api", "read")]
SUPERUSER = role("postgres", superuser=True, powers=["CREATEROLE"])
WANTED = {
    "release_path": "/opt/cbm/current",
    "database": {"cluster": "cbm", "name": "cbm", "logins": LOGINS},
    "backups": {"database": "/status.json"},
    "sessions": [{"account": "cbm", "login": "cbm_extractor"}],
    "peers": [{"name": "scheduler", "address": "10.0.0.5", "port": 8786}],
    "pages": [{"url": "https://api.example.org/readyz"}],
}
FOUND = {
    "system": {"id": "debian 12", "name": "Debian GNU/Linux 12", "reboot": None},
    "failed": [],
    "release": {"name": "0.3.0-0123456789", "checksum": "abc"},
    "schema": {"pending": []},
    "services": [{"name": "cbm-api.service", "running": True, "enabled": True, "state": "active"}],
    "disks": [{"folders": ["/", "/var"], "percent": 62.0, "free_gb": 40.0}],
    "certificates": [{"path": "/etc/cbm/pki/host.pem", "days": 90.0}],
    "database": {
        "version": "15.6",
        "postgis": "3.3.2",
        "roles": [role("cbm_admin", "cbm_owner"), role("anna", "cbm_read"), *GROUPS, SUPERUSER],
        "archive": {"mode": "on", "failed": None, "archived": NOW},
    },
    "backups": {
        "database": {
            "full": {"ended": NOW - DAY, "good": True, "last_success": NOW - DAY},
            "drill": {"ended": NOW - 7 * DAY, "good": True, "last_success": NOW - 7 * DAY},
        }
    },
    "sessions": [
        {
            "database": {"login": "cbm_extractor", "local": False, "tls": True},
            "storage": {"endpoint": "https://s3.example"},
        }
    ],
    "peers": [{"version": "TLSv1.3"}],
    "pages": [{"status": 200, "version": "0.3.0"}],
}


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(FILES), *sys.path])
    return importlib.import_module("doctor")


@pytest.fixture
def examine(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(FILES), *sys.path])
    return importlib.import_module("examine")


Judge = Callable[..., list[tuple[int, str]]]


@pytest.fixture
def wrong(doctor: ModuleType) -> Judge:
    """Levels and areas of what is not fine, after something of a sound host was changed."""

    def judge(change: Callable[[dict[str, Any]], Any] = id) -> list[tuple[int, str]]:
        found = copy.deepcopy(FOUND)
        change(found)
        hosts = {"db1": {"wanted": WANTED, "found": found}}
        findings = doctor.findings({"limits": LIMITS, "hosts": hosts}, NOW)
        for one in findings:
            if one.level:
                assert one.expected
                assert one.found
                assert one.do
        return [(one.level, one.area) for one in findings if one.level]

    return judge


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    """A change: the last word is the value, those before lead to its place."""

    def change(found: dict[str, Any]) -> None:
        *way, key, value = path
        for step in way:
            found = found[step]
        found[key] = value

    return change


def archive(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda found: found["database"]["archive"].update(values)


def last(kind: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda found: found["backups"]["database"][kind].update(values)


def roles(*more: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """These instead of those of the same name."""

    def change(found: dict[str, Any]) -> None:
        by_name = {one["name"]: one for one in [*found["database"]["roles"], *more]}
        found["database"]["roles"] = list(by_name.values())

    return change


def test_a_sound_host_has_nothing_wrong(wrong: Judge) -> None:
    assert wrong() == []


@pytest.mark.parametrize(
    ("level", "area", "change"),
    [
        (1, "system", put("system", "id", "ubuntu 24.04")),
        (1, "updates", put("system", "reboot", ["linux-image-amd64"])),
        (1, "units", put("failed", ["logrotate.service"])),
        (2, "release", put("release", {"error": "nothing there"})),
        (2, "schema", put("schema", "pending", ["0013_more"])),
        (2, "services", put("services", 0, "running", False)),
        (1, "services", put("services", 0, "enabled", False)),
        (1, "disk", put("disks", 0, "percent", 19.9)),
        (2, "disk", put("disks", 0, "percent", 9.9)),
        (1, "certificates", put("certificates", 0, "days", 13.9)),
        (2, "certificates", put("certificates", 0, "days", 0.9)),
        (2, "certificates", put("certificates", 0, "days", -3)),
        (1, "certificates", put("certificates", 0, "days", {"error": "no certificate in it"})),
        (2, "database", put("database", {"error": "there is no cluster cbm"})),
        (2, "database", put("database", "postgis", None)),
        (2, "backup", archive(mode="off")),
        (2, "backup", archive(failed=NOW - 60, archived=NOW - 120)),
        (2, "backup", put("backups", "database", "full", "last_success", NOW - 27 * 3600)),
        (1, "backup", last("full", good=False, error="disk full")),
        (2, "drill", last("drill", good=False, error="rows differ")),
        (1, "drill", last("drill", last_success=NOW - 36 * DAY)),
        (1, "homes' backup", put("backups", "homes", {})),
        (1, "drill", lambda found: found["backups"]["database"].pop("drill")),
        (2, "backup", lambda found: found["backups"]["database"].pop("full")),
        (2, "database access", put("sessions", 0, {"error": "no such account"})),
        (2, "database access", put("sessions", 0, "database", {"error": "refused"})),
        (2, "database access", put("sessions", 0, "database", "tls", False)),
        (2, "database access", put("sessions", 0, "database", "login", "postgres")),
        (2, "object storage", put("sessions", 0, "storage", "error", "unreachable")),
        (2, "peers", put("peers", 0, {"error": "certificate verify failed"})),
        (2, "web", put("pages", 0, {"error": "Name or service not known"})),
        (2, "web", put("pages", 0, {"status": 502, "version": None})),
        (1, "web", put("pages", 0, {"status": 200, "version": "0.2.0"})),
    ],
)
def test_what_is_wrong_and_how_much(
    wrong: Judge, level: int, area: str, change: Callable[[dict[str, Any]], None]
) -> None:
    assert wrong(change) == [(level, area)]


@pytest.mark.parametrize(
    ("level", "change"),
    [
        (2, roles(role("anna"))),
        (2, roles(role("anna", "cbm_read", "cbm_owner"))),
        (2, roles(role("anna", "cbm_owner"))),
        (2, roles(role("anna", "cbm_read", superuser=True))),
        (2, roles(role("anna", "cbm_read", powers=["BYPASSRLS"]))),
        (2, roles(role("anna", "cbm_read", login=False))),
        (2, roles(group("cbm_read", groups=["cbm_owner"]))),
        (2, roles(role("cbm_read"))),
        (2, roles(role("mallory", login=False, superuser=True))),
        (1, roles(role("mallory", "cbm_read"))),
    ],
)
def test_rights_of_the_database(
    wrong: Judge, level: int, change: Callable[[dict[str, Any]], None]
) -> None:
    assert wrong(change) == [(level, "grants")]


def test_an_account_may_have_any_login_where_none_is_named(doctor: ModuleType) -> None:
    wanted = {**WANTED, "sessions": [{"account": "anna"}]}
    text = told(doctor, a={"wanted": wanted, "found": FOUND})
    assert "0 problems, 0 warnings" in text
    assert "anna by TLS" in text


def test_a_missing_login_is_a_problem(wrong: Judge) -> None:
    def change(found: dict[str, Any]) -> None:
        found["database"]["roles"] = [*GROUPS, SUPERUSER, role("anna", "cbm_read")]

    assert wrong(change) == [(2, "grants")]


def test_who_left_and_may_not_log_in_is_no_finding(wrong: Judge) -> None:
    assert wrong(roles(group("paul", groups=["cbm_read"]))) == []


def told(doctor: ModuleType, **hosts: Any) -> str:
    return doctor.text(doctor.findings({"limits": LIMITS, "hosts": hosts}, NOW))


def changed(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    found = copy.deepcopy(FOUND)
    change(found)
    return {"wanted": WANTED, "found": found}


def test_the_worst_comes_first_and_the_rest_is_short(doctor: ModuleType) -> None:
    lines = told(
        doctor,
        a=changed(put("failed", ["logrotate.service"])),
        b={"wanted": WANTED, "error": "No route to host"},
        c={"wanted": WANTED, "found": FOUND},
    ).splitlines()
    heads = [line.split("  ")[:2] for line in lines if not line.startswith("    ")]
    assert heads[0] == ["PROBLEM", "b: host"]
    assert heads[1] == ["warning", "a: units"]
    assert [line.split()[:2] for line in lines if line.startswith("ok")] == [
        ["ok", "a"],
        ["ok", "c"],
    ]
    assert "    found     No route to host" in lines
    assert lines[-1].startswith("3 hosts: 1 problem, 1 warning, ")
    assert max(map(len, lines)) <= 140
    # YAML shows texts with blanks at the ends of lines as one long line.
    assert not [line for line in lines if line != line.rstrip()]


def test_each_kind_of_backup_has_its_age(doctor: ModuleType) -> None:
    run = {"ended": NOW - 7200, "good": True, "last_success": NOW - 7200}
    text = told(doctor, a=changed(put("backups", "database", "diff", run)))
    said = " ".join(text.split())
    assert "backup: full 24 hours old, diff 2 hours old; drill: 7 days old" in said


def test_hosts_with_different_releases_are_told_of(doctor: ModuleType) -> None:
    other = changed(put("release", {"name": "0.3.0-9999999999", "checksum": "def"}))
    same = changed(put("release", {"name": "0.3.0-5555555555", "checksum": "abc"}))
    text = told(doctor, a={"wanted": WANTED, "found": FOUND}, b=other, c=same)
    assert "found     0.3.0 (abc) on a, c; 0.3.0 (def) on b" in text
    assert "1 problem, 0 warnings" in text


def test_the_program_counts(doctor: ModuleType) -> None:
    given = {"limits": LIMITS, "hosts": {"a": {"error": "gone"}}}
    command = [sys.executable, "-B", str(FILES / "doctor.py")]
    answer = json.loads(subprocess.check_output(command, input=json.dumps(given), text=True))
    assert (answer["problems"], answer["warnings"]) == (1, 0)
    assert answer["text"].startswith("PROBLEM  a: host")


def test_the_playbook_asks_every_host_of_a_cluster_for_what_it_should_have() -> None:
    """All of them are this machine here, which has nothing of it."""
    command = [sys.executable, "-m", "ansible.cli.playbook", "-i", "inventories/cluster"]
    users = [{"name": "anna", "database_password": "x"}, {"name": "eva"}]
    given = {
        **{"ansible_connection": "local", "ansible_become": False, "cbm_agency_api_name": "-"},
        "cbm_jupyterhub_users": users,
    }
    done = subprocess.run(
        [*command, "playbooks/doctor.yml", "--check", "-e", json.dumps(given)],
        cwd=REPO,
        env=os.environ | {"ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    missing = {line.removeprefix("PROBLEM  ") for line in lines if line.startswith("PROBLEM")}
    release = {f"{host}: release" for host in ("bastion1", "worker1", "worker2", "front1")}
    assert {one for one in missing if one.endswith(": release")} == release
    peers = {f"{host}: peers" for host in ("bastion1", "worker1", "worker2")}
    assert {one for one in missing if one.endswith(": peers")} == peers
    web = {"bastion1: web", "front1: web"}
    assert {one for one in missing if one.endswith(": web")} == web
    assert "front1: database access" in missing
    assert "expected  anna to reach the database" in lines
    assert "db1: database" in missing
    assert "db1: backup" in missing
    assert not re.search(r"changed=[1-9]|unreachable=[1-9]", done.stdout)
    assert re.search(r"^ *5 hosts: \d+ problems", done.stdout, re.MULTILINE)


def test_limits_are_those_that_give_an_alert() -> None:
    """The doctor has none of its own: the playbook hands it these."""
    usual = load(REPO / "roles/cbm_monitoring/vars/main.yml")["__cbm_monitoring_usual_limits"]
    assert {key: usual[key] for key in LIMITS} == LIMITS
    specs = load(REPO / "roles/cbm_doctor/meta/argument_specs.yml")["argument_specs"]
    assert set(specs["report"]["options"]["cbm_doctor_limits"]["options"]) == set(LIMITS)


NOTHING = {
    **dict.fromkeys(("release_path", "supervisor", "inside"), ""),
    **{key: {} for key in ("schema", "database", "backups")},
    **{key: [] for key in ("folders", "certificates", "services", "sessions", "peers", "pages")},
}


def looked(**wanted: Any) -> dict[str, Any]:
    """As the role runs it: a program without a file."""
    program = (FILES / "examine.py").read_text()
    command = [sys.executable, "-I", "-c", program]
    given = json.dumps({**NOTHING, **wanted})
    return json.loads(subprocess.check_output(command, input=given, text=True))


def test_a_look_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text("{")
    found = looked(
        release_path=str(tmp_path / "current"),
        folders=["/", str(tmp_path / "missing")],
        backups={"database": str(tmp_path / "status.json"), "homes": str(tmp_path / "none")},
        sessions=[{"account": "cbm", "login": "x", "python": str(tmp_path / "python")}],
        peers=[{"ca": str(tmp_path / "ca.pem"), "certificate": "", "key": ""}],
        pages=[{"url": "http://127.0.0.1:9/"}],
    )
    assert "current" in found["release"]["error"]
    assert found["backups"]["homes"] == {}
    for one in (found["backups"]["database"], *found["sessions"], *found["peers"]):
        assert one["error"]
    assert "refused" in found["pages"][0]["error"]
    (room,) = found["disks"]
    assert room["folders"] == ["/"]
    assert 0 <= room["percent"] <= 100


def test_days_of_certificates(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "/dev/null"]
    for days in (3, 300):
        where = ["-days", str(days), "-subj", "/CN=x", "-out", str(tmp_path / f"{days}.pem")]
        subprocess.run(["openssl", "req", "-x509", *key, *where], check=True, capture_output=True)
    chain = (tmp_path / "300.pem").read_text() + (tmp_path / "3.pem").read_text()
    (tmp_path / "chain.pem").write_text(chain)
    found = looked(certificates=[f"{tmp_path}/*.pem"])["certificates"]
    days = {Path(one["path"]).name: one["days"] for one in found}
    assert round(days["300.pem"]) == 300
    assert round(days["3.pem"]) == round(days["chain.pem"]) == 3
    assert days["no.pem"]["error"]


class Ready(BaseHTTPRequestHandler):
    """The API; and as an object storage, whatever a bucket's key says."""

    refusal = "NoSuchBucket"

    def do_GET(self) -> None:
        if self.path.startswith("/cbm-doctor/"):
            self.send_response(404 if self.refusal == "NoSuchBucket" else 403)
            self.end_headers()
            self.wfile.write(f"<Error><Code>{self.refusal}</Code></Error>".encode())
            return
        self.send_response(200 if self.headers["Host"].startswith("api.") else 421)
        self.end_headers()
        self.wfile.write(b'{"status": "ok", "version": "0.3.0"}')

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[int]:
    serving = HTTPServer(("127.0.0.1", 0), Ready)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield serving.server_port
    serving.shutdown()
    thread.join()
    serving.server_close()


def test_a_page_is_asked_by_its_name_wherever_that_leads(server: int) -> None:
    url = f"http://api.example.org:{server}/readyz"
    found = looked(pages=[{"url": url, "address": "127.0.0.1"}])["pages"]
    assert found == [{"status": 200, "version": "0.3.0"}]


@pytest.mark.parametrize(
    ("refusal", "fine"),
    [
        ("NoSuchBucket", True),
        # It knows the key, which has no right to a bucket that nobody has.
        ("AccessDenied", True),
        ("InvalidAccessKeyId", False),
        ("SignatureDoesNotMatch", False),
    ],
)
def test_an_object_storage_answers_and_knows_the_keys(
    server: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: str, fine: bool
) -> None:
    monkeypatch.setattr(Ready, "refusal", refusal)
    keys = tmp_path / "keys"
    keys.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    keys.chmod(0o600)
    (tmp_path / "cbm.toml").write_text(
        f'[storage]\nendpoint = "http://127.0.0.1:{server}"\nvirtual_hosting = false\n'
        f'credentials_file = "{keys}"\n[database]\nhost = "{tmp_path}"\n'
    )
    given = json.dumps({"settings": str(tmp_path / "cbm.toml"), "duty": "", "storage": True})
    command = [sys.executable, "-c", (FILES / "inside.py").read_text()]
    done = subprocess.run(
        command, cwd=REPO, input=given, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert ("error" not in found["storage"]) == fine, found
    assert "No such file or directory" in found["database"]["error"]


def test_services_under_systemd(examine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {
        "a.service": "Result=success\nActiveState=active\nUnitFileState=enabled\n",
        "b.timer": "Result=success\nActiveState=active\nUnitFileState=disabled\n",
        "c.service": "Result=exit-code\nActiveState=failed\nUnitFileState=enabled\n",
        "d.service": "LoadState=not-found\nActiveState=inactive\nUnitFileState=\n",
    }
    monkeypatch.setattr(examine, "run", lambda command, *_: shown[command[-1]])
    monkeypatch.setattr(examine, "systemd", lambda: True)
    found = examine.services(["a", "b.timer", "c.service", "d"], "")
    assert [(one["running"], one["enabled"], one["state"]) for one in found] == [
        (True, True, "active"),
        (True, False, "active"),
        (False, True, "failed (exit-code)"),
        (False, False, "not installed"),
    ]


def test_a_program_that_hangs_is_told_of(examine: ModuleType) -> None:
    said = examine.told(examine.run, ["sleep", "30"], "", 0.2)
    assert said == {"error": "sleep gave no answer within 0 s"}
