"""Find the passwords that the server does not have yet, as SCRAM verifiers.

Reads ``{"wanted": {login: password}, "stored": {login: verifier or null}}`` from standard input
and writes ``{login: verifier}`` for every login whose stored verifier is not of its password.
Run by the role with the host's own Python, so that no password is ever part of an SQL statement.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
import sys

ITERATIONS = 4096  # PostgreSQL's own number
FORM = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+")


def verifier(password: str, salt: bytes, iterations: int) -> str:
    """Return what PostgreSQL stores of a password of ASCII characters (RFC 5803)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    said, kept, shown = (base64.b64encode(one).decode("ascii") for one in (salt, stored, server))
    return f"SCRAM-SHA-256${iterations}:{said}${kept}:{shown}"


def fits(password: str, known: str | None) -> bool:
    """Whether a stored verifier is of this password."""
    found = FORM.fullmatch(known or "")
    if found is None:
        return False
    again = verifier(password, base64.b64decode(found[2]), int(found[1]))
    return hmac.compare_digest(again, known or "")


def missing(wanted: dict[str, str], stored: dict[str, str | None]) -> dict[str, str]:
    """Return a new verifier for every login that has another password, or none."""
    return {
        login: verifier(password, secrets.token_bytes(16), ITERATIONS)
        for login, password in wanted.items()
        if not fits(password, stored.get(login))
    }


if __name__ == "__main__":
    given = json.load(sys.stdin)
    json.dump(missing(given["wanted"], given["stored"]), sys.stdout)
