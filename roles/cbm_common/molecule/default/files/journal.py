"""Writes 40 MB and a last line to the journal, and says what is kept after a restart of it."""

import base64
import os
import subprocess
from pathlib import Path


def run(*words, text=None):
    return subprocess.run(words, input=text, check=True, capture_output=True, text=True).stdout


for _ in range(4):
    # Lines that do not compress.
    lines = "\n".join(base64.b64encode(os.urandom(30_000)).decode() for _ in range(250))
    run("systemd-cat", "--identifier=cbm-fill", text=lines)
# Written out before and after: what still waits in a queue says nothing about what is kept.
run("journalctl", "--sync")
run("systemd-cat", "--identifier=cbm-last", text="the last line\n")
run("journalctl", "--sync")
run("systemctl", "restart", "systemd-journald")
kept = run("journalctl", "--directory=/var/log/journal", "--identifier=cbm-last", "--output=cat")
size = sum(file.stat().st_blocks * 512 for file in Path("/var/log/journal").rglob("*.journal"))
if "the last line" not in kept.splitlines() or size > 32 * 2**20:
    raise SystemExit(f"{size} bytes are kept, and of the last line: {kept}")
