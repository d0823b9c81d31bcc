"""Exits with 3 unless a user (first argument) can log in with a key, wherever sshd looks for it."""

import pwd
import subprocess
import sys
from pathlib import Path

user = pwd.getpwnam(sys.argv[1])
done = subprocess.run(
    ["/usr/sbin/sshd", "-T", "-C", f"user={user.pw_name},host=localhost,addr=127.0.0.1"],
    check=True,
    capture_output=True,
    text=True,
)
settings = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def keys(name: str) -> list[str]:
    """Return the lines of a file of keys, comments left out."""
    for token, value in (("%h", user.pw_dir), ("%u", user.pw_name), ("%U", str(user.pw_uid))):
        name = name.replace(token, value)
    path = Path(user.pw_dir) / name
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return [line for line in lines if line.strip() and not line.startswith("#")]


# Keys and certificates may come from a directory or an authority instead.
elsewhere = any(
    settings.get(name, "none") != "none" for name in ("authorizedkeyscommand", "trustedusercakeys")
)
sys.exit(0 if elsewhere or any(map(keys, settings["authorizedkeysfile"].split())) else 3)
