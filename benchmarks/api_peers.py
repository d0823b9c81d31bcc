"""pygeoapi and tipg on the benchmark's database, served as their documentation says.

Both get a plain table with its own key and spatial index, without row-level security, so that
nothing of this software's schema slows them: ``country.parcels``, read by the superuser.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import requests
import yaml

from benchmarks.http_load import Target
from cbm_core.settings import Settings
from tests.postgis import SUPERUSER, Server, free_port

WORKERS, THREADS = 2, 8
READY_SECONDS = 90
# Parcels in an answer, at most.
LIMIT = 1000
_TABLE = """
CREATE SCHEMA country;
CREATE TABLE country.parcels AS
SELECT p.id::integer AS id, p.pid, p.crop_code, p.crop_name, p.valid_from::date AS valid_from,
  g.area_m2, g.geom
FROM cbm.parcel p JOIN cbm.parcel_geometry g ON g.id = p.geometry_id ORDER BY p.id;
ALTER TABLE country.parcels ADD PRIMARY KEY (id);
CREATE INDEX ON country.parcels USING gist (geom);
"""


def prepare(server: Server, settings: Settings) -> None:
    """Make the table that both serve."""
    with closing(server.superuser(settings.database["dbname"])) as connection:
        connection.cursor().execute(_TABLE)


@contextmanager
def pygeoapi(settings: Settings, folder: Path) -> Iterator[Target]:
    """Serve by pygeoapi's Flask application under gunicorn with threads."""
    port = free_port()
    config, document = folder / "pygeoapi.yml", folder / "pygeoapi-openapi.yml"
    config.write_text(yaml.safe_dump(_pygeoapi_config(settings, port)))
    environment = {"PYGEOAPI_CONFIG": str(config), "PYGEOAPI_OPENAPI": str(document)}
    subprocess.run(
        [sys.executable, "-c", "from pygeoapi import cli; cli()", "openapi", "generate",
         str(config), "--output-file", str(document)],
        env={**os.environ, **environment}, check=True, capture_output=True, cwd=folder,
    )  # fmt: skip
    command = [
        sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", str(WORKERS),
        "--threads", str(THREADS), "--worker-class", "gthread", "--log-level", "warning",
        "--keep-alive", "15", "pygeoapi.flask_app:APP",
    ]  # fmt: skip
    boxes = f"/collections/parcels/items?bbox={{box}}&limit={LIMIT}&f=json"
    target = Target(f"pygeoapi {version('pygeoapi')}", port, boxes=boxes)
    with _served(command, environment, folder / "pygeoapi.log", f"http://127.0.0.1:{port}/"):
        yield target


@contextmanager
def tipg(settings: Settings, folder: Path) -> Iterator[Target]:
    """Serve by tipg's application under uvicorn."""
    port = free_port()
    parameters = settings.database
    environment = {
        "POSTGRES_USER": SUPERUSER,
        "POSTGRES_PASS": "",
        "POSTGRES_HOST": "127.0.0.1",
        "POSTGRES_PORT": parameters["port"],
        "POSTGRES_DBNAME": parameters["dbname"],
        "TIPG_DB_SCHEMAS": json.dumps(["country"]),
    }
    command = [
        sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), "--workers",
        str(WORKERS), "--no-access-log", "--log-level", "warning", "tipg.main:app",
    ]  # fmt: skip
    boxes = f"/collections/country.parcels/items?bbox={{box}}&limit={LIMIT}&f=geojson"
    target = Target(f"tipg {version('tipg')}", port, boxes=boxes)
    with _served(command, environment, folder / "tipg.log", f"http://127.0.0.1:{port}/healthz"):
        yield target


def _pygeoapi_config(settings: Settings, port: int) -> dict[str, Any]:
    """Return the least that it asks for; https://docs.pygeoapi.io/en/latest/configuration.html."""
    text = {"title": "Parcels", "description": "Parcels", "keywords": ["parcels"]}
    url = f"http://127.0.0.1:{port}"
    return {
        "server": {
            "bind": {"host": "127.0.0.1", "port": port}, "url": url,
            "mimetype": "application/json; charset=UTF-8", "encoding": "utf-8",
            "languages": ["en-US"],
            "limits": {"default_items": 10, "max_items": 10_000, "on_exceed": "throttle"},
            "map": {"url": f"{url}/none", "attribution": "none"},
        },
        "logging": {"level": "ERROR"},
        "metadata": {
            "identification": {
                **text, "keywords_type": "theme", "terms_of_service": url, "url": url,
            },
            "license": {"name": "none", "url": url},
            "provider": {"name": "none", "url": url},
            "contact": {"name": "none", "email": "nobody@example.org", "url": url},
        },
        "resources": {
            "parcels": {
                "type": "collection", **text, "links": [],
                "extents": {"spatial": {
                    "bbox": [-180, -90, 180, 90],
                    "crs": "http://www.opengis.net/def/crs/OGC/1.3/CRS84",
                }},
                "providers": [_pygeoapi_provider(settings)],
            }
        },
    }  # fmt: skip


def _pygeoapi_provider(settings: Settings) -> dict[str, Any]:
    parameters = settings.database
    data = {
        "host": "127.0.0.1",
        "port": int(parameters["port"]),
        "dbname": parameters["dbname"],
        "user": SUPERUSER,
        "password": "none",
        "search_path": ["country", "public"],
    }
    return {
        "type": "feature", "name": "PostgreSQL", "data": data, "id_field": "id",
        "table": "parcels", "geom_field": "geom",
    }  # fmt: skip


@contextmanager
def _served(
    command: list[str], environment: dict[str, str], log: Path, ready: str
) -> Iterator[None]:
    with log.open("w") as out:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=out, stderr=out, cwd=log.parent
        )
    try:
        until = time.monotonic() + READY_SECONDS
        while not _answers(ready):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{command[2]} does not serve: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=20).ok
    except requests.RequestException:
        return False
