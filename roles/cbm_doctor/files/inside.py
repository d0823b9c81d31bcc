"""What an account reaches, run as that account by a Python that has the drivers.

Reads ``{"settings": path or "", "duty": "ingest" | "owner", "storage": bool}`` from standard input.
Without settings libpq's own environment says where the database is.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

SECONDS = 10


def settings_of(path: str) -> Any:
    """Return the settings of a service."""
    from cbm_core.settings import load

    return load(Path(path))


def database(keywords: dict[str, str]) -> dict[str, Any]:
    """Log in, and say as whom, and whether by TLS."""
    import psycopg2

    given = {"connect_timeout": str(SECONDS), "application_name": "cbm-doctor", **keywords}
    try:
        connection = psycopg2.connect(**given)
    except psycopg2.Error as error:
        return {"error": " ".join(str(error).split())}
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        (login,) = cursor.fetchone()
    local = connection.info.host.startswith("/")
    found = {"login": login, "local": local, "tls": connection.info.ssl_in_use}
    connection.close()
    return found


def storage(settings: Any) -> dict[str, Any]:
    """Ask the object storage for what is not there: it answers, and takes the keys, or not."""
    from cbm_core.errors import CbmError
    from cbm_core.remote.objects import RemoteObject
    from cbm_core.remote.storage import check
    from cbm_core.remote.web import Access, Patience

    patience = Patience(attempts=1, connect=SECONDS, silence=SECONDS)
    until = time.monotonic() + SECONDS
    access = Access(settings.storage, patience, until=until, proxied=True)
    found: dict[str, Any] = {"endpoint": settings.storage.endpoint}
    try:
        check(settings.storage)
        RemoteObject("s3://cbm-doctor/nothing", access)
    except CbmError as error:
        # Keys that it does not know, or a wrong signature, are told by other names than this.
        known = error.code == "raster_forbidden" and "AccessDenied" in error.message
        if error.code != "raster_missing" and not known:
            found["error"] = error.message
    return found


def main() -> None:
    """Say all of it as JSON."""
    given = json.load(sys.stdin)
    found: dict[str, Any] = {}
    keywords: dict[str, str] = {}
    if given["settings"]:
        settings = settings_of(given["settings"])
        keywords = settings.connection(given["duty"] or "ingest")
        found["listen"] = settings.api.listen
        if given["storage"]:
            found["storage"] = storage(settings)
    found["database"] = database(keywords)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
