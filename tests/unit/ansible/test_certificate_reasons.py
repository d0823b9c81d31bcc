"""What says whether a host needs another certificate."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.ansible.tree import REPO

SCRIPT = REPO / "roles/cbm_pki/files/look.py"
NAMES = ["db", "db.example", "10.0.0.5", "fd00::5"]
NEW = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
DAY = 86400


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and a certificate of it for twenty days."""
    folder = tmp_path_factory.mktemp("pki")
    openssl(folder, *NEW, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    names = "subjectAltName=DNS:db,DNS:db.example,IP:10.0.0.5,IP:fd00::5"
    signed_by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-days", "20"]
    own = ["-subj", "/CN=db", "-addext", names, "-keyout", "host.key", "-out", "host.pem"]
    openssl(folder, *NEW, *own, *signed_by)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "pki"))


def looked(folder: Path, *names: str, seconds: int = 10 * DAY) -> dict:
    command = [sys.executable, "-I", str(SCRIPT), str(folder), str(seconds), *names]
    return json.loads(subprocess.check_output(command))


def test_a_good_one_stays(folder: Path) -> None:
    found = looked(folder, *NAMES)
    assert found["reasons"] == []
    assert len(set(found["sums"])) == 3
    end = subprocess.check_output(
        ["openssl", "x509", "-noout", "-enddate", "-in", folder / "host.pem"], text=True
    )
    said = end.strip().split("=")[1]
    day = subprocess.check_output(["date", "--utc", "+%F", "--date", said], text=True)
    assert found["ends"] == day.strip()


@pytest.mark.parametrize(
    "names",
    [NAMES[:-1], [*NAMES, "more.example"], [*NAMES[:-1], "fd00::6"], ["db", "db", "db", "db"]],
)
def test_it_is_for_these_names_and_no_others(folder: Path, names: list[str]) -> None:
    assert looked(folder, *names)["reasons"] == ["it names other hosts"]


def test_it_ends_too_soon(folder: Path) -> None:
    assert looked(folder, *NAMES, seconds=21 * DAY)["reasons"] == ["it ends within 21 days"]


def test_it_is_of_another_authority_and_key(folder: Path) -> None:
    openssl(folder, *NEW, "-subj", "/CN=ca", "-keyout", "host.key", "-out", "ca.pem")
    assert looked(folder, *NAMES)["reasons"] == [
        "the authority did not sign it",
        "it is of another key",
    ]


def test_what_is_not_there_or_no_certificate(folder: Path, tmp_path: Path) -> None:
    (folder / "host.pem").write_text("half a")
    assert looked(folder, *NAMES)["reasons"] == ["what is there is no certificate"]
    nothing = looked(tmp_path / "nowhere", *NAMES)
    assert nothing == {"sums": ["", "", ""], "ends": "", "reasons": ["there is none"]}
