"""A real PostgreSQL with PostGIS for one test session, and a fresh database per test that asks."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from cbm_core.settings import Settings

SUPERUSER = "postgres"


@dataclass(frozen=True)
class Server:
    """A running throw-away cluster: ``directory`` holds its socket."""

    directory: Path
    port: int
    bindir: Path

    def parameters(self, dbname: str, user: str) -> dict[str, str]:
        return {
            "host": str(self.directory),
            "port": str(self.port),
            "dbname": dbname,
            "user": user,
        }

    def superuser(self, dbname: str = "postgres"):
        connection = psycopg2.connect(**self.parameters(dbname, SUPERUSER))
        connection.autocommit = True
        return connection

    def restart(self) -> None:
        """Restart as after a crash: sessions break, what was not committed is gone."""
        control = [str(self.bindir / "pg_ctl"), "-D", str(self.directory / "data"), "-w"]
        _as_postgres([*control, "-m", "immediate", "-l", str(self.directory / "log"), "restart"])

    def settings(self, dbname: str) -> Settings:
        """Settings as an installation has them: two logins without superuser rights."""
        return Settings(
            database=self.parameters(dbname, "cbm_extractor"), owner={"user": "cbm_admin"}
        )


def bindir() -> Path | None:
    """The newest server binaries Debian has installed, None without any."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    return found[-1] if found else None


def _as_postgres(command: list[str]) -> None:
    # The server refuses to run as root.
    prefix = ["runuser", "-u", SUPERUSER, "--"] if os.geteuid() == 0 else []
    subprocess.run([*prefix, *command], check=True, capture_output=True, cwd="/")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# Nothing of a test's cluster outlives it.
CARELESS = (
    "-c fsync=off -c full_page_writes=off -c synchronous_commit=off -c shared_buffers=128MB "
    "-c max_connections=60"
)
# Hundreds of short sessions: each need not load PostGIS.
HURRIED = f"{CARELESS} -c shared_preload_libraries=postgis-3"
_DISK, _MEMORY = Path("/tmp"), Path("/dev/shm")


def in_memory() -> Path:
    """A place in memory for a cluster that is not to be measured, where there is enough of it."""
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 8 << 30
    return _MEMORY if roomy else _DISK


@contextmanager
def server(tuning: str = CARELESS, place: Path = _DISK) -> Iterator[Server]:
    """Start a cluster in a temporary folder and stop it at the end."""
    binaries = bindir()
    assert binaries, "PostgreSQL's server binaries are not installed"
    directory = Path(tempfile.mkdtemp(prefix="cbm-pg-", dir=place))
    if os.geteuid() == 0:
        account = pwd.getpwnam(SUPERUSER)
        os.chown(directory, account.pw_uid, account.pw_gid)
        directory.chmod(0o755)
    data = directory / "data"
    _as_postgres(
        [
            str(binaries / "initdb"),
            "-D",
            str(data),
            "-U",
            SUPERUSER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]
    )
    port = free_port()
    options = (
        f"-c listen_addresses='' -c unix_socket_directories={directory} -c port={port} "
        f"-c timezone=UTC {tuning}"
    )
    control = [str(binaries / "pg_ctl"), "-D", str(data), "-w"]
    try:
        _as_postgres([*control, "-o", options, "-l", str(directory / "log"), "start"])
        running = Server(directory, port, binaries)
        _make_template(running)
        yield running
    finally:
        _as_postgres([*control, "-m", "immediate", "stop"])
        shutil.rmtree(directory, ignore_errors=True)


def _make_template(running: Server) -> None:
    from cbm_core.migrations import verbs

    with closing(running.superuser()) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE cbm_empty")
    with closing(running.superuser("cbm_empty")) as connection, connection.cursor() as cursor:
        cursor.execute(verbs.bootstrap_sql())
        cursor.execute("CREATE ROLE cbm_admin LOGIN IN ROLE cbm_owner")
        cursor.execute("CREATE ROLE cbm_extractor LOGIN IN ROLE cbm_ingest")
        cursor.execute("CREATE ROLE cbm_analyst LOGIN IN ROLE cbm_read")
        cursor.execute("CREATE ROLE cbm_web LOGIN IN ROLE cbm_api")


def new_database(running: Server, template: str) -> str:
    """Copy a template database under a new name and return the name."""
    name = f"test_{time.monotonic_ns()}"
    with closing(running.superuser()) as connection, connection.cursor() as cursor:
        # Hundreds are made: the other strategy takes three times the work.
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        cursor.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
        cursor.execute(
            f"GRANT CONNECT, TEMPORARY ON DATABASE {name}"
            " TO cbm_owner, cbm_ingest, cbm_api, cbm_read"
        )
    return name


def drop_database(running: Server, name: str) -> None:
    with closing(running.superuser()) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextmanager
def copied(running: Server, template: str) -> Iterator[Settings]:
    """A copy of a template database for the length of the block."""
    name = new_database(running, template)
    yield running.settings(name)
    drop_database(running, name)
