"""tools/build-images with stand-ins for the builders, which note what they are told."""

import gzip
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cbm_core import __version__

TOOL = Path(__file__).parents[2] / "tools" / "build-images"
WORKING = '#!/bin/sh\necho "$0 $*" >> "$NOTES"\n'
# A client whose service does not answer.
BROKEN = "#!/bin/sh\nexit 1\n"
WITHOUT_BUILDKIT = '#!/bin/sh\n[ "$1" = version ]\n'


@pytest.fixture
def build(tmp_path):
    """build(docker=WORKING, ...): run the tool beside these builders; the last thing they heard."""
    checkout, programs = tmp_path / "checkout", tmp_path / "bin"
    (checkout / "tools").mkdir(parents=True)
    programs.mkdir()
    shutil.copy(TOOL, checkout / "tools")
    shutil.copy(TOOL.parents[1] / "pyproject.toml", checkout)
    for name in ("bash", "dirname", "env", "git", "gzip", "mktemp", "mv", "rm", "sed", "sh"):
        (programs / name).symlink_to(shutil.which(name))

    def run(*arguments, variables=None, **builders):
        for name, script in builders.items():
            (programs / name).write_text(script)
            (programs / name).chmod(0o755)
        notes = tmp_path / "notes"
        notes.write_text("")
        environment = {"PATH": str(programs), "NOTES": str(notes), "HOME": str(tmp_path)}
        done = subprocess.run(
            [checkout / "tools" / "build-images", *arguments],
            env=environment | (variables or {}), capture_output=True, text=True,
        )  # fmt: skip
        told = [line.removeprefix(f"{programs}{os.sep}") for line in notes.read_text().splitlines()]
        return done, told[-1] if told else None

    run.checkout = checkout
    return run


def test_without_a_builder_it_says_so(build):
    done, told = build()
    assert (done.returncode, told, done.stdout) == (1, None, "")
    assert "Expected a running docker, or podman, or buildah" in done.stderr
    assert "apt-get install buildah" in done.stderr


@pytest.mark.parametrize("docker", [BROKEN, WITHOUT_BUILDKIT])
def test_a_docker_that_cannot_build_is_passed_over(build, docker):
    done, told = build(docker=docker, buildah=WORKING)
    assert done.returncode == 0
    assert told.startswith("buildah build --format docker ")
    assert done.stdout == f"Built cbm-api:{__version__} with buildah.\n"


def test_a_builder_that_was_named_is_not_replaced(build):
    done, told = build(docker=WORKING, podman=BROKEN, variables={"BUILDER": "podman"})
    assert (done.returncode, told) == (1, None)
    assert "BUILDER names podman" in done.stderr


def test_the_builder_is_told_version_and_arguments(build):
    done, told = build("--build-arg", "BASE=mirror.example/debian", docker=WORKING)
    assert done.returncode == 0
    assert told.startswith("docker build ")
    assert f"--tag cbm-api:{__version__} " in told
    assert f"--label org.opencontainers.image.version={__version__} " in told
    assert told.endswith("--build-arg BASE=mirror.example/debian .")


@pytest.mark.parametrize(
    ("origin", "source"),
    [
        ("https://anna:token@git.example/cbm.git", "https://git.example/cbm.git"),
        ("https://git.example/cbm.git", "https://git.example/cbm.git"),
        ("/srv/cbm", None),
    ],
)
def test_labels_say_where_it_came_from_but_no_login(build, origin, source):
    git = ["git", "-C", build.checkout, "-c", "user.name=a", "-c", "user.email=a@b.example"]
    for words in (["init", "-q"], ["remote", "add", "origin", origin], ["add", "."],
                  ["commit", "-q", "-m", "x"]):  # fmt: skip
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    _, told = build(podman=WORKING)
    assert f"--label org.opencontainers.image.revision={head.stdout.strip()} " in told
    assert ("image.source=" in told) == (source is not None)
    assert source is None or f"--label org.opencontainers.image.source={source} " in told
    assert "token" not in told
    (build.checkout / "pyproject.toml").open("a").write("# changed\n")
    _, told = build(podman=WORKING)
    assert f"revision={head.stdout.strip()}-modified " in told


def test_a_failed_build_is_no_image(build):
    failing = '#!/bin/sh\n[ "$1" = info ] && exit 0\nexit 3\n'
    done, _ = build(podman=failing)
    assert done.returncode == 3
    assert "Built" not in done.stdout


SAVING = """#!/bin/sh
echo "$0 $*" >> "$NOTES"
case "$1" in
  save) echo content > "$3" ;;
  push) target=${4#docker-archive:}; echo content > "${target%%:*}" ;;
esac
"""


@pytest.mark.parametrize("builder", ["docker", "podman", "buildah"])
def test_an_archive_holds_the_image_by_its_name(build, tmp_path, builder):
    archive = tmp_path / "image.tar.gz"
    variables = {
        "IMAGE": "mirror.example/cbm-api:1-abc",
        "ARCHIVE": str(archive),
        "TMPDIR": str(tmp_path),
    }
    done, told = build(variables=variables, **{builder: SAVING})
    assert done.returncode == 0, done.stderr
    assert gzip.decompress(archive.read_bytes()) == b"content\n"
    assert told.startswith(f"{builder} {'save' if builder == 'docker' else 'push'} ")
    assert told.endswith("mirror.example/cbm-api:1-abc")
    assert done.stdout == f"Built mirror.example/cbm-api:1-abc with {builder}.\n"
    # What it was packed from is gone.
    assert not [one for one in tmp_path.iterdir() if one.name.startswith("cbm-image-")]
