"""The Docker engine that runs test hosts.

The one that is there, or one of our own with its own folder, socket and process.
"""

import os
import subprocess
import time
from pathlib import Path

FOLDER = Path(os.environ.get("CBM_HOSTS_FOLDER", "/var/tmp/cbm-test-hosts"))
SOCKET = FOLDER / "docker.sock"
PID = FOLDER / "dockerd.pid"
HERE = Path(__file__).parent


def docker(
    *words: str, check: bool = True, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `docker` at the engine, with text as its input; the process with its output."""
    return subprocess.run(
        ["docker", *words],
        check=check,
        text=True,
        capture_output=True,
        env=environment(),
        input=text,
    )


def environment() -> dict[str, str]:
    """The environment in which `docker` finds the engine."""
    if "DOCKER_HOST" in os.environ or not answers(SOCKET):
        return dict(os.environ)
    return {**os.environ, "DOCKER_HOST": f"unix://{SOCKET}"}


def answers(socket: Path | None = None) -> bool:
    """Whether an engine answers, at this socket or where the environment says."""
    if socket is not None and not socket.exists():
        return False
    where = ["--host", f"unix://{socket}"] if socket else []
    try:
        return subprocess.run(["docker", *where, "info"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def start() -> bool:
    """Makes sure that an engine answers; True where it was started here (`stop` stops it).

    Raises RuntimeError with the end of its log if an own one does not come up.
    """
    if answers() or answers(SOCKET):
        return False
    if os.geteuid() != 0:
        raise RuntimeError(
            "No Docker engine answers. Start one that you may use, or run this as root: then one"
            f" is started in {FOLDER} (CBM_HOSTS_FOLDER)."
        )
    FOLDER.mkdir(parents=True, exist_ok=True)
    log = (FOLDER / "dockerd.log").open("ab")
    subprocess.Popen(
        [
            "dockerd",
            f"--data-root={FOLDER / 'data'}",
            f"--exec-root={FOLDER / 'exec'}",
            f"--host=unix://{SOCKET}",
            f"--pidfile={PID}",
            f"--add-runtime=boundcaps={HERE / 'runc-boundcaps'}",
            "--default-runtime=boundcaps",
        ],
        stdout=log,
        stderr=log,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    for _ in range(120):
        if answers(SOCKET):
            return True
        time.sleep(0.5)
    raise RuntimeError(
        f"dockerd does not answer: {log.name} ends with {Path(log.name).read_text()[-2000:]}"
    )


def stop() -> None:
    """Stops the engine that `start` started, with its hosts."""
    try:
        pid = int(PID.read_text())
    except FileNotFoundError:
        return
    os.kill(pid, 15)
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.2)
