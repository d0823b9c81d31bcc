"""What a killed supervisor left running is ended, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "roles/cbm_service/files/end_orphans.py"
MARK = "CBM_SERVICE_SUPERVISOR"
# Starts a child, tells its process id, and stays.
PARENT = """
import os, signal, subprocess, sys, time
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen(["sleep", "600"]).pid, flush=True)
time.sleep(600)
"""


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def end_orphans(folder: str, seconds: str = "60") -> str:
    command = [sys.executable, str(PROGRAM), folder, seconds]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=90).stdout


@pytest.fixture
def started() -> Iterator[Callable[..., tuple[int, int]]]:
    """Start a program and its child with this folder as mark; their process ids."""
    with ExitStack() as stack:

        def start(folder: str | None, *words: str) -> tuple[int, int]:
            environment = {"PATH": os.environ["PATH"]} | ({MARK: folder} if folder else {})
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", PARENT, *words],
                    env=environment,
                    stdout=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            )
            stack.callback(suppress_kill, process.pid)
            assert process.stdout
            return process.pid, int(process.stdout.readline())

        yield start


def suppress_kill(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def test_programs_and_what_they_started_are_ended(started, tmp_path):
    ours = started(str(tmp_path))
    others = [started(str(tmp_path / "other")), started(f"{tmp_path}s"), started(None)]
    assert {int(line.split()[1]) for line in end_orphans(str(tmp_path)).splitlines()} == {*ours}
    assert not any(map(runs, ours))
    assert all(runs(pid) for pids in others for pid in pids)


def test_a_child_whose_program_was_killed_is_ended(started, tmp_path):
    program, child = started(str(tmp_path))
    os.kill(program, signal.SIGKILL)
    end_orphans(str(tmp_path))
    assert not runs(child)


def test_what_does_not_listen_is_killed(started, tmp_path):
    program, _child = started(str(tmp_path), "deaf")
    begin = time.monotonic()
    end_orphans(str(tmp_path), "0.5")
    assert time.monotonic() - begin >= 0.5
    assert not runs(program)


def test_nothing_left_is_fine(tmp_path):
    assert end_orphans(str(tmp_path)) == ""
