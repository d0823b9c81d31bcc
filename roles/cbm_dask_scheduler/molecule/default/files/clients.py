"""Says, as JSON, how the scheduler at ``clients.py <host> <port>`` receives whom."""

import json
import socket
import ssl
import sys

from distributed import Client
from distributed.security import Security

PKI = "/etc/cbm/pki/"
HOST, PORT = sys.argv[1], int(sys.argv[2])


def heard(certificate=None, key=None, *, tls=True):
    """`ok` if the scheduler begins to speak, else the kind of refusal."""
    try:
        connection = socket.create_connection((HOST, PORT), 5)
        if tls:
            context = ssl.create_default_context(cafile=PKI + "ca.pem")
            if certificate:
                context.load_cert_chain(certificate, key)
            connection = context.wrap_socket(connection, server_hostname=HOST)
        with connection:
            return "ok" if connection.recv(1) else "closed"
    except ssl.SSLError as error:
        return error.reason
    except OSError as error:
        return type(error).__name__


def member():
    """Whom a client with the host's certificate meets."""
    security = Security(
        require_encryption=True,
        tls_ca_file=PKI + "ca.pem",
        tls_client_cert=PKI + "host.pem",
        tls_client_key=PKI + "host.key",
    )
    with Client(f"tls://{HOST}:{PORT}", security=security, timeout=10) as client:
        return client.scheduler_info()["type"]


print(
    json.dumps(
        {
            "member": member(),
            "known": heard(PKI + "host.pem", PKI + "host.key"),
            "stranger": heard("/var/lib/cbm/stranger.pem", "/var/lib/cbm/stranger.key"),
            "nobody": heard(),
            "plain": heard(tls=False),
        }
    )
)
