"""The API's image, run by docker or podman as docs/images.md says, asking a real database."""

import itertools
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import sql as psql

from cbm_core import __version__
from cbm_core.settings import Settings
from tests import postgis
from tests.api import chips
from tests.api.conftest import add_user, basic
from tests.api.stored import add_row, numbers
from tests.factories import add_product, sql

IMAGE = f"cbm-api:{__version__}"
SETTINGS, PASSWORD_FILE, JOBS = (
    "/etc/cbm/api.toml",
    "/run/secrets/database",
    "/var/lib/cbm/api-jobs",
)
PASSWORD = "s3cret:with\\signs"
# What the docs advise; nothing of the image is writable then.
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL",
            "--security-opt", "no-new-privileges")  # fmt: skip


@dataclass(frozen=True)
class Engine:
    """What runs containers: docker and podman take the same commands."""

    program: str

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self.program, *arguments], capture_output=True, text=True, timeout=120
        )
        assert not check or done.returncode == 0, (arguments, done.stderr)
        return done

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a container of its own, without settings, to its end."""
        return self("run", "--rm", IMAGE, *command, check=False)

    @contextmanager
    def running(self, *options: str, command: tuple[str, ...] = ()) -> Iterator[str]:
        """Yield the name of a container in the background."""
        name = self("run", "--detach", *options, IMAGE, *command).stdout.strip()
        try:
            yield name
        finally:
            self("rm", "--force", "--volumes", name)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The engine that has the image."""
    for one in map(Engine, ("docker", "podman")):
        try:
            if one("image", "inspect", IMAGE, check=False).returncode == 0:
                return one
        except FileNotFoundError:
            continue
    pytest.skip(f"neither docker nor podman has {IMAGE}: `make images` builds it")


@dataclass(frozen=True)
class Installation:
    """A database with a login by password, and what a container needs to use it."""

    settings: Settings
    folder: Path
    socket: str
    images: Path

    def options(self, password_file: str = "password") -> list[str]:
        """Mount settings, password, images and the database's socket."""
        mounts = {
            self.folder / "api.toml": SETTINGS,
            self.folder / password_file: PASSWORD_FILE,
            self.folder / "jobs": JOBS,
            self.images: self.images,
            self.socket: self.socket,
        }
        kept = [f"{at}:{to}" + ("" if to == JOBS else ":ro") for at, to in mounts.items()]
        return [*HARDENED, *(word for one in kept for word in ("--volume", one))]


@pytest.fixture(scope="module")
def installation(engine, pg_server, migrated_template, tmp_path_factory) -> Iterator[Installation]:
    """The dataset tt_2024 with two parcels, three scenes and their statistics; the user anna."""
    name = postgis.new_database(pg_server, migrated_template)
    settings = pg_server.settings(name)
    images, folder = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("etc")
    images.chmod(0o755)
    world = chips.world(settings, images)
    scenes = [chips.scene(world, day) for day in range(3)]
    geometries = [row[0] for row in sql(settings, "SELECT id FROM cbm.parcel_geometry ORDER BY id")]
    product = add_product(settings)
    for scene, geometry in itertools.product(scenes, geometries):
        add_row(settings, world.dataset, geometry, scene, product, numbers(100))
    add_user(settings, "anna", world.dataset)
    _require_password(pg_server, name, PASSWORD)
    escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    _write(folder, settings, {"password": escaped, "wrong": "another"})
    # The files belong to whom the image runs as; only root can give them away, in a container too.
    owner = ("run", "--rm", "--user", "0", "--volume", f"{folder}:/given", IMAGE)
    engine(*owner, "chown", "-R", "10001:10001", "/given/password", "/given/wrong", "/given/jobs")
    web = replace(settings, database={**settings.database, "user": "cbm_web"})
    yield Installation(web, folder, str(pg_server.directory), images)
    engine(*owner, "rm", "-rf", "/given/jobs")
    postgis.drop_database(pg_server, name)


def _require_password(server: postgis.Server, dbname: str, password: str) -> None:
    """Let the API's login into a database by password alone."""
    rules = server.directory / "data" / "pg_hba.conf"
    rules.write_text(f"local {dbname} cbm_web scram-sha-256\n{rules.read_text()}")
    with closing(server.superuser()) as connection, connection.cursor() as cursor:
        cursor.execute(psql.SQL("ALTER ROLE cbm_web PASSWORD {}").format(psql.Literal(password)))
        cursor.execute("SELECT pg_reload_conf()")
    parameters = {**server.parameters(dbname, "cbm_web"), "password": "no"}
    for _ in range(100):
        try:
            psycopg2.connect(**parameters).close()
        except psycopg2.OperationalError:
            return
        time.sleep(0.1)
    raise AssertionError("the database asks for no password")


def _write(folder: Path, settings: Settings, passwords: dict[str, str]) -> None:
    (folder / "jobs").mkdir()
    lines = {**settings.database, "user": "cbm_web", "passfile": PASSWORD_FILE}
    entries = "".join(f'{key} = "{value}"\n' for key, value in lines.items())
    # An address that serves a service on a host: a container is asked from outside.
    text = f'[database]\n{entries}[api]\nlisten = "127.0.0.1:9"\nworkers = 2\npool_size = 2\n'
    (folder / "api.toml").write_text(text)
    for name, password in passwords.items():
        (folder / name).write_text(f"*:*:*:cbm_web:{password}\n")
        (folder / name).chmod(0o600)


@dataclass(frozen=True)
class Service:
    """A container that serves, and how to ask it."""

    container: str
    address: str

    def get(self, path: str, user: str | None = None) -> tuple[int, bytes, str]:
        """Return status, body and kind of content."""
        request = urllib.request.Request(self.address + path, headers=basic(user) if user else {})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.read(), response.headers["Content-Type"]
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers["Content-Type"]


@contextmanager
def serving(engine: Engine, *options: str) -> Iterator[Service]:
    """Start the API on a free port and wait until its process answers."""
    with engine.running("--publish", "127.0.0.1::8080", *options) as container:
        port = engine("port", container, "8080/tcp").stdout.split()[0].rpartition(":")[2]
        service = Service(container, f"http://127.0.0.1:{port}")
        for _ in range(300):
            try:
                service.get("/healthz")
                break
            except OSError:
                time.sleep(0.1)
        else:
            raise AssertionError(engine("logs", container).stderr)
        yield service


@pytest.fixture(scope="module")
def service(engine, installation) -> Iterator[Service]:
    """The API, as an installation runs it."""
    with serving(engine, *installation.options(), "--health-interval", "1s") as running:
        yield running
