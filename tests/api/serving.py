"""A real gunicorn on loopback, configured as an installation is."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import requests

from cbm_core.settings import Settings
from tests.postgis import free_port

ROOT = Path(__file__).resolve().parents[2]
UNLIMITED = {"requests_per_minute": 1_000_000, "requests_at_once": 1_000_000}


@dataclass
class Served:
    """A running service."""

    url: str
    port: int
    process: subprocess.Popen
    log: Path


@contextmanager
def gunicorn(settings: Settings, folder: Path, patch: str = "", **api) -> Iterator[Served]:
    """Serve a database; ``api`` are settings, ``patch`` is Python that every process runs."""
    port = free_port()
    given = {
        "database": {**settings.database, "user": "cbm_web"},
        "api": {"listen": f"127.0.0.1:{port}", **UNLIMITED, **api},
    }
    given["storage"] = {k: v for k, v in asdict(settings.storage).items() if v is not None}
    lines = []
    for section, values in given.items():
        lines += [
            f"[{section}]",
            *(f"{key} = {json.dumps(value)}" for key, value in values.items()),
        ]
    (folder / "cbm.toml").write_text("\n".join([*lines, ""]))
    (folder / "conf.py").write_text(f"from cbm_api.gunicorn import *\n{patch}\n")
    log = folder / "gunicorn.log"
    command = [sys.executable, "-m", "gunicorn", "-c", str(folder / "conf.py"), "cbm_api.wsgi:app"]
    environment = {
        **os.environ, "CBM_CONFIG": str(folder / "cbm.toml"), "PYTHONPATH": str(ROOT),
        # Who is killed leaves files behind.
        "TMPDIR": str(folder),
    }  # fmt: skip
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        served = Served(f"http://127.0.0.1:{port}", port, process, log)
        _wait(served)
        yield served
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(served: Served) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert served.process.poll() is None, served.log.read_text()
        try:
            if requests.get(f"{served.url}/healthz", timeout=5).ok:
                return
        except requests.RequestException:
            time.sleep(0.1)
    raise AssertionError(served.log.read_text())
