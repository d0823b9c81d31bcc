"""Say as JSON what a folder's certificate is: ``look.py FOLDER SECONDS [NAME ...]``.

``sums`` are those of ca.pem, host.pem and host.key ("" where there is no such file), ``ends`` is
the certificate's last day. ``reasons`` are those for a new one: it ends within so many seconds, the
folder's authority did not sign it, it is for others than these names, it is of another key.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ADDRESS = re.compile(r"[0-9.]+|[0-9a-fA-F.]*:[0-9a-fA-F:.]*")

folder = Path(sys.argv[1])
certificate = folder / "host.pem"


def openssl(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run openssl."""
    return subprocess.run(
        ["openssl", *map(str, words)],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def shown(*words: str) -> str:
    """Return what openssl says of the certificate; nothing if it is none."""
    return openssl("x509", "-noout", "-in", certificate, *words).stdout


def good_for(name: str) -> bool:
    """Whether the certificate is good for a name or address."""
    check = "-checkip" if ADDRESS.fullmatch(name) else "-checkhost"
    return "does match" in shown(check, name)


def reasons(seconds: str, names: list[str]) -> Iterator[str]:
    """Give the reasons for another one."""
    said = shown("-ext", "subjectAltName", "-pubkey")
    if openssl("x509", "-noout", "-in", certificate, "-checkend", seconds).returncode:
        yield f"it ends within {int(seconds) // 86400} days"
    if openssl("verify", "-CAfile", folder / "ca.pem", certificate).returncode:
        yield "the authority did not sign it"
    named = len(re.findall("(?:DNS|IP Address):", said)) == len(set(names))
    if not (named and all(map(good_for, names))):
        yield "it names other hosts"
    key = openssl("pkey", "-in", folder / "host.key", "-pubout")
    if key.returncode or key.stdout not in said:
        yield "it is of another key"


def total(path: Path) -> str:
    """Return a file's sum, if it is there."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


ends = None
if not certificate.exists():  # Nor, perhaps, openssl.
    why = ["there is none"]
elif not (ends := re.search("[0-9-]{10}", shown("-enddate", "-dateopt", "iso_8601"))):
    why = ["what is there is no certificate"]
else:
    why = list(reasons(sys.argv[2], sys.argv[3:]))
sums = [total(folder / name) for name in ("ca.pem", "host.pem", "host.key")]
print(json.dumps({"sums": sums, "ends": ends[0] if ends else "", "reasons": why}))
