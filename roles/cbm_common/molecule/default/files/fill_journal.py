"""Writes 60 MB and a last line to the journal."""

import base64
import os
import subprocess

for _ in range(6):
    lines = "\n".join(base64.b64encode(os.urandom(30_000)).decode() for _ in range(250))
    subprocess.run(["systemd-cat", "--identifier=cbm-fill"], input=lines, text=True, check=True)
# Written out before and after: what still waits in a queue says nothing about what is kept.
subprocess.run(["journalctl", "--sync"], check=True)
subprocess.run(
    ["systemd-cat", "--identifier=cbm-last"], input="the last line\n", text=True, check=True
)
subprocess.run(["journalctl", "--sync"], check=True)
