"""Say whether nginx runs with what is on disk: ``look.py HTTP_PORT HTTPS_PORT [NAME FILE ...]``.

Print, as a JSON list, what it does not: its configuration, known by the fingerprint in it that
nginx tells, and sites' certificates.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import sys
from contextlib import suppress
from pathlib import Path

CONFIGURATION = Path("/etc/nginx/nginx.conf")
PEM = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

plain, secure = map(int, sys.argv[1:3])
sites = dict(zip(sys.argv[3::2], sys.argv[4::2], strict=True))


def written() -> str | None:
    """Read the fingerprint in the configuration on disk."""
    found = re.search('^ *return 200 "([0-9a-f]{64})";$', CONFIGURATION.read_text(), re.MULTILINE)
    return found and found[1]


def told() -> str | None:
    """Ask nginx for its own."""
    with suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", plain, timeout=10)
        connection.request("GET", "/cbm-proxy/fingerprint")
        return connection.getresponse().read().decode(errors="replace")
    return None


def stored(path: str) -> bytes | None:
    """Read the first certificate of a file."""
    with suppress(OSError):
        found = PEM.search(Path(path).read_text())
        return found and ssl.PEM_cert_to_DER_cert(found[0])
    return None


def shown(name: str) -> bytes | None:
    """Ask nginx for the certificate that it shows for a name."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", secure), 10) as connection,
        context.wrap_socket(connection, server_hostname=name) as asked,
    ):
        return asked.getpeercert(binary_form=True)
    return None


behind = ["the configuration"] if told() != written() else []
behind += [f"the certificate of {name}" for name in sites if shown(name) != stored(sites[name])]
print(json.dumps(behind))
