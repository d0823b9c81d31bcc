"""Bearer tokens: 32 random bytes, of which the database keeps a digest only."""

from __future__ import annotations

import hashlib
import secrets

# Tells tokens of this API from others, also for scanners that look for leaked ones.
PREFIX = "cbm_"


def fresh() -> str:
    """Return a new token."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """Return what is stored of a token; random bytes need no slow hash."""
    return hashlib.sha256(token.encode()).digest()
