"""Equal sources are one wheel; anything that gets into the wheel makes another."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import zipfile
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
    for name in ("viewer/src/main.ts", "viewer/package-lock.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    # Stands for the real one, which asks npm's registry.
    _script(
        folder, 'mkdir -p cbm_api/static/viewer; echo "built" > cbm_api/static/viewer/index.html'
    )
    (folder / "cbm_api").mkdir()
    (folder / "cbm_api/__init__.py").write_text("")
    (folder / "README.md").write_text("read me")
    (folder / "LICENSE").write_text("free")
    (folder / "pyproject.toml").write_text('[project]\nname = "cbm-backend"\nversion = "1.2.3"\n')
    return folder


def _script(folder: Path, does: str) -> None:
    path = folder / "tools/build-viewer"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh -eu\ncd "$(dirname "$0")/.."\n{does}\n')
    path.chmod(0o755)


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


def _change_viewer(checkout: Path) -> None:
    (checkout / "viewer/src/main.ts").write_text("changed")


def _build_otherwise(checkout: Path) -> None:
    _script(checkout, "true")


def _rename(checkout: Path) -> None:
    (checkout / "cbm_core/deep/data.sql").rename(checkout / "cbm_core/deep/other.sql")


def _move_bytes(checkout: Path) -> None:
    """The same bytes in sequence, cut differently."""
    (checkout / "LICENSE").write_text("fre")
    (checkout / "README.md").write_text("eread me")


@pytest.mark.parametrize("edit", [_change, _change_viewer, _build_otherwise, _rename, _move_bytes])
def test_every_edit_makes_another_digest(
    checkout: Path, tmp_path: Path, edit: Callable[[Path], None]
) -> None:
    before = _run("--check", checkout, tmp_path)["digest"]
    assert _run("--check", checkout, tmp_path)["digest"] == before
    edit(checkout)
    assert _run("--check", checkout, tmp_path)["digest"] != before


def test_the_built_page_and_its_packages_are_no_sources(checkout: Path, tmp_path: Path) -> None:
    before = _run("--check", checkout, tmp_path)["digest"]
    for name in ("cbm_api/static/viewer/viewer.js", "viewer/node_modules/a/b.js", "viewer/.a.swp"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("x")
    assert _run("--check", checkout, tmp_path)["digest"] == before


def _run(*arguments: str | Path) -> dict[str, object]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_check_builds_nothing(checkout: Path, tmp_path: Path) -> None:
    answer = _run("--check", checkout, tmp_path / "dist")
    assert answer["changed"] is True
    assert answer["version"] == "1.2.3"
    assert not (tmp_path / "dist").exists()
    assert not (checkout / "cbm_api/static").exists()


# A wheel of everything: setuptools would have to be fetched.
BACKEND = """
import pathlib, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "cbm_backend-1.2.3-py3-none-any.whl"
    info = "cbm_backend-1.2.3.dist-info/"
    with zipfile.ZipFile(pathlib.Path(folder, name), "w") as wheel:
        for path in pathlib.Path().rglob("*"):
            wheel.write(path)
        metadata = "Metadata-Version: 2.1\\nName: cbm-backend\\nVersion: 1.2.3"
        kind = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any"
        for file, text in {"METADATA": metadata, "WHEEL": kind, "RECORD": ""}.items():
            wheel.writestr(info + file, text)
    return name
"""


def test_the_page_is_built_into_the_wheel(checkout: Path, tmp_path: Path) -> None:
    (checkout / "cbm_core/backend.py").write_text(BACKEND)
    with (checkout / "pyproject.toml").open("a") as project:
        project.write(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\n'
            'backend-path = ["cbm_core"]\n'
        )
    wheel = _run(checkout, tmp_path / "dist")["wheel"]
    with zipfile.ZipFile(str(wheel)) as archive:
        assert archive.read("cbm_api/static/viewer/index.html") == b"built\n"
        assert not [name for name in archive.namelist() if name.startswith(("viewer", "tools"))]


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


def test_a_viewer_that_cannot_be_built_says_why(checkout: Path, tmp_path: Path) -> None:
    _script(checkout, 'echo "registry unreachable" >&2; exit 7')
    command = [sys.executable, str(SCRIPT), str(checkout), str(tmp_path / "dist")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "The viewer could not be built" in done.stderr
    assert "registry unreachable" in done.stderr
    assert not (tmp_path / "dist").exists()
