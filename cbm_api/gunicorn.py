"""How gunicorn serves the API: ``gunicorn -c python:cbm_api.gunicorn cbm_api.wsgi:app``.

All comes from ``[api]`` of the settings. https://docs.gunicorn.org/en/stable/settings.html
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

from cbm_core import db
from cbm_core.db import one_row
from cbm_core.errors import CbmError
from cbm_core.remote import storage
from cbm_core.settings import Settings, load

_METRICS = "PROMETHEUS_MULTIPROC_DIR"


def _settings() -> Settings:
    try:
        return load()
    except CbmError as error:
        raise SystemExit(f"cbm_api: {error}") from None


_loaded = _settings()
_api = _loaded.api
bind = _api.listen
workers = _api.workers
threads = _api.threads
worker_class = "cbm_api.worker.Worker"
# Memory that a library lost is given back now and then, not by all workers at once.
max_requests = 50_000
max_requests_jitter = 10_000
# Requests in work are ended before a worker stops; bulk answers take their time.
graceful_timeout = 60
keepalive = 15
# Ids of parcels stand in addresses: who read what is in the database, not in log files.
accesslog = None
errorlog = "-"
limit_request_line = 8190
proc_name = "cbm_api"
control_socket_disable = True


def on_starting(server: Any) -> None:
    """Refuse what cannot work."""
    try:
        require_sessions(_loaded)
    except CbmError as error:
        if error.code == "too_many_sessions":
            raise SystemExit(f"cbm_api: {error}") from None
        # It may come later: requests are answered 503 until then.
        server.log.warning("%s", error)


def when_ready(server: Any) -> None:
    """Prepare the folder in which workers count; from here on gunicorn ends by on_exit."""
    server.metrics_folder = tempfile.mkdtemp(prefix="cbm-api-metrics-")
    os.environ[_METRICS] = server.metrics_folder


def post_worker_init(worker: Any) -> None:
    """Make what signs addresses of the object storage, which takes the first reader half a second.

    Wrong settings of the storage are told now, and again to whoever asks for an image.
    """
    if not (_loaded.storage.endpoint or _loaded.storage.credentials_file):
        return
    try:
        storage.check(_loaded.storage)
        storage.link("s3://any/name", _loaded.storage)
    except CbmError as error:
        worker.log.warning("%s", error)


def child_exit(server: Any, worker: Any) -> None:
    """Forget what a worker that is no more has in work."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:
    """Remove the folder of the counts."""
    shutil.rmtree(server.metrics_folder, ignore_errors=True)


def require_sessions(settings: Settings) -> None:
    """Check that the workers' database sessions stay below what the server allows.

    Raises:
        CbmError: ``too_many_sessions``; others as :func:`cbm_core.db.connect`.

    """
    wanted = settings.api.workers * settings.api.pool_size
    with db.session(settings) as connection, db.transaction(connection) as cursor:
        cursor.execute(
            """SELECT least(
                 current_setting('max_connections')::integer
                   - current_setting('superuser_reserved_connections')::integer,
                 (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),
                 (SELECT nullif(datconnlimit, -1) FROM pg_database
                  WHERE datname = current_database()))"""
        )
        (most,) = one_row(cursor)
    if wanted > most:
        raise CbmError(
            "too_many_sessions",
            f"{settings.api.workers} workers with pool_size {settings.api.pool_size} want {wanted}"
            f" database sessions; the server allows {most}.",
            "Lower workers or pool_size in [api], or raise the server's max_connections.",
        )
