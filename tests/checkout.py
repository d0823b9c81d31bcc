"""Copies of this checkout, from which tests deploy while the checkout itself may be edited."""

import shutil
from pathlib import Path

import cbm_core

REPO = Path(__file__).parents[1]
MIGRATIONS = Path("cbm_core/migrations/sql")
VERSION = cbm_core.__version__
OLDER = "0.0.9"
_LEFT_OUT = shutil.ignore_patterns(
    ".*",
    "__pycache__",
    "*.egg-info",
    "dist",
    "build",
    "demo-output",
    "tests",
    "node_modules",
)


def copy(folder: Path) -> Path:
    """Copy what is deployed from; the folder must not be there."""
    return Path(shutil.copytree(REPO, folder, ignore=_LEFT_OUT))


def older(folder: Path) -> Path:
    """Copy it as an older release: a lower version, and one migration fewer."""
    made = copy(folder)
    for name in ("pyproject.toml", "cbm_core/__init__.py"):
        path = made / name
        text = path.read_text()
        assert text.count(f'version__ = "{VERSION}"') + text.count(f'\nversion = "{VERSION}"') == 1
        path.write_text(text.replace(VERSION, OLDER))
    max((made / MIGRATIONS).glob("*.sql")).unlink()
    return made


def failing(folder: Path) -> Path:
    """Copy it as a release whose last migration fails, after it has changed something."""
    made = copy(folder)
    last = max((made / MIGRATIONS).glob("*.sql"))
    name = f"{int(last.name[:4]) + 1:04}_fails.sql"
    (made / MIGRATIONS / name).write_text(
        "-- cbm: expand\nCREATE TABLE cbm.halfway (id int);\nSELECT 1 / 0;\n"
    )
    return made
