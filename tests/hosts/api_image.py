"""The API's image for scenarios: `python -m tests.hosts.api_image FILE`; FILE (JSON) says where.

Built on the engine that runs the hosts, from their base image, and only if the sources changed.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.hosts import engine, images, machines

CHECKOUT = Path(__file__).parents[2]


def main() -> None:
    """Scenarios that run side by side build it once."""
    engine.FOLDER.mkdir(parents=True, exist_ok=True)
    # Debian's client builds without a further component.
    programs = f"/usr/bin:{os.environ['PATH']}"
    lock = (engine.FOLDER / "api_image.lock").open("w")
    with lock, tempfile.TemporaryDirectory() as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        words = [f"--build-arg=BASE={images.base('12')}", *secrets(Path(folder))]
        done = subprocess.run(
            [sys.executable, "playbooks/files/build_image.py", ".", "dist", *words],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            env=engine.environment() | {"BUILDER": "docker", "PATH": programs},
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    Path(sys.argv[1]).write_text(done.stdout)


def secrets(folder: Path) -> list[str]:
    """What leads pip and npm to the index of whoever runs the tests, as words for the builder."""
    authority = os.environ.get("CBM_HOSTS_CA_FILE") or os.environ.get("PIP_CERT")
    words = [f"--secret=id=ca,src={authority}"] if authority else []
    for path, text in machines.index().items():
        name = {"/etc/pip.conf": "pip", "/etc/npmrc": "npm"}[path]
        (folder / name).write_text(text.replace("/etc/cbm-test-ca.pem", "/run/secrets/ca"))
        words.append(f"--secret=id={name},src={folder / name}")
    return words


if __name__ == "__main__":
    main()
