"""What scenarios deploy: an older and the present release of this checkout, an offline bundle.

`python -m tests.hosts.releases FILE` makes them unless they are there; the file (JSON) says where.
"""

import fcntl
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.checkout import OLDER
from tests.hosts.engine import FOLDER

CHECKOUT = Path(__file__).parents[2]


def main() -> None:
    """Scenarios that run side by side make them once."""
    folder = FOLDER / "releases"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        bundle = folder / "bundle"
        # What `cbm --version` and the schema's commands need; the rest is ten times as much.
        told("tools/offline-bundle", "--extras=core", "--python=3.11", str(bundle))
        newer = json.loads(told("playbooks/files/build_wheel.py", ".", "dist"))
        older = folder / newer["digest"][:12] / f"cbm_backend-{OLDER}-py3-none-any.whl"
        if not older.exists():
            older.parent.mkdir(exist_ok=True)
            aged(Path(newer["wheel"]), newer["version"], older)
    answer = {
        "newer": newer,
        "older": {"wheel": str(older), "version": OLDER, "digest": newer["digest"][::-1]},
        "bundle": str(bundle),
        "constraints": str(CHECKOUT / "constraints/python.txt"),
    }
    Path(sys.argv[1]).write_text(json.dumps(answer))


def told(*words: str) -> str:
    """What one of the checkout's Python programs prints."""
    done = subprocess.run([sys.executable, *words], cwd=CHECKOUT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def aged(wheel: Path, version: str, target: Path) -> None:
    """Writes a wheel of the same code that says it is older."""
    info = re.compile(rf"cbm_backend-{re.escape(version)}\.dist-info")
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(target, "w") as made:
        for name in source.namelist():
            content = source.read(name)
            if name == "cbm_core/__init__.py" or info.match(name):
                content = content.replace(version.encode(), OLDER.encode())
            made.writestr(info.sub(f"cbm_backend-{OLDER}.dist-info", name), content)


if __name__ == "__main__":
    main()
