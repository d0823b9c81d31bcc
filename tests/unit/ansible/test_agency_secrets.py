"""An agency's secrets: made once, encrypted, and made anew but for the backups' passphrase."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).parents[3]
PROGRAM = REPO / "playbooks/files/agency_secrets.py"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of an operator."""
    return {
        **os.environ,
        "HOME": str(tmp_path),
        "CBM_CONTROLLER_PYTHON": sys.executable,
        "ANSIBLE_VAULT_PASSWORD_FILE": str(tmp_path / ".config/cbm/nl.vault-password"),
    }


def new_agency(home: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [REPO / "tools/new-agency", *words], env=home, capture_output=True, text=True
    )


def secrets_of(folder: Path, home: dict[str, str]) -> dict[str, dict[str, str]]:
    vault = Path(sys.executable).parent / "ansible-vault"
    shown = subprocess.run(
        [vault, "view", folder / "group_vars/all/vault.yml"],
        env=home,
        capture_output=True,
        text=True,
        check=True,
    )
    return yaml.safe_load(shown.stdout)


def test_an_inventory_with_its_own_secrets(tmp_path: Path, home: dict[str, str]) -> None:
    folder = tmp_path / "nl"
    made = new_agency(home, "nl", str(folder))
    assert made.returncode == 0, made.stderr
    password = Path(home["ANSIBLE_VAULT_PASSWORD_FILE"])
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert folder not in password.parents
    text = (folder / "group_vars/all/vault.yml").read_text()
    assert text.startswith("$ANSIBLE_VAULT;1.1;AES256")
    found = secrets_of(folder, home)["cbm_agency_secrets"]
    assert len(set(found.values())) == len(found) >= 8
    assert min(map(len, found.values())) >= 40
    assert not any(value in made.stdout for value in found.values())
    agency = yaml.safe_load((folder / "group_vars/all/agency.yml").read_text())
    assert agency["cbm_agency_code"] == "nl"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["NL", "x"], "CODE is 'NL'; expected 2 to 16 lower-case letters"),
        (["nl"], "DIR is missing"),
        (["nl", str(REPO / "nl")], "is in the checkout"),
        (["nl", "x", "local"], "expected cluster or single"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_made(
    tmp_path: Path, home: dict[str, str], words: list[str], message: str
) -> None:
    given = [str(tmp_path / word) if word == "x" else word for word in words]
    made = new_agency(home, *given)
    assert made.returncode == 1
    assert message in made.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_exists_is_overwritten(tmp_path: Path, home: dict[str, str]) -> None:
    folder = tmp_path / "nl"
    assert new_agency(home, "nl", str(folder)).returncode == 0
    assert "exists already" in new_agency(home, "nl", str(folder)).stderr
    again = new_agency(home, "nl", str(tmp_path / "other"))
    assert "another inventory's secrets need it" in again.stderr
    assert not (tmp_path / "other").exists()


def test_rotating_keeps_the_passphrase_of_backups(tmp_path: Path, home: dict[str, str]) -> None:
    folder = tmp_path / "nl"
    assert new_agency(home, "nl", str(folder), "single").returncode == 0
    before = secrets_of(folder, home)["cbm_agency_secrets"]
    vault = folder / "group_vars/all/vault.yml"
    subprocess.run([sys.executable, PROGRAM, "rotate", vault], env=home, check=True)
    after = secrets_of(folder, home)["cbm_agency_secrets"]
    assert after.keys() == before.keys()
    assert [name for name in after if after[name] == before[name]] == ["backup_passphrase"]


def test_a_vault_that_cannot_be_opened_is_left_alone(tmp_path: Path, home: dict[str, str]) -> None:
    folder = tmp_path / "nl"
    assert new_agency(home, "nl", str(folder)).returncode == 0
    vault = folder / "group_vars/all/vault.yml"
    text = vault.read_text()
    (tmp_path / "wrong").write_text("wrong")
    for password in ("wrong", "missing"):
        there = {**home, "ANSIBLE_VAULT_PASSWORD_FILE": str(tmp_path / password)}
        done = subprocess.run(
            [sys.executable, PROGRAM, "rotate", vault], env=there, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert vault.read_text() == text
