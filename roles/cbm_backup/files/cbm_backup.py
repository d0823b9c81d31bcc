#!/usr/bin/python3
"""Backups of a PostgreSQL cluster with pgBackRest: take them, prove that they come back, report.

    cbm-backup --settings FILE backup full|diff|incr  as postgres: a backup; notes what it holds
    cbm-backup --settings FILE drill                  as postgres: restore the newest, compare
    cbm-backup --settings FILE count                  as postgres: the database's rows, checksums
    cbm-backup --settings FILE report KIND            as root: systemd saw a run end, however
    cbm-backup --settings FILE status                 the last reports

The note makes the comparison exact while the database goes on: for a moment no transaction writes
(locks that give way at once), a restore point is put into the WAL and a snapshot is taken. Rows are
counted in the snapshot; the drill recovers to the restore point. Needs only Debian's own Python.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cbm_backup_status import BACKUPS, differences, ended, metrics, publish, read, write

# Somebody writes nearly always; a moment without comes soon.
NOTE_ATTEMPTS = 120
# What a restore takes beside the data: WAL, and room for the server to work.
SPARE_BYTES = 1 << 30


class BackupError(Exception):
    """What was expected, what was found, what to do."""


@dataclass(frozen=True)
class Settings:
    """What the role wrote; secrets are in pgBackRest's own file. Of folders: the first two."""

    state: str
    metrics: str
    stanza: str = ""
    database: str = ""
    schemas: tuple[str, ...] = ()
    checksum_tables: tuple[str, ...] = ()
    port: int = 5432
    socket: str = ""
    binaries: str = ""
    scratch: str = ""
    scratch_port: int = 0

    @property
    def folder(self) -> Path:
        """Where notes, results and the status are."""
        return Path(self.state)


@dataclass(frozen=True)
class Server:
    """A PostgreSQL to ask, through its socket."""

    socket: str
    port: int
    database: str

    def psql(self, sql: str, variables: dict[str, str] | None = None) -> list[str]:
        """Run a script and return its lines."""
        command = ["psql", "--no-psqlrc", "--no-align", "--tuples-only", "--quiet"]
        command += ["--set=ON_ERROR_STOP=1", f"--host={self.socket}", f"--port={self.port}"]
        command += [f"--set={name}={value}" for name, value in (variables or {}).items()]
        return run([*command, f"--dbname={self.database}"], stdin=sql).splitlines()


# The tables are locked before the snapshot is taken, so that whoever wrote has ended, and freed
# right after it. The wait is shorter than a writer's own deadlock_timeout (1 s): nobody but this
# session ever gives up. Its own is short, so that it sends an autovacuum away.
NOTE_SQL = r"""
SET search_path = '';
SELECT coalesce(
         'LOCK TABLE ' || string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid::regclass::text)
         || ' IN SHARE MODE', 'SET LOCAL lock_timeout = 0') AS lock  -- Without a table: nothing.
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
    AND c.relkind IN ('r', 'p') AND NOT c.relispartition \gset
BEGIN ISOLATION LEVEL REPEATABLE READ;
SET LOCAL deadlock_timeout = '100ms';
SAVEPOINT quiet;
SET LOCAL statement_timeout = '900ms';
:lock;
SELECT pg_create_restore_point(:'point') AS lsn \gset
ROLLBACK TO SAVEPOINT quiet;
"""
# A row's hash does not depend on where it lies, and the sum not on the order.
COUNT_SQL = r"""
SET LOCAL search_path = '';
WITH summed AS (
  SELECT to_regclass(name) AS oid FROM unnest(string_to_array(:'checksum', ',')) AS name
  UNION
  SELECT relid FROM unnest(string_to_array(:'checksum', ',')) AS name,
                    pg_partition_tree(to_regclass(name))
)
SELECT format('SELECT %L, count(*), %s FROM ONLY %s AS t', c.oid::regclass,
         CASE WHEN c.oid IN (SELECT oid FROM summed)
              THEN 'coalesce(sum(hash_record_extended(t.*, 0)::numeric), 0)::text'
              ELSE quote_literal('') END, c.oid::regclass)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = ANY (string_to_array(:'schemas', ',')) AND c.relkind = 'r'
    AND c.relpersistence = 'p' ORDER BY c.oid::regclass::text \gexec
"""


def run(command: list[str], stdin: str | None = None) -> str:
    """Run a program; its errors become ours."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, cwd="/"
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-4000:]
        raise BackupError(f"{Path(command[0]).name} ended with {done.returncode}: {said}")
    return done.stdout


def pgbackrest(settings: Settings, command: str, *options: str) -> str:
    """Run one of pgBackRest's commands; the configuration is where it looks for it."""
    return run(["pgbackrest", f"--stanza={settings.stanza}", *options, command])


def backups(settings: Settings) -> list[dict[str, Any]]:
    """Return what the repository holds, the oldest first."""
    stanza = json.loads(pgbackrest(settings, "info", "--output=json"))[0]
    if stanza["status"]["code"] not in {0, 2}:
        said = stanza["repo"][0]["status"]["message"]
        raise BackupError(f"The repository cannot be read: {said}")
    return list(stanza["backup"])


def counted(lines: list[str]) -> dict[str, list[Any]]:
    """Rows and checksum per table, from psql's lines."""
    split = [line.rsplit("|", 2) for line in lines]
    return {name: [int(rows), checksum] for name, rows, checksum in split}


def digest(tables: dict[str, list[Any]]) -> str:
    """One value for all tables; travels with the backup."""
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def live(settings: Settings) -> Server:
    """Return the cluster that is backed up."""
    return Server(settings.socket, settings.port, settings.database)


def count(settings: Settings, server: Server) -> dict[str, list[Any]]:
    """Count a database, all tables in one snapshot."""
    return counted(
        server.psql(f"BEGIN ISOLATION LEVEL REPEATABLE READ;{COUNT_SQL}COMMIT;", _names(settings))
    )


def _names(settings: Settings) -> dict[str, str]:
    return {
        "schemas": ",".join(settings.schemas),
        "checksum": ",".join(settings.checksum_tables),
    }


def note(settings: Settings, label: str) -> dict[str, Any]:
    """Note what the database holds at a restore point right behind a backup."""
    for attempt in range(1, NOTE_ATTEMPTS + 1):
        point = f"cbm-{label}-{attempt}"
        script = f"{NOTE_SQL}{COUNT_SQL}COMMIT;"
        try:
            lines = live(settings).psql(script, {**_names(settings), "point": point})
        except BackupError as error:
            if "statement timeout" not in str(error) or attempt == NOTE_ATTEMPTS:
                raise
            time.sleep(1)
        else:
            break
    tables = counted(lines)
    noted = {"label": label, "point": point, "digest": digest(tables), "tables": tables}
    write(settings.folder / "notes" / f"{label}.json", noted)
    marks = [f"--annotation=cbm-{key}={noted[key]}" for key in ("point", "digest")]
    pgbackrest(settings, "annotate", f"--set={label}", *marks)
    # Waits until the WAL up to here, and so the restore point, is in the repository.
    pgbackrest(settings, "check")
    return noted


def backup(settings: Settings, kind: str) -> dict[str, Any]:
    """Take a backup, note what it holds, forget the notes of what expired."""
    began = time.time()
    pgbackrest(settings, "backup", f"--type={kind}")
    kept = backups(settings)
    newest = kept[-1]
    noted = note(settings, newest["label"])
    for old in (settings.folder / "notes").glob("*.json"):
        if old.stem not in {one["label"] for one in kept}:
            old.unlink()
    return {
        "label": newest["label"],
        "type": newest["type"],
        "database_bytes": newest["info"]["size"],
        "stored_bytes": newest["info"]["repository"]["delta"],
        "rows": sum(rows for rows, _ in noted["tables"].values()),
        "seconds": round(time.time() - began, 1),
    }


def drill(settings: Settings) -> dict[str, Any]:
    """Restore the newest noted backup into a scratch cluster and compare it with its note."""
    began = time.time()
    noted = [one for one in backups(settings) if "cbm-point" in (one.get("annotation") or {})]
    if not noted:
        raise BackupError(
            "Expected a backup whose contents were noted, found none: start "
            "cbm-backup@full.service first."
        )
    newest = noted[-1]
    room(Path(settings.scratch).parent, newest["info"]["size"])
    with scratch(settings, newest) as server:
        found = count(settings, server)
    compare(settings, newest, found)
    return {
        "label": newest["label"],
        "tables": len(found),
        "rows": sum(rows for rows, _ in found.values()),
        "seconds": round(time.time() - began, 1),
    }


def room(folder: Path, size: int) -> None:
    """Refuse to fill a disk."""
    free = shutil.disk_usage(folder).free
    if free < size + SPARE_BYTES:
        raise BackupError(
            f"{folder} has {free >> 20} MiB free; the restored database takes {size >> 20} MiB and "
            f"{SPARE_BYTES >> 20} MiB to work. Make room, or put the scratch folder "
            "(cbm_backup_drill_folder) on another disk."
        )


@contextmanager
def scratch(settings: Settings, chosen: dict[str, Any]) -> Iterator[Server]:
    """Give a cluster restored to a backup's restore point: on a socket of its own, for a while."""
    folder = Path(settings.scratch)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True, mode=0o700)
    control = [f"{settings.binaries}/pg_ctl", f"--pgdata={folder}/data"]
    try:
        pgbackrest(
            settings,
            "restore",
            f"--pg1-path={folder}/data",
            f"--set={chosen['label']}",
            "--type=name",
            f"--target={chosen['annotation']['cbm-point']}",
            "--target-action=promote",
            "--archive-mode=off",
            f"--tablespace-map-all={folder}/tablespaces",
        )
        for name, line in _CONFIG.items():
            (folder / "data" / name).write_text(line, encoding="utf-8")
        options = {**_OPTIONS, "unix_socket_directories": str(folder)}
        given = " ".join(f"-c {name}='{value}'" for name, value in options.items())
        start = [
            f"--log={folder}/log",
            f"--options=-p {settings.scratch_port} {given}",
            "--no-wait",
        ]
        run([*control, *start, "start"])
        server = Server(str(folder), settings.scratch_port, settings.database)
        recovered(server, folder)
        yield server
    finally:
        with suppress(BackupError):
            run([*control, "--mode=immediate", "stop"])
        shutil.rmtree(folder, ignore_errors=True)


def recovered(server: Server, folder: Path) -> None:
    """Wait until a server has recovered; systemd's timeout ends what takes too long."""
    while True:
        # It takes the file away when it ends, as it does when it cannot reach its target.
        time.sleep(1)
        running = (folder / "data/postmaster.pid").exists()
        try:
            server.psql("SELECT 1")
        except BackupError as error:
            if running:
                continue
            log = (folder / "log").read_text(errors="replace")[-3000:]
            raise BackupError(f"The restored cluster does not recover: {log}") from error
        return


# Options beat what the backed up cluster may have stored by ALTER SYSTEM.
_OPTIONS = {
    "listen_addresses": "",
    "archive_mode": "off",
    "hot_standby": "off",
    "shared_preload_libraries": "",
    "shared_buffers": "128MB",
    "ssl": "off",
    "fsync": "off",
}
_CONFIG = {
    "postgresql.conf": "",
    "pg_hba.conf": "local all all peer\n",
    "pg_ident.conf": "",
}


def compare(settings: Settings, chosen: dict[str, Any], found: dict[str, list[Any]]) -> None:
    """Fail with what differs.

    The repository's digest tells whether; which tables, the note on the host that made the backup.
    """
    if digest(found) == chosen["annotation"]["cbm-digest"]:
        return
    path = settings.folder / "notes" / f"{chosen['label']}.json"
    lines = differences(read(path).get("tables", {}), found)
    raise BackupError(
        f"Backup {chosen['label']}, restored, is not what was backed up:\n"
        + "\n".join(lines or ["this host has no note that tells the tables"])
    )


def perform(settings: Settings, kind: str) -> None:
    """Do a backup or a drill, one at a time, and leave its result for the report."""
    result = settings.folder / "results" / f"{kind}.json"
    with (settings.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            done = drill(settings) if kind == "drill" else backup(settings, kind)
        except BackupError as error:
            write(result, {"error": str(error)})
            raise
    write(result, done)
    sys.stdout.write(json.dumps(done) + "\n")


def report(settings: Settings, kind: str, outcome: str) -> None:
    """Put a run's end into status and metrics; `outcome` is systemd's $SERVICE_RESULT."""
    path = settings.folder / "status.json"
    result = settings.folder / "results" / f"{kind}.json"
    status = ended(read(path), kind, outcome, read(result), time.time())
    result.unlink(missing_ok=True)
    write(path, status, mode=0o644)
    if settings.metrics:
        target = Path(settings.metrics)
        if target.parent.is_dir():
            publish(target, metrics(status), 0o644)
        else:
            sys.stderr.write(f"{target.parent} does not exist, so no metrics are written.\n")


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="cbm-backup")
    parser.add_argument("--settings", required=True, type=Path)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("backup").add_argument("kind", choices=BACKUPS)
    verbs.add_parser("report").add_argument("kind", choices=[*BACKUPS, "drill", "homes"])
    for verb in ("drill", "count", "status"):
        verbs.add_parser(verb)
    return parser.parse_args()


def main() -> int:
    """Do what the command line says."""
    given = arguments()
    settings = Settings(**read(given.settings))
    try:
        if given.verb in {"backup", "drill"}:
            perform(settings, getattr(given, "kind", "drill"))
        elif given.verb == "report":
            report(settings, given.kind, os.environ.get("SERVICE_RESULT", "unknown"))
        elif given.verb == "count":
            tables = count(settings, live(settings))
            sys.stdout.write(json.dumps({"digest": digest(tables), "tables": tables}) + "\n")
        else:
            sys.stdout.write(json.dumps(read(settings.folder / "status.json")) + "\n")
    except BackupError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
