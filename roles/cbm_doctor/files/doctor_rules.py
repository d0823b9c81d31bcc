"""What is right and what is not: from what a host should be and what was found there to findings.

Pure: no file, no clock but the one that is handed in, no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Found = dict[str, Any]

OK, WARNING, PROBLEM = 0, 1, 2
SUPPORTED = ("debian 12", "debian 13")
# Made by the schema's bootstrap; nobody logs in as one of them.
GROUPS = ("cbm_owner", "cbm_ingest", "cbm_api", "cbm_read")
BACKUPS = ("full", "diff", "incr")
SITE = "Run playbooks/site.yml"


@dataclass(frozen=True)
class Finding:
    """One look's outcome. Of what is fine only ``found`` is shown."""

    level: int
    host: str
    area: str
    found: str
    expected: str = ""
    do: str = ""


@dataclass(frozen=True)
class Case:
    """A host: what it should be, what was found, and when something is too much or too old."""

    host: str
    wanted: Found
    found: Found
    limits: dict[str, float]
    now: float

    def fine(self, area: str, found: str) -> Finding:
        """Say that it is as it should be."""
        return Finding(OK, self.host, area, found)

    def wrong(self, level: int, area: str, expected: str, found: str, do: str) -> Finding:
        """Say what is not."""
        return Finding(level, self.host, area, found, expected, do)


def of_host(case: Case) -> list[Finding]:
    """All findings of a host."""
    if "found" not in case.found:
        said = " ".join(str(case.found.get("error", "no answer")).split())
        said = said.removeprefix("Task failed: ")
        do = "See that it runs and that its key is known: ansible -m ping; then ask again."
        return [case.wrong(PROBLEM, "host", "to be reached, and to be root there", said, do)]
    case = Case(case.host, case.wanted, case.found["found"], case.limits, case.now)
    rules = (system, release, schema, services, disks, certificates, database, backups)
    return [finding for rule in (*rules, sessions, reach) for finding in rule(case)]


def broken(case: Case, area: str, expected: str, found: Any, do: str) -> Iterator[Finding]:
    """Say that a look itself failed, where it did."""
    if isinstance(found, dict) and "error" in found:
        yield case.wrong(PROBLEM, area, expected, found["error"], do)


def system(case: Case) -> Iterator[Finding]:
    """Operating system, restart that is pending, units that failed."""
    about = case.found["system"]
    yield from broken(case, "system", "to be looked at", about, "Look at it by hand.")
    if "error" not in about:
        if about["id"] in SUPPORTED:
            yield case.fine("system", about["name"])
        else:
            do = "This software is not tested there; see README.md, Supported."
            yield case.wrong(WARNING, "system", "Debian 12 or 13", about["name"], do)
        if about["reboot"] is not None:
            what = ", ".join(about["reboot"]) or "something"
            do = "Restart the host in a quiet hour; nothing does so by itself."
            yield case.wrong(
                WARNING, "updates", "no restart pending", f"{what} waits for a restart", do
            )
    yield from broken(case, "units", "to be listed", case.found["failed"], "systemctl --failed")
    listed = case.found["services"] if isinstance(case.found["services"], list) else []
    if isinstance(case.found["failed"], list):
        told = {one["name"] for one in listed if not one["running"]}
        for unit in sorted(set(case.found["failed"]) - told):
            do = f"journalctl -u {unit} says why; systemctl reset-failed {unit} once it is mended."
            yield case.wrong(WARNING, "units", "no unit to have failed", unit, do)


def release(case: Case) -> Iterator[Finding]:
    """Installed release."""
    if "release" not in case.found:
        return
    about = case.found["release"]
    path = case.wanted["release_path"]
    yield from broken(case, "release", f"a release at {path}", about, f"{SITE}.")
    if "error" not in about:
        yield case.fine("release", f"{about['name']}")


def schema(case: Case) -> Iterator[Finding]:
    """Migrations that the release brings."""
    if "schema" not in case.found:
        return
    about = case.found["schema"]
    do = "Run playbooks/migrate.yml."
    yield from broken(
        case, "schema", "its state to be told", about, "Mend release and database first."
    )
    if about.get("pending"):
        waiting = ", ".join(about["pending"])
        yield case.wrong(PROBLEM, "schema", "all migrations applied", f"pending: {waiting}", do)
    elif "error" not in about:
        yield case.fine("schema", "up to date")


def services(case: Case) -> Iterator[Finding]:
    """Services that have to run."""
    about = case.found["services"]
    yield from broken(case, "services", "their state to be told", about, "systemctl by hand.")
    if not isinstance(about, list):
        return
    down = [one for one in about if not one["running"]]
    loose = [one for one in about if one["running"] and not one["enabled"]]
    if down:
        names = ", ".join(one["name"] for one in down)
        states = ", ".join(f"{one['name']}: {one['state']}" for one in down)
        do = f"journalctl -u {down[0]['name']} says why. {SITE}: it starts what has to run."
        yield case.wrong(PROBLEM, "services", f"running: {names}", states, do)
    if loose:
        names = ", ".join(one["name"] for one in loose)
        do = f"systemctl enable {loose[0]['name']}, or run playbooks/site.yml."
        yield case.wrong(WARNING, "services", f"started at boot: {names}", "not enabled", do)
    good = sum(one["running"] and one["enabled"] for one in about)
    if good:
        yield case.fine("services", f"{good} run")


def disks(case: Case) -> Iterator[Finding]:
    """Room on file systems."""
    about = case.found["disks"]
    yield from broken(case, "disk", "its room to be told", about, "df by hand.")
    if not isinstance(about, list):
        return
    least = case.limits["disk_percent"]
    for one in about:
        where = ", ".join(one["folders"])
        found = f"{where}: {one['percent']:g} % ({one['free_gb']:g} GB) free"
        if one["percent"] >= 2 * least:
            yield case.fine("disk", found)
            continue
        level = PROBLEM if one["percent"] < least else WARNING
        do = "Free or add space; a database without any stops. cbm db size says what takes it."
        yield case.wrong(level, "disk", f"{2 * least:g} % free or more", found, do)


def certificates(case: Case) -> Iterator[Finding]:
    """Days that certificates have left."""
    about = case.found["certificates"]
    yield from broken(case, "certificates", "to be read", about, "openssl x509 by hand.")
    if not isinstance(about, list):
        return
    least = case.limits["certificate_days"]
    expected = f"{least:g} days left or more"
    left = []
    for one in about:
        if isinstance(one["days"], dict):
            said = f"{one['path']}: {one['days']['error']}"
            do = "Mend the file, or remove it."
            yield case.wrong(WARNING, "certificates", "a certificate", said, do)
        elif one["days"] < least:
            level = PROBLEM if one["days"] < 1 else WARNING
            do = f"{SITE}: it renews those of the internal authority. Others: docs/certificates.md."
            said = f"{one['path']}: {one['days']:.1f} days"
            yield case.wrong(level, "certificates", expected, said, do)
        else:
            left.append(one["days"])
    if left:
        yield case.fine("certificates", f"{len(left)}, {min(left):.0f} days left or more")


def database(case: Case) -> Iterator[Finding]:
    """Version, rights and archive of the database."""
    if "database" not in case.found:
        return
    about = case.found["database"]
    do = "Its service, and its log in /var/log/postgresql, say why."
    yield from broken(case, "database", "to answer its superuser", about, do)
    if "error" in about:
        return
    versions = f"PostgreSQL {about['version']}, PostGIS {about['postgis']}"
    if about["postgis"] is None:
        yield case.wrong(PROBLEM, "database", "the extension postgis", versions, f"{SITE}.")
    else:
        yield case.fine("database", versions)
    yield from grants(case)
    if "database" in case.wanted["backups"]:
        yield from archive(case)


def grants(case: Case) -> Iterator[Finding]:
    """Who is a member of what, and who may more than that."""
    wanted = {one["name"]: one["group"] for one in case.wanted["database"]["logins"]}
    roles = {one["name"]: one for one in case.found["database"]["roles"]}
    wrong = 0
    for name in sorted({*wanted, *GROUPS, *roles} - {"postgres"}):
        for level, expected, found, do in _role(name, wanted, roles.get(name)):
            wrong += 1
            yield case.wrong(level, "grants", expected, found, do)
    if not wrong:
        yield case.fine("grants", f"{len(wanted)} logins as they should be")


def _role(
    name: str, wanted: dict[str, str], role: Found | None
) -> Iterator[tuple[int, str, str, str]]:
    declared, group = name in wanted, name in GROUPS
    if role is None:
        yield PROBLEM, f"the role {name}", "none of this name", f"{SITE}."
        return
    more = [*(["SUPERUSER"] if role["superuser"] else []), *role["powers"]]
    if more:
        expected = f"{name} without any power over the server"
        yield PROBLEM, expected, ", ".join(more), f"ALTER ROLE {name} NO{' NO'.join(more)}"
    if role["login"] != declared and (declared or group):
        expected = f"{name} {'to log in' if declared else 'not to log in'}"
        do = f"{SITE}." if declared else f"ALTER ROLE {name} NOLOGIN"
        yield PROBLEM, expected, f"{'LOGIN' if role['login'] else 'NOLOGIN'}", do
    elif role["login"] and not declared:
        do = f"Declare it in the inventory, or ALTER ROLE {name} NOLOGIN."
        groups = ", ".join(role["groups"]) or "no group"
        yield WARNING, "no login but those declared", f"{name}, member of {groups}", do
    own = [wanted[name]] if declared else []
    if (declared or group) and sorted(role["groups"]) != own:
        expected = f"{name} a member of {', '.join(own) or 'nothing'} alone"
        found = f"member of {', '.join(sorted(role['groups'])) or 'nothing'}"
        excess = ", ".join(sorted(set(role["groups"]) - set(own)))
        yield PROBLEM, expected, found, f"REVOKE {excess} FROM {name}" if excess else f"{SITE}."


def archive(case: Case) -> Iterator[Finding]:
    """Whether the write-ahead log reaches the backups."""
    about = case.found["database"]["archive"]
    expected = "the write-ahead log in the archive"
    do = "The log in /var/log/postgresql says why archive_command fails; docs/backup.md."
    if about["mode"] == "off":
        do = f"{SITE}: it sets archive_mode, and restarts the database."
        yield case.wrong(PROBLEM, "backup", expected, "archive_mode is off", do)
    elif (about["failed"] or 0) > (about["archived"] or 0):
        said = f"failed {age(case.now - about['failed'])} ago, and did not succeed since"
        yield case.wrong(PROBLEM, "backup", expected, said, do)
    else:
        yield case.fine("archive", "no failure")


def backups(case: Case) -> Iterator[Finding]:
    """How old the newest backups and the newest drill are."""
    for kind, about in case.found["backups"].items():
        do = "Mend the file, or wait for the next run."
        yield from broken(case, "backup", "its report", about, do)
        if "error" in about:
            continue
        if kind == "homes":
            unit = "cbm-backup-homes.service"
            run = f"systemctl start {unit}; journalctl -u {unit}"
            yield from _aged(case, "homes' backup", _of(about, "homes"), WARNING, run)
            continue
        run = "Run playbooks/backup.yml; journalctl -u 'cbm-backup@*' says why it failed."
        yield from _aged(case, "backup", _of(about, *BACKUPS), PROBLEM, run)
        run = "Run playbooks/backup.yml -e backup_drill=yes."
        yield from _aged(case, "drill", _of(about, "drill"), WARNING, run)


def _of(about: Found, *kinds: str) -> Found:
    return {kind: about[kind] for kind in kinds if kind in about}


def _aged(case: Case, what: str, runs: Found, when_old: int, do: str) -> Iterator[Finding]:
    drill = what == "drill"
    hours = case.limits["drill_days"] * 24 if drill else case.limits["backup_hours"]
    good = {kind: one["last_success"] for kind, one in runs.items() if "last_success" in one}
    newest = max(runs.values(), key=lambda one: one["ended"], default={"good": True})
    expected = f"a good {what} within {age(hours * 3600)}"
    ages = ", ".join(
        f"{kind + ' ' if what == 'backup' else ''}{age(case.now - last)} old"
        for kind, last in good.items()
    )
    if not newest["good"]:
        level = PROBLEM if drill else WARNING
        said = " ".join(str(newest.get("error", "no reason")).split())[:300]
        yield case.wrong(level, what, "the last one good", said, do)
    if not good:
        yield case.wrong(when_old, what, expected, "none so far", do)
    elif case.now - max(good.values()) > hours * 3600:
        yield case.wrong(when_old, what, expected, ages, do)
    elif newest["good"]:
        yield case.fine(what, ages)


def sessions(case: Case) -> Iterator[Finding]:
    """Database, storage and API, as accounts reach them with their own settings."""
    for wanted, about in zip(case.wanted["sessions"], case.found["sessions"], strict=True):
        login = wanted.get("login")
        who = f"{wanted['account']} as {login}" if login else wanted["account"]
        area = "database access"
        do = f"{SITE}; on the host of the database, /var/log/postgresql says why it refused."
        expected = f"{who} to reach the database"
        had = about if "error" in about else about["database"]
        yield from broken(case, area, expected, had, do)
        if "error" not in had:
            if not (had["tls"] or had["local"]):
                mend = "sslmode = verify-full in its settings; playbooks/site.yml writes them."
                yield case.wrong(PROBLEM, area, f"{who} by TLS", "a connection in the clear", mend)
            elif login and had["login"] != login:
                mend = f"{SITE}: it writes the settings."
                yield case.wrong(PROBLEM, area, expected, f"logged in as {had['login']}", mend)
            else:
                how = "its socket" if had["local"] else "TLS"
                yield case.fine(area, f"{who} by {how}")
        yield from _storage(case, about.get("storage"))
        if "page" in about:
            yield from _page(case, f"http://{about['listen']}{wanted['serves']}", about["page"])


def _storage(case: Case, about: Found | None) -> Iterator[Finding]:
    if about is None:
        return
    where = about["endpoint"] or "AWS"
    if "error" not in about:
        yield case.fine("object storage", f"{where} answers")
        return
    do = "Credentials, endpoint, network and clock: docs/storage.md, What errors mean."
    expected = f"{where} to answer, and to take the keys"
    yield case.wrong(PROBLEM, "object storage", expected, about["error"], do)


def reach(case: Case) -> Iterator[Finding]:
    """Web addresses and peers."""
    for wanted, about in zip(case.wanted["peers"], case.found["peers"], strict=True):
        what = f"{wanted['name']} ({wanted['address']}:{wanted['port']})"
        do = f"Its service and its firewall; certificates of one authority on both. {SITE}."
        expected = f"{what} to take this host's certificate"
        yield from broken(case, "peers", expected, about, do)
        if "error" not in about:
            yield case.fine("peers", f"{what} by {about['version']}")
    for wanted, about in zip(case.wanted["pages"], case.found["pages"], strict=True):
        at = f" at {wanted['address']}" if "address" in wanted else ""
        yield from _page(case, wanted["url"], about, at)


def _page(case: Case, url: str, about: Found, at: str = "") -> Iterator[Finding]:
    do = "journalctl -u nginx -u cbm-api -u cbm-hub; does its name lead to the right host?"
    expected = f"{url} to answer{at}"
    yield from broken(case, "web", expected, about, do)
    if "error" in about:
        return
    running = (case.found.get("release") or {}).get("name", "").rpartition("-")[0]
    if about["status"] != 200:
        yield case.wrong(PROBLEM, "web", expected, f"status {about['status']}", do)
    elif about["version"] and running and about["version"] != running:
        mend = "systemctl restart cbm-api cbm-api-jobs."
        found = f"release {about['version']}"
        yield case.wrong(WARNING, "web", f"{url} to be release {running}", found, mend)
    else:
        yield case.fine("web", f"{url} answers{at}")


def agree(cases: list[Case]) -> list[Finding]:
    """Whether hosts have one release."""
    having: dict[str, list[str]] = {}
    for case in cases:
        about = case.found.get("found", {}).get("release", {})
        if "checksum" in about:
            version = about["name"].rpartition("-")[0]
            having.setdefault(f"{version} ({about['checksum']})", []).append(case.host)
    if len(having) < 2:
        return []
    said = "; ".join(f"{name} on {', '.join(hosts)}" for name, hosts in sorted(having.items()))
    do = "Run playbooks/upgrade.yml from the checkout that all are to have."
    return [Finding(PROBLEM, "all", "release", said, "one release on all hosts", do)]


def age(seconds: float) -> str:
    """Say a duration in the largest unit of which it has two."""
    for unit, length in (("days", 2 * 86400), ("hours", 2 * 3600), ("minutes", 2 * 60)):
        if seconds >= length:
            return f"{seconds / length * 2:.0f} {unit}"
    return f"{max(seconds, 0):.0f} seconds"
