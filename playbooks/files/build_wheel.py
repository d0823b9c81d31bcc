"""Build the wheel of this checkout, unless the same sources were built before.

Usage: build_wheel.py [--check] [--bundle DIR] CHECKOUT OUTPUT_DIR

Prints one JSON object: ``changed`` (a wheel was, or with --check would be, built), ``digest``
(hex SHA-256 over the sources' names and bytes), ``version`` and ``wheel`` (its path). Needs pip in
the Python that runs it, and where the viewer was not built before, npm's registry. Works on any
copy of the sources, git or not. With --bundle it is the wheel of an offline bundle, compared with
the bundle's checksums.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

PLAIN_FILES = ("pyproject.toml", "README.md", "LICENSE")
BUILD_VIEWER = Path("tools/build-viewer")
# The built page is no source: what it is built from counts.
PAGE = Path("cbm_api/static/viewer")
# Zip archives know no time before 1980; any fixed one makes equal sources equal wheels.
SOURCE_DATE_EPOCH = "315532800"


def packaged_files(checkout: Path) -> list[Path]:
    """Return what goes into the wheel as it is, relative to the checkout, in a fixed order."""
    packages = [path.parent for path in checkout.glob("cbm_*/__init__.py")]
    found = [path for package in packages for path in package.rglob("*")]
    wanted = [
        path.relative_to(checkout)
        for path in found
        if path.is_file() and "__pycache__" not in path.parts
    ]
    kept = [file for file in wanted if not file.is_relative_to(PAGE)]
    return sorted([*kept, *(Path(name) for name in PLAIN_FILES)])


def viewer_files(checkout: Path) -> list[Path]:
    """Return what the page is built from, relative to the checkout, in a fixed order."""
    tops = [path for path in checkout.glob("viewer/*") if path.name != "node_modules"]
    found = [path for top in tops for path in (top, *top.rglob("*"))]
    wanted = [path for path in found if path.is_file() and not path.name.startswith(".")]
    return sorted([*(path.relative_to(checkout) for path in wanted), BUILD_VIEWER])


def digest(checkout: Path, files: list[Path]) -> str:
    """Return the SHA-256 over names and contents."""
    total = hashlib.sha256()
    for file in files:
        content = (checkout / file).read_bytes()
        total.update(f"{file.as_posix()}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def run(what: str, command: list[str], **environment: str) -> None:
    """Run a command.

    Raises:
        SystemExit: when it fails: what could not be built, and its last lines.

    """
    done = subprocess.run(  # noqa: S603 - nothing here comes from elsewhere
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        sys.exit(f"{what} could not be built with {' '.join(command[:4])}:\n{last}")


def build_viewer(checkout: Path) -> list[Path]:
    """Build the page in the checkout, unless it is there; return its files."""
    script = str(checkout / BUILD_VIEWER)
    run("The viewer", [script], PYTHON=sys.executable)
    return [path.relative_to(checkout) for path in (checkout / PAGE).iterdir()]


def build(checkout: Path, files: list[Path], target: Path) -> None:
    """Build from a copy, so that nothing stale gets in; the page alone is built in the checkout.

    Raises:
        SystemExit: when pip or npm is missing or fails, with its last lines.

    """
    files = [*files, *build_viewer(checkout)]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cbm-wheel-") as scratch:
        source = Path(scratch, "source")
        for file in files:
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(checkout / file, source / file)
        out = Path(scratch, "out")
        pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(out)]
        run("The wheel", [*pip, str(source)], SOURCE_DATE_EPOCH=SOURCE_DATE_EPOCH)
        built = next(out.glob("*.whl"))
        # Into place in one step: an interrupted build leaves nothing that looks whole.
        partial = target.with_suffix(".partial")
        shutil.copyfile(built, partial)
        partial.rename(target)


def description(folder: Path, *parts: str) -> dict[str, str]:
    """Return what an offline bundle says of itself, after looking at the files of these parts.

    Raises:
        SystemExit: when it is no bundle, or a file is not what it was.

    """
    try:
        found: dict[str, str] = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        listed = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        sys.exit(f"Expected an offline bundle (tools/offline-bundle) in {folder}; {error}.")
    sums = {name: one for one, _, name in (line.partition("  ") for line in listed)}
    for name in ("bundle.json", *filter(None, (found[part] for part in parts))):
        with (folder / name).open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != sums.get(name):
            sys.exit(
                f"Expected {folder / name} with the SHA-256 {sums.get(name)}; found {actual}."
                " The bundle was damaged or changed on its way: copy it again."
            )
    return found


def main() -> None:
    """Answer on standard output."""
    parser = argparse.ArgumentParser(description="Build the wheel of a checkout.")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("checkout", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--bundle", type=Path)
    options = parser.parse_args()
    if options.bundle:
        folder = options.bundle.resolve()
        found = description(folder, "wheel", "constraints")
        answer = {"changed": False, "digest": found["digest"], "version": found["version"]}
        json.dump({**answer, "wheel": str(folder / found["wheel"])}, sys.stdout)
        return
    checkout = options.checkout.resolve()
    files = packaged_files(checkout)
    sources = digest(checkout, [*files, *viewer_files(checkout)])
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name = f"{project['name'].replace('-', '_')}-{project['version']}-py3-none-any.whl"
    wheel = options.output.resolve() / sources[:12] / name
    changed = not wheel.exists()
    if changed and not options.check:
        build(checkout, files, wheel)
    facts = {"digest": sources, "version": project["version"], "wheel": str(wheel)}
    json.dump({"changed": changed, **facts}, sys.stdout)


if __name__ == "__main__":
    main()
