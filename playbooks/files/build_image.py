"""Build the API's image of this checkout into an archive, unless the same one was built before.

Usage: build_image.py [--check] [--bundle DIR] [--repository NAME] CHECKOUT OUTPUT_DIR [WORD ...]

The words go to the builder (`--build-arg=BASE=...`, `--secret=id=ca,src=...`; docs/images.md).
Prints one JSON object: ``changed`` (an image was, or with --check would be, built), ``image`` (its
name; the tag says version and contents) and ``archive`` (the file that `docker load` takes).
With --bundle it is the image of an offline bundle, compared with the bundle's checksums.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tomllib
from pathlib import Path

import build_wheel

# What the image is built from beside the wheel and the page.
RECIPE = ("Dockerfile", "constraints/python.txt", "tools/requirements")


def bundled(folder: Path) -> dict[str, object]:
    """Return which image is in an offline bundle.

    Raises:
        SystemExit: when there is none, or the archive is not what it was.

    """
    description = build_wheel.description(folder, "image_archive")
    if not description["image"]:
        sys.exit(f"{folder} has no image: make it anew with `tools/offline-bundle --images`.")
    archive = str(folder / description["image_archive"])
    return {"changed": False, "image": description["image"], "archive": archive}


def main() -> None:
    """Answer on standard output."""
    parser = argparse.ArgumentParser(description="Build the API's image of a checkout.")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--repository", default="cbm-api")
    parser.add_argument("checkout", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("words", nargs=argparse.REMAINDER)
    parser.add_argument("--bundle", type=Path)
    options = parser.parse_args()
    if options.bundle:
        json.dump(bundled(options.bundle.resolve()), sys.stdout)
        return
    checkout = options.checkout.resolve()
    files = [*build_wheel.packaged_files(checkout), *build_wheel.viewer_files(checkout)]
    sources = build_wheel.digest(checkout, [*files, *map(Path, RECIPE)])
    # Secrets are there while it is built, and are not in it.
    arguments = [word for word in options.words if "build-arg" in word]
    found = hashlib.sha256("\n".join([sources, *arguments]).encode()).hexdigest()
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tag = f"{project['version']}-{found[:10]}"
    image = f"{options.repository}:{tag}"
    archive = options.output.resolve() / "images" / f"cbm-api-{tag}.tar.gz"
    changed = not archive.exists()
    if changed and not options.check:
        archive.parent.mkdir(parents=True, exist_ok=True)
        command = [str(checkout / "tools/build-images"), *options.words]
        build_wheel.run("The image", command, IMAGE=image, ARCHIVE=str(archive))
    json.dump({"changed": changed, "image": image, "archive": str(archive)}, sys.stdout)


if __name__ == "__main__":
    main()
