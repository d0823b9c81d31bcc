"""The machine that is deployed to as a guest."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.e2e.deployment import PREFIX, clusters

VOLATILE = ("random", "ns_last_pid", "drop_caches", "compact_memory", "stat_refresh")


def machine() -> dict[str, object]:
    """What a guest must not change."""
    return {
        "users": Path("/etc/passwd").read_text("utf-8"),
        "groups": Path("/etc/group").read_text("utf-8"),
        "sysctl": _kernel_settings(),
        "sysctl files": _digests("/etc/sysctl.conf", "/etc/sysctl.d"),
        "sshd": _digests("/etc/ssh"),
        "firewall": _firewall(),
        "clusters": sorted(row for row in clusters() if not row[1].startswith(PREFIX)),
        "cluster defaults": _digests("/etc/postgresql-common"),
    }


def _kernel_settings() -> dict[str, str]:
    found = {}
    for folder in ("vm", "net", "kernel", "fs"):
        for path in Path("/proc/sys", folder).rglob("*"):
            if path.name in VOLATILE or "random" in path.parts or not path.is_file():
                continue
            # Only what can be set; counters are read-only.
            if path.stat().st_mode & 0o200:
                try:
                    found[str(path)] = path.read_text("utf-8")
                except OSError:
                    continue
    return found


def _digests(*places: str) -> dict[str, str]:
    files = [
        file
        for place in map(Path, places)
        for file in ([place] if place.is_file() else place.rglob("*"))
        if file.is_file()
    ]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _firewall() -> list[str]:
    rules = []
    for command in (["nft", "list", "ruleset"], ["iptables-save"]):
        if shutil.which(command[0]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            rules += [line for line in done.stdout.splitlines() if not line.startswith("#")]
    return rules
