"""Passwords as they are stored: argon2id (RFC 9106), in PHC string format."""

from __future__ import annotations

import getpass
import stat
import sys
import unicodedata
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from cbm_core.errors import CbmError

SHORTEST = 12
LONGEST = 256

_hasher = PasswordHasher()

# What is compared where there is no such user, so that the answer takes as long.
_NOBODY = _hasher.hash("no password is this one")


def hashed(password: str) -> str:
    """Return the hash of a password, with a fresh salt."""
    return _hasher.hash(_normal(password))


def matches(stored: str | None, password: str) -> bool:
    """Say whether a password is the stored one; None matches none, in the same time."""
    try:
        return _hasher.verify(stored or _NOBODY, _normal(password)) and stored is not None
    except (VerificationError, InvalidHashError):
        return False


def from_file(file: Path) -> str:
    """Return the password in a file: its first line, that and nothing else.

    Raises:
        CbmError: ``password_file_unusable`` when it cannot be read, others may read it, or it is
            not UTF-8; ``password_unfit`` as :func:`checked`.

    """
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise _unusable(file, f"cannot be read: {why}") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise _unusable(file, "may be read by others")
    return checked(text.removesuffix("\n").removesuffix("\r"))


def asked() -> str:
    """Ask for a password on the terminal, twice.

    Raises:
        CbmError: ``password_missing`` without a terminal, ``password_unfit`` as :func:`checked`,
            or when the two differ.

    """
    if not sys.stdin.isatty():
        raise CbmError(
            "password_missing",
            "There is no terminal to ask for a password on.",
            "Put it into a file of mode 0600 and name that with --password-file.",
        )
    password = checked(getpass.getpass("Password: "))
    if getpass.getpass("Again: ") != password:
        raise CbmError("password_unfit", "The two passwords differ.", "Try again.")
    return password


def checked(password: str) -> str:
    """Return a password that may be used.

    Raises:
        CbmError: ``password_unfit`` when it is too short or long, or has control characters.

    """
    if not SHORTEST <= len(password) <= LONGEST or not password.isprintable():
        raise CbmError(
            "password_unfit",
            f"A password has {SHORTEST} to {LONGEST} printable characters on one line;"
            f" found {len(password)}.",
        )
    return password


def _normal(password: str) -> str:
    """Return the form in which equal-looking texts are equal (RFC 8265, 4.2)."""
    return unicodedata.normalize("NFC", password)


def _unusable(file: Path, why: str) -> CbmError:
    return CbmError(
        "password_file_unusable",
        f"The password file {file} {why}.",
        "Make a file with one line, UTF-8, that you alone may read (mode 0600).",
    )
