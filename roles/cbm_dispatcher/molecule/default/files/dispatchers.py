"""Prints the names of the clients of the scheduler at ``dispatchers.py <address>``, one a line."""

import sys

from distributed import Client
from distributed.security import Security

PKI = "/etc/cbm/pki/"
SECURITY = Security(
    require_encryption=True,
    tls_ca_file=PKI + "ca.pem",
    tls_client_cert=PKI + "host.pem",
    tls_client_key=PKI + "host.key",
)

with Client(sys.argv[1], security=SECURITY, timeout=10, name="test") as client:
    for name in client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.clients)):
        print(name)
