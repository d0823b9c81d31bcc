"""What an operator relies on: the image answers, asks with a password, and can harm nothing."""

import io
import json
import time
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from cbm_api.app import create_app
from cbm_api.routes import bulk
from cbm_core import __version__
from tests.api.chips import image
from tests.api.conftest import basic
from tests.images.conftest import HARDENED, IMAGE, PASSWORD, SETTINGS, serving

pytestmark = pytest.mark.postgis

WRITABLE = """
import os
for folder, folders, files in os.walk("/"):
    if folder == "/":
        folders[:] = sorted(set(folders) - {"proc", "sys", "dev"})
    for path in [folder, *(os.path.join(folder, name) for name in files)]:
        if not os.path.islink(path) and os.access(path, os.W_OK):
            print(path)
"""
PROCESSES = """
import pathlib
for one in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        words = (one / "cmdline").read_text().split(chr(0))
        status = (one / "status").read_text()
    except OSError:  # it ended meanwhile
        continue
    users = sorted(set(status.split("Uid:")[1].split()[:4]))
    print(one.name, ",".join(users), status.split("CapEff:")[1].split()[0], *words[1:2] or ["-"])
"""


def test_it_answers_for_everybody(service):
    status, body, _ = service.get("/healthz")
    assert (status, json.loads(body)) == (200, {"status": "ok", "version": __version__})
    assert service.get("/readyz")[0] == 200
    assert service.get("/v1")[0] == 200


def test_it_answers_a_login_and_nobody_else(service):
    assert service.get("/v1/collections")[0] == 401
    status, body, _ = service.get("/v1/collections", "anna")
    assert status == 200
    assert [one["id"] for one in json.loads(body)["collections"]] == ["tt_2024"]


def test_libraries_that_were_made_smaller_still_work(service):
    item = "/v1/collections/tt_2024/items/p0"
    status, body, kind = service.get(f"{item}/signatures?f=parquet", "anna")
    assert (status, kind) == (200, "application/vnd.apache.parquet")
    assert pq.read_table(io.BytesIO(body)).num_rows == 3
    status, body, kind = service.get(f"{item}/chips.png", "anna")
    assert (status, kind) == (200, "image/png")
    assert len(set(image(body).reshape(-1).tolist())) > 20
    status, body, _ = service.get(f"{item}?crs=http://www.opengis.net/def/crs/EPSG/0/32632", "anna")
    assert status == 200, body


def test_the_viewer_is_in_it(service):
    status, body, kind = service.get("/viewer/")
    assert status == 200
    assert kind.startswith("text/html")
    assert b"viewer.js" in body
    assert len(service.get("/viewer/viewer.js")[1]) > 100_000


def test_a_wrong_password_is_no_login(engine, installation):
    with serving(engine, *installation.options("wrong")) as refused:
        assert refused.get("/healthz")[0] == 200
        assert refused.get("/readyz")[0] == 503


def test_its_health_is_known(engine, service):
    assert _health(engine, service.container) == "healthy"
    impatient = ("--health-interval", "1s", "--health-retries", "1", "--health-start-period", "0s")
    with engine.running(*impatient, command=("sleep", "60")) as silent:
        assert _health(engine, silent) == "unhealthy"


def _health(engine, container: str) -> str:
    """What the image's own check found, once it has looked."""
    for _ in range(100):
        # Where no systemd is, podman looks only when told to.
        if engine.program == "podman":
            engine("healthcheck", "run", container, check=False)
        state = engine("inspect", "--format", "{{.State.Health.Status}}", container).stdout.strip()
        if state != "starting":
            break
        time.sleep(0.2)
    return state


def test_gunicorn_is_the_first_process_and_nobody_is_root(engine, service):
    found = engine("exec", service.container, "python", "-c", PROCESSES).stdout.splitlines()
    rows = [line.split(maxsplit=3) for line in found]
    assert {(row[1], int(row[2], 16)) for row in rows} == {("10001", 0)}
    # The image's check of its health may be there, too.
    served = [row[0] for row in rows if row[3].endswith("/gunicorn")]
    assert len(served) == 1 + 2
    assert "1" in served


def test_its_files_are_not_its_own(engine):
    found = engine.inside("python", "-c", WRITABLE)
    assert found.returncode == 0, found.stderr
    assert set(found.stdout.split()) <= {"/tmp", "/var/tmp", "/run/lock", "/var/lib/cbm/api-jobs"}


def test_it_holds_no_tools_and_no_secrets(engine):
    tools = "cc gcc ld make pip pip3 npm node git curl wget".split()
    script = f"import shutil; print([one for one in {tools} if shutil.which(one)])"
    assert engine.inside("python", "-c", script).stdout.strip() == "[]"
    assert engine.inside("python", "-m", "pip").returncode == 1
    assert engine.inside("sh", "-c", "ls /run/secrets /etc/pip.conf /root/.npmrc").stdout == ""
    (about,) = json.loads(engine("image", "inspect", IMAGE).stdout)
    names = {one.partition("=")[0] for one in about["Config"]["Env"]}
    assert names <= {"PATH", "CBM_CONFIG"}
    labels = about["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "BSD-3-Clause"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "The configuration file /etc/cbm/api.toml does not exist."),
        ('[api]\nworkers = "two"\n', "/etc/cbm/api.toml: workers in [api] is 'two'"),
        ("[databse]\n", "/etc/cbm/api.toml has keys that mean nothing here: databse."),
    ],
)
def test_wrong_settings_are_refused_in_one_line(engine, tmp_path, text, said):
    mounted = []
    if text is not None:
        (tmp_path / "api.toml").write_text(text)
        mounted = ["--volume", f"{tmp_path / 'api.toml'}:{SETTINGS}:ro"]
    done = engine("run", "--rm", "--no-healthcheck", *HARDENED, *mounted, IMAGE, check=False)
    assert done.returncode == 1
    (line,) = (done.stdout + done.stderr).splitlines()
    assert line.startswith(f"cbm_api: {said}")


def test_it_stops_when_told_to(engine, installation):
    with serving(engine, *installation.options()) as told:
        engine("stop", "--time", "60", told.container)
        state = json.loads(engine("inspect", told.container).stdout)[0]["State"]
        # 137 would be a process that had to be killed.
        assert (state["Running"], state["ExitCode"]) == (False, 0)


def test_the_same_image_works_on_jobs(engine, service, installation, monkeypatch):
    monkeypatch.setattr(bulk, "MOST_PARCELS", 1)
    database = {**installation.settings.database, "password": PASSWORD}
    app = create_app(replace(installation.settings, database=database))
    asked = app.test_client().post(
        "/v1/collections/tt_2024/signatures", json={}, headers=basic("anna")
    )
    app.extensions["cbm_database"].close()
    assert asked.status_code == 202, asked.json
    where = asked.headers["Location"]
    command = ("python", "-m", "cbm_api.jobs")
    with engine.running(*installation.options(), "--no-healthcheck", command=command) as worker:
        for _ in range(300):
            job = json.loads(service.get(where, "anna")[1])
            if job["state"] in {"done", "failed"}:
                break
            time.sleep(0.1)
        assert job["state"] == "done", engine("logs", worker).stderr
    status, body, _ = service.get(f"{where}/result", "anna")
    assert status == 200
    assert pq.read_table(io.BytesIO(body)).num_rows == 6


def test_the_command_line_is_in_it(engine, installation, tmp_path):
    lines = installation.settings.connection("owner") | {"user": "cbm_admin"}
    text = "".join(f'{key} = "{value}"\n' for key, value in lines.items())
    (tmp_path / "cbm.toml").write_text(f"[database]\n{text}")
    mounts = {tmp_path / "cbm.toml": "/etc/cbm/cbm.toml", installation.socket: installation.socket}
    volumes = [word for at, to in mounts.items() for word in ("--volume", f"{at}:{to}:ro")]
    options = ("run", "--rm", *HARDENED, *volumes, IMAGE, "cbm", "--config", "/etc/cbm/cbm.toml")
    assert "anna" in engine(*options, "user", "list").stdout
    assert engine(*options, "schema", "migrate", "--check").returncode == 0
