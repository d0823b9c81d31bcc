"""What a host is like: reads from standard input what to look at, writes what it found; both JSON.

Changes nothing and judges nothing. Each look stands for itself: one that fails says so in its
place ("error"), and all others go on. Needs root, Debian's own Python and openssl; whatever else a
look asks may be missing.
"""

from __future__ import annotations

import glob
import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Found = dict[str, Any]

SECONDS = 10
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
DATABASE_SQL = """
SELECT json_build_object(
  'version', current_setting('server_version'),
  'postgis', (SELECT extversion FROM pg_extension WHERE extname = 'postgis'),
  'roles', (SELECT json_agg(json_build_object(
      'name', rolname, 'login', rolcanlogin, 'superuser', rolsuper,
      'powers', array_remove(ARRAY[
        CASE WHEN rolcreaterole THEN 'CREATEROLE' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END,
        CASE WHEN rolreplication THEN 'REPLICATION' END,
        CASE WHEN rolbypassrls THEN 'BYPASSRLS' END], NULL),
      'groups', ARRAY(SELECT pg_get_userbyid(roleid) FROM pg_auth_members WHERE member = r.oid)))
    FROM pg_roles AS r WHERE rolname !~ '^pg_'),
  'archive', (SELECT json_build_object(
      'mode', current_setting('archive_mode'), 'failed', extract(epoch FROM last_failed_time),
      'archived', extract(epoch FROM last_archived_time)) FROM pg_stat_archiver))
"""


def run(command: list[str], stdin: str = "", seconds: float = 3 * SECONDS) -> str:
    """Run a program and return what it writes; its complaint is an error."""
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        cwd="/",
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise OSError(said[-1] if said else f"{command[0]} ended with {done.returncode}")
    return done.stdout


def told(look: Callable[..., Any], *given: Any) -> Any:
    """Return what a look finds, or why it found nothing."""
    try:
        return look(*given)
    except subprocess.TimeoutExpired as error:
        return {"error": f"{error.cmd[0]} gave no answer within {error.timeout:.0f} s"}
    except OSError as error:
        said = error.strerror or str(error)
        return {"error": f"{said}: {error.filename}" if error.filename else said}
    except Exception as error:  # whatever it is, it is told
        return {"error": str(error) or type(error).__name__}


def system() -> Found:
    """Operating system, and whether something waits for a restart of the host."""
    release = Path("/etc/os-release").read_text(encoding="utf-8")
    known = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    packages = Path("/run/reboot-required.pkgs")
    waiting = packages.read_text(encoding="utf-8").split() if packages.exists() else []
    return {
        "name": known.get("PRETTY_NAME", "").strip('"'),
        "id": f"{known.get('ID', '')} {known.get('VERSION_ID', '')}".replace('"', ""),
        "reboot": sorted(set(waiting)) if Path("/run/reboot-required").exists() else None,
    }


def release(path: str) -> Found:
    """Name of a release, and a checksum of what it was installed from, which is alike on hosts."""
    folder = Path(path).resolve(strict=True)
    total = hashlib.sha256()
    for file in sorted([*folder.glob("*.whl"), folder / "constraints.txt"]):
        total.update(file.read_bytes())
    return {"name": folder.name, "checksum": total.hexdigest()[:10]}


def disks(folders: list[str]) -> list[Found]:
    """Room on each file system that one of the folders is on."""
    found: dict[int, Found] = {}
    for folder in folders:
        path = Path(folder)
        if not path.exists():
            continue
        room = os.statvfs(path)
        entry = found.setdefault(path.stat().st_dev, {"folders": []})
        entry["folders"].append(folder)
        entry["percent"] = round(100 * room.f_bavail / max(room.f_blocks, 1), 1)
        entry["free_gb"] = round(room.f_bavail * room.f_frsize / 1e9, 1)
    return list(found.values())


def certificates(patterns: list[str]) -> list[Found]:
    """Days that certificates have left; of a file with several the one that ends first counts."""
    # Patterns are absolute, which Path.glob refuses.
    paths = sorted({path for one in patterns for path in glob.glob(one)})  # noqa: PTH207
    return [{"path": path, "days": told(_days, path)} for path in paths]


def _days(path: str) -> float:
    blocks = CERTIFICATE.findall(Path(path).read_text(encoding="utf-8", errors="replace"))
    if not blocks:
        raise ValueError("no certificate in it")
    ends = [run(["openssl", "x509", "-noout", "-enddate"], block) for block in blocks]
    seconds = [ssl.cert_time_to_seconds(end.strip().partition("=")[2]) for end in ends]
    return round((min(seconds) - time.time()) / 86400, 2)


def systemd() -> bool:
    """Whether the host runs systemd."""
    return Path("/run/systemd/system").exists()


def services(wanted: list[str], supervisor: str) -> list[Found]:
    """State of each service, under systemd or, where there is none, under supervisor."""
    if not systemd():
        return _supervised(wanted, supervisor)
    found = []
    for name in wanted:
        unit = name if re.search(r"\.(service|timer)$", name) else f"{name}.service"
        shown = run(
            ["systemctl", "show", "--property=LoadState,ActiveState,UnitFileState,Result", unit]
        )
        is_so = dict(line.split("=", 1) for line in shown.splitlines())
        missing = is_so.get("LoadState") == "not-found"
        state = "not installed" if missing else is_so.get("ActiveState", "unknown")
        why = is_so.get("Result", "success")
        enabled = is_so.get("UnitFileState", "") not in {"", "disabled", "masked", "masked-runtime"}
        found.append(
            {
                "name": unit,
                "running": state == "active",
                "enabled": enabled,
                "state": state if why == "success" else f"{state} ({why})",
            }
        )
    return found


def _supervised(wanted: list[str], folder: str) -> list[Found]:
    if not Path(folder, "venv").exists():
        raise OSError(f"there is no systemd, and no supervisor in {folder}")
    control = ["-m", "supervisor.supervisorctl", "-c", f"{folder}/supervisord.conf"]
    # Its exit code is not 0 where any program does not run.
    done = subprocess.run(
        [f"{folder}/venv/bin/python", *control, "status"],
        capture_output=True,
        text=True,
        timeout=3 * SECONDS,
        check=False,
    )
    states = dict(line.split()[:2] for line in done.stdout.splitlines() if len(line.split()) > 1)
    found = []
    for name in wanted:
        state = states.get(name, "unknown to supervisor")
        found.append({"name": name, "running": state == "RUNNING", "enabled": True, "state": state})
    return found


def failed() -> list[str]:
    """Units of systemd that failed."""
    if not systemd():
        return []
    listed = run(["systemctl", "list-units", "--state=failed", "--plain", "--no-legend"])
    return [line.split()[0] for line in listed.splitlines() if line.strip()]


def cluster(name: str) -> Found:
    """Version, port and folder of a cluster of Debian's PostgreSQL; the newest of this name."""
    rows = [line.split() for line in run(["pg_lsclusters", "--no-header"]).splitlines()]
    own = sorted((row for row in rows if row[1] == name), key=lambda row: int(row[0].split(".")[0]))
    if not own:
        raise OSError(f"there is no cluster {name}")
    version, _, port, _, _, folder = own[-1][:6]
    return {"major": version, "port": port, "folder": folder}


def _service_of(cluster: str, major: str) -> str:
    return f"postgresql@{major}-{cluster}.service" if systemd() else f"postgresql-{cluster}"


def database(where: Found, name: str) -> Found:
    """Return what the database tells its superuser of itself, its roles and its archive."""
    as_postgres = ["runuser", "-u", "postgres", "--", "env", f"PGCONNECT_TIMEOUT={SECONDS}"]
    ask = ["psql", "--no-psqlrc", "--no-password", "--no-align", "--tuples-only", "--quiet"]
    where_to = ["--host=/var/run/postgresql", f"--port={where['port']}", f"--dbname={name}"]
    said = run([*as_postgres, *ask, "--set=ON_ERROR_STOP=1", *where_to], DATABASE_SQL)
    answer: Found = json.loads(said)
    return answer


def backups(path: str) -> Found:
    """Return the report of the last runs."""
    try:
        answer: Found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return answer


def session(wanted: Found, inside: str) -> Found:
    """Return what an account reaches with its own settings; its Python has the drivers."""
    # The newest, where a pattern names several.
    pythons = sorted(glob.glob(wanted["python"]), key=lambda path: Path(path).lstat().st_mtime)  # noqa: PTH207
    if not pythons:
        raise OSError(f"there is no {wanted['python']}")
    settings = {key: wanted.get(key, "") for key in ("settings", "duty", "storage")}
    variables = [f"{key}={value}" for key, value in wanted.get("environment", {}).items()]
    command = ["runuser", "-u", wanted["account"], "--", "env", *variables, pythons[-1], "-I"]
    answer: Found = json.loads(run([*command, "-c", inside], json.dumps(settings), 6 * SECONDS))
    return answer


def schema(wanted: Found) -> Found:
    """Migrations that are pending, as the release's own command says."""
    command = ["runuser", "-u", wanted["account"], "--", wanted["command"], "--json"]
    # A refusal is an answer, too.
    done = subprocess.run(
        [*command, "--config", wanted["settings"], "schema", "status"],
        input="{}",
        capture_output=True,
        text=True,
        timeout=3 * SECONDS,
        check=False,
        cwd="/",
    )
    if not done.stdout:
        raise OSError(done.stderr.strip() or "no answer")
    answer = json.loads(done.stdout)
    if not answer["ok"]:
        return {"error": answer["error"]["message"]}
    return {"pending": answer["result"]["pending"]}


def page(wanted: Found) -> Found:
    """Status and version that a web address answers with; the certificate is checked."""
    parts = urlsplit(wanted["url"])
    port = parts.port or (443 if parts.scheme == "https" else 80)
    line = socket.create_connection((wanted.get("address") or parts.hostname, port), SECONDS)
    with line:
        if parts.scheme == "https":
            checked = ssl.create_default_context(cafile=wanted.get("ca") or None)
            line = checked.wrap_socket(line, server_hostname=parts.hostname)
        asking = http.client.HTTPConnection(str(parts.hostname), port, timeout=SECONDS)
        asking.sock = line
        asking.request("GET", parts.path or "/", headers={"Host": parts.netloc})
        answer = asking.getresponse()
        body = answer.read(100_000)
    try:
        version = json.loads(body).get("version")
    except (ValueError, AttributeError):
        version = None
    return {"status": answer.status, "version": version}


def peer(wanted: Found) -> Found:
    """Whether a peer of the cluster takes this host's certificate, and shows one itself."""
    checked = ssl.create_default_context(cafile=wanted["ca"])
    checked.load_cert_chain(wanted["certificate"], wanted["key"])
    # The cluster's own programs check the authority, not the name.
    checked.check_hostname = False
    with socket.create_connection((wanted["address"], wanted["port"]), SECONDS) as plain:
        line = checked.wrap_socket(plain)
        # Who refuses a certificate says so only afterwards; who takes it begins to talk.
        if not line.recv(1):
            raise OSError("it hung up")
    return {"version": line.version()}


def examine(wanted: Found) -> Found:
    """Take all looks that are wanted."""
    found: Found = {"system": told(system), "failed": told(failed)}
    folders, running = list(wanted["folders"]), list(wanted["services"])
    if wanted["database"]:
        own = told(cluster, wanted["database"]["cluster"])
        found["database"] = own
        if "error" not in own:
            folders.append(own["folder"])
            running.append(_service_of(wanted["database"]["cluster"], own["major"]))
            found["database"] = own | told(database, own, wanted["database"]["name"])
    if wanted["release_path"]:
        found["release"] = told(release, wanted["release_path"])
    if wanted["schema"]:
        found["schema"] = told(schema, wanted["schema"])
    found["disks"] = told(disks, folders)
    found["certificates"] = told(certificates, wanted["certificates"])
    found["services"] = told(services, running, wanted["supervisor"])
    found["backups"] = {kind: told(backups, path) for kind, path in wanted["backups"].items()}
    found["sessions"] = [told(session, one, wanted["inside"]) for one in wanted["sessions"]]
    for one, had in zip(wanted["sessions"], found["sessions"], strict=True):
        if one.get("serves") and "listen" in had:
            had["page"] = told(page, {"url": f"http://{had['listen']}{one['serves']}"})
    found["peers"] = [told(peer, one) for one in wanted["peers"]]
    found["pages"] = [told(page, one) for one in wanted["pages"]]
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(examine(json.load(sys.stdin))) + "\n")
