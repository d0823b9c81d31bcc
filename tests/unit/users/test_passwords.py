"""Passwords: how they are stored, and where they come from."""

import pytest

from cbm_core.errors import CbmError
from cbm_core.users import passwords, store, tokens

GOOD = "correct horse battery"


def write(tmp_path, text, mode=0o600):
    file = tmp_path / "password"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    file.chmod(mode)
    return file


def test_a_hash_matches_its_password_only():
    stored = passwords.hashed(GOOD)
    assert stored.startswith("$argon2id$")
    assert passwords.hashed(GOOD) != stored, "each has a salt of its own"
    assert passwords.matches(stored, GOOD)
    for other in ("", GOOD + " ", GOOD.upper()):
        assert not passwords.matches(stored, other)
    assert not passwords.matches(None, GOOD)
    assert not passwords.matches("no hash at all", GOOD)


def test_equal_looking_passwords_are_equal():
    composed, decomposed = "cafe\u0301 au lait 99", "caf\u00e9 au lait 99"
    assert passwords.matches(passwords.hashed(composed), decomposed)


@pytest.mark.parametrize("text", [GOOD, GOOD + "\n", GOOD + "\r\n"])
def test_a_file_holds_a_password_on_one_line(tmp_path, text):
    assert passwords.from_file(write(tmp_path, text)) == GOOD


def test_spaces_belong_to_a_password(tmp_path):
    assert passwords.from_file(write(tmp_path, f" {GOOD} \n")) == f" {GOOD} "


@pytest.mark.parametrize(
    "text", ["", "\n", "eleven char", GOOD + "\nmore\n", "x" * 257, "a\0b" * 5, "tab\t" * 5]
)
def test_unfit_passwords(tmp_path, text):
    with pytest.raises(CbmError) as caught:
        passwords.from_file(write(tmp_path, text))
    assert caught.value.code == "password_unfit"
    assert not text.strip() or text not in str(caught.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path, mode):
    with pytest.raises(CbmError, match="read by others") as caught:
        passwords.from_file(write(tmp_path, GOOD, mode))
    assert caught.value.code == "password_file_unusable"


def test_files_that_are_none(tmp_path):
    for file in (tmp_path / "none", tmp_path, write(tmp_path, b"\xff\xfe" * 9)):
        with pytest.raises(CbmError) as caught:
            passwords.from_file(file)
        assert caught.value.code == "password_file_unusable"


def test_asked_twice_on_a_terminal(monkeypatch):
    typed = iter([GOOD, GOOD])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _prompt: next(typed))
    assert passwords.asked() == GOOD
    typed = iter([GOOD, GOOD + "!"])
    with pytest.raises(CbmError, match="differ"):
        passwords.asked()


def test_nobody_is_asked_without_a_terminal(monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(CbmError) as caught:
        passwords.asked()
    assert caught.value.code == "password_missing"


def test_tokens_are_random_and_kept_as_digests():
    first, second = tokens.fresh(), tokens.fresh()
    assert first != second
    assert len(first) == len("cbm_") + 43
    assert len(tokens.digest(first)) == 32
    assert tokens.digest(first) != tokens.digest(second)


@pytest.mark.parametrize("name", ["anna", "Anna.B-9@agency.example", "0", "x" * 64])
def test_names(name):
    assert store.is_name(name)


@pytest.mark.parametrize("name", ["", "anna\n", "x" * 65, "ann a", "-anna", "ann:a", "ännа", "a\0"])
def test_names_that_are_none(name):
    assert not store.is_name(name)
