"""What a cluster's workers are and may do, as JSON: ``workers.py <scheduler> <how many> [grow]``.

With ``grow``, one of them is told to take more memory than it may.
"""

import json
import sys

from distributed import Client
from distributed.security import Security

PKI = "/opt/tests/pki/"
SECURITY = Security(
    require_encryption=True,
    tls_ca_file=PKI + "ca.pem",
    tls_client_cert=PKI + "host.pem",
    tls_client_key=PKI + "host.key",
)


def facts(folders):
    import os
    import pwd
    import tempfile
    from pathlib import Path

    def written(folder):
        try:
            with tempfile.TemporaryFile(dir=folder):
                return "ok"
        except OSError as error:
            return os.strerror(error.errno)

    return {
        "pid": os.getpid(),
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "write": {folder: written(folder) for folder in folders},
        "compiled code": os.environ["NUMBA_CACHE_DIR"],
        "new privileges": "NoNewPrivs:\t0" in Path("/proc/self/status").read_text(),
    }


def grow():
    """Take memory, a little at a time, until somebody objects."""
    import time

    taken = []
    for _ in range(60):
        taken.append(b"x" * 25_000_000)
        time.sleep(0.1)
    return len(taken)


with Client(sys.argv[1], security=SECURITY, timeout=10) as client:
    client.wait_for_workers(int(sys.argv[2]), timeout=2)
    if "grow" in sys.argv:
        try:
            print(client.submit(grow, retries=0).result(timeout=60))
        except Exception as error:
            print(type(error).__name__)
    else:
        told = client.run(facts, ["/var/lib/cbm/dask", "/var/lib/cbm", "/tmp"])
        workers = client.scheduler_info(n_workers=-1)["workers"]
        print(
            json.dumps(
                [
                    {
                        "port": int(address.rpartition(":")[2]),
                        "nanny": int(worker["nanny"].rpartition(":")[2]),
                        "threads": worker["nthreads"],
                        "memory": worker["memory_limit"],
                        "folder": worker["local_directory"],
                        **told[address],
                    }
                    for address, worker in workers.items()
                ]
            )
        )
