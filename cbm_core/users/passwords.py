"""Passwords as they are stored: argon2id (RFC 9106), in PHC string format."""

from __future__ import annotations

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_hasher = PasswordHasher()

# What is compared where there is no such user, so that the answer takes as long.
_NOBODY = _hasher.hash("no password is this one")


def hashed(password: str) -> str:
    """Return the hash of a password, with a fresh salt."""
    return _hasher.hash(password)


def matches(stored: str | None, password: str) -> bool:
    """Say whether a password is the stored one; None matches none, in the same time."""
    try:
        return _hasher.verify(stored or _NOBODY, password) and stored is not None
    except (VerificationError, InvalidHashError):
        return False
