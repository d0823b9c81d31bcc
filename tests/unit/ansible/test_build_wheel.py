"""Equal sources are one wheel; anything that gets into the wheel makes another."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "playbooks/files/build_wheel.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_wheel", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    for name in ("cbm_core/__init__.py", "cbm_core/deep/data.sql", "cbm_extract/__init__.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "README.md").write_text("read me")
    (folder / "LICENSE").write_text("free")
    (folder / "pyproject.toml").write_text('[project]\nname = "cbm-backend"\nversion = "1.2.3"\n')
    return folder


def test_only_what_is_packaged_counts(script: ModuleType, checkout: Path) -> None:
    before = script.packaged_files(checkout)
    for name in ("tests/test_x.py", "cbm_core/__pycache__/x.pyc", "cbm_backend.egg-info/PKG-INFO"):
        (checkout / name).parent.mkdir(parents=True)
        (checkout / name).write_text("x")
    assert script.packaged_files(checkout) == before
    assert Path("cbm_core/deep/data.sql") in before
    assert Path("pyproject.toml") in before


def _change(checkout: Path) -> None:
    (checkout / "cbm_core/deep/data.sql").write_text("changed")


def _rename(checkout: Path) -> None:
    (checkout / "cbm_core/deep/data.sql").rename(checkout / "cbm_core/deep/other.sql")


def _move_bytes(checkout: Path) -> None:
    """The same bytes in sequence, cut differently."""
    (checkout / "LICENSE").write_text("fre")
    (checkout / "README.md").write_text("eread me")


@pytest.mark.parametrize("edit", [_change, _rename, _move_bytes])
def test_every_edit_makes_another_digest(
    script: ModuleType, checkout: Path, edit: Callable[[Path], None]
) -> None:
    before = script.digest(checkout, script.packaged_files(checkout))
    assert script.digest(checkout, script.packaged_files(checkout)) == before
    edit(checkout)
    assert script.digest(checkout, script.packaged_files(checkout)) != before


def _run(*arguments: str | Path) -> dict[str, object]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_check_builds_nothing(checkout: Path, tmp_path: Path) -> None:
    answer = _run("--check", checkout, tmp_path / "dist")
    assert answer["changed"] is True
    assert answer["version"] == "1.2.3"
    assert not (tmp_path / "dist").exists()


def test_what_was_built_is_not_built_again(checkout: Path, tmp_path: Path) -> None:
    wheel = Path(str(_run("--check", checkout, tmp_path / "dist")["wheel"]))
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes(b"built before")
    assert _run(checkout, tmp_path / "dist")["changed"] is False
    assert wheel.read_bytes() == b"built before"
    _change(checkout)
    assert _run("--check", checkout, tmp_path / "dist")["changed"] is True


def test_a_failed_build_says_why_and_leaves_nothing(checkout: Path, tmp_path: Path) -> None:
    (checkout / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "nowhere"\n'
        '[project]\nname = "cbm-backend"\nversion = "1.2.3"\n'
    )
    command = [sys.executable, str(SCRIPT), str(checkout), str(tmp_path / "dist")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "The wheel could not be built" in done.stderr
    assert "nowhere" in done.stderr
    assert not list((tmp_path / "dist").rglob("*.whl"))
