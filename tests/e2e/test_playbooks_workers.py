"""Scheduler, dispatcher and worker processes as services of a guest."""

from __future__ import annotations

import socket
import ssl
import subprocess

import pytest

from tests.e2e.deployment import Deployment
from tests.e2e.stories import Changes

SERVICES = {"cbm-dask-scheduler", "cbm-dask-worker", "cbm-dispatcher"}


def test_services_run(changes: Changes) -> None:
    assert not SERVICES & set(changes.before.services)
    assert set(changes.after.services) >= SERVICES


def test_keys_are_secret(changes: Changes, deployment: Deployment) -> None:
    assert changes.run.code == 0
    for key in (deployment.root / "pki/host.key", deployment.folder / "authority/ca.key"):
        assert key.stat().st_mode & 0o077 == 0, key
    unprivileged = subprocess.run(
        ["cat", deployment.root / "pki/host.key"], user="nobody", capture_output=True, check=False
    )
    assert unprivileged.returncode != 0


def test_the_scheduler_speaks_tls_to_those_it_knows(
    changes: Changes, deployment: Deployment
) -> None:
    port = changes.given["cbm_dask_scheduler_port"]
    pki = deployment.root / "pki"

    def heard(known: bool) -> bytes:
        context = ssl.create_default_context(cafile=pki / "ca.pem")
        if known:
            context.load_cert_chain(pki / "host.pem", pki / "host.key")
        with (
            socket.create_connection(("127.0.0.1", port), 10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            return connection.recv(1)

    assert heard(known=True)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        heard(known=False)
