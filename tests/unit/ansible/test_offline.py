"""The API's image has the name of what it is made of; a bundle brings what it says or nothing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[3]
FILES = REPO / "playbooks/files"


def run(script: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FILES / f"{script}.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose image is a line of text."""
    folder = tmp_path / "checkout"
    texts = {
        "cbm_core/__init__.py": "",
        "README.md": "",
        "LICENSE": "",
        "pyproject.toml": '[project]\nname = "cbm-backend"\nversion = "1.2.3"\n',
        "Dockerfile": "FROM x",
        "constraints/python.txt": "a==1",
        "tools/requirements": "",
        "tools/build-viewer": "",
        "tools/build-images": '#!/bin/sh\necho "$IMAGE $*" > "$ARCHIVE"\n',
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "tools/build-images").chmod(0o755)
    return folder


def image(checkout: Path, *words: str) -> dict[str, str]:
    done = run("build_image", checkout, checkout.parent / "dist", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_image_is_built_once(checkout: Path) -> None:
    first = image(checkout, "--build-arg=BASE=y")
    assert first["changed"]
    assert Path(first["archive"]).read_text() == f"{first['image']} --build-arg=BASE=y\n"
    assert first["image"].startswith("cbm-api:1.2.3-")
    assert image(checkout, "--build-arg=BASE=y") == {**first, "changed": False}


def test_secrets_do_not_make_another_image(checkout: Path) -> None:
    plain = image(checkout)["image"]
    assert image(checkout, "--secret=id=pip,src=/x")["image"] == plain
    assert image(checkout, "--build-arg=BASE=y")["image"] != plain


@pytest.mark.parametrize("name", ["Dockerfile", "constraints/python.txt", "cbm_core/__init__.py"])
def test_what_it_is_made_of_does(checkout: Path, name: str) -> None:
    before = image(checkout)["image"]
    with (checkout / name).open("a") as file:
        file.write("# changed\n")
    assert image(checkout)["image"] != before


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    description = {
        "digest": "d",
        "version": "1.2.3",
        "wheel": "a.whl",
        "constraints": "constraints.txt",
        "image": "cbm-api:1",
        "image_archive": "image.tar.gz",
    }
    (folder / "bundle.json").write_text(json.dumps(description))
    for name in ("a.whl", "constraints.txt", "image.tar.gz"):
        (folder / name).write_text(name)
    sums = {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in folder.iterdir()}
    (folder / "SHA256SUMS").write_text("".join(f"{s}  {name}\n" for name, s in sums.items()))
    return folder


def test_a_bundle_needs_no_build(bundle: Path) -> None:
    wheel = run("build_wheel", f"--bundle={bundle}", ".", "dist")
    assert json.loads(wheel.stdout) == {
        "changed": False,
        "digest": "d",
        "version": "1.2.3",
        "wheel": str(bundle / "a.whl"),
    }
    found = run("build_image", f"--bundle={bundle}", ".", "dist", "--build-arg=BASE=x")
    archive = str(bundle / "image.tar.gz")
    assert json.loads(found.stdout) == {"changed": False, "image": "cbm-api:1", "archive": archive}


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("a.whl", "build_wheel"),
        ("constraints.txt", "build_wheel"),
        ("image.tar.gz", "build_image"),
        ("bundle.json", "build_image"),
    ],
)
def test_a_damaged_one_is_refused(bundle: Path, name: str, script: str) -> None:
    with (bundle / name).open("a") as file:
        file.write(" ")
    done = run(script, f"--bundle={bundle}", ".", "dist")
    assert done.returncode == 1
    assert str(bundle / name) in done.stderr
    assert "copy it again" in done.stderr


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    done = run("build_wheel", f"--bundle={tmp_path}", ".", "dist")
    assert done.returncode == 1
    assert f"Expected an offline bundle (tools/offline-bundle) in {tmp_path}" in done.stderr


def test_a_bundle_replaces_no_other_folder(tmp_path: Path) -> None:
    """What `tools/offline-bundle` was told to write to may hold something dear."""
    (tmp_path / "thesis.txt").write_text("x")
    tool = REPO / "tools/offline-bundle"
    done = subprocess.run([sys.executable, tool, tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    assert "found something else" in done.stderr
    assert (tmp_path / "thesis.txt").exists()
