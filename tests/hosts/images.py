"""Images of bare Debian hosts, made without a registry where none is reached."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.hosts.engine import HERE, docker, environment

SUITES = {"12": "bookworm", "13": "trixie"}
RECIPE = ("Dockerfile", "packages", "zipcache.py")


def name(debian: str) -> str:
    """The image of a host with this Debian; another recipe gives it another name."""
    recipe = b"".join((HERE / one).read_bytes() for one in RECIPE)
    return f"cbm-test-host:{debian}-{hashlib.sha256(recipe).hexdigest()[:10]}"


def make(debian: str) -> None:
    """Makes the image unless it is there, of a base image or else of Debian's packages.

    `CBM_HOSTS_BASE_12` and `_13` name base images.

    Raises subprocess.CalledProcessError with what the tool wrote.
    """
    if docker("image", "inspect", name(debian), check=False).returncode == 0:
        return
    there = base(debian)
    with tempfile.TemporaryDirectory() as folder:
        for one in RECIPE:
            shutil.copy(HERE / one, folder)
        subprocess.run(
            [
                "docker",
                "build",
                "--quiet",
                "--build-arg",
                f"BASE={there}",
                "--tag",
                name(debian),
                folder,
            ],
            check=True,
            env=environment() | {"DOCKER_BUILDKIT": "0"},
            stdout=subprocess.DEVNULL,
        )


def base(debian: str) -> str:
    """The base image: the one that the environment names, or one of Debian's packages."""
    return os.environ.get(f"CBM_HOSTS_BASE_{debian}") or from_packages(debian)


def from_packages(debian: str) -> str:
    """A base image of Debian's own packages, from the mirror that this machine's apt uses."""
    image = f"cbm-test-base:{debian}"
    if docker("image", "inspect", image, check=False).returncode == 0:
        return image
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        archive = Path(folder) / "base.tar"
        mirror = [one for one in [os.environ.get("CBM_DEBIAN_MIRROR")] if one]
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", SUITES[debian], str(archive), *mirror],
            check=True,
        )
        docker("import", str(archive), image)
    return image
