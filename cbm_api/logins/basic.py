"""Logins with user and password (RFC 7617), sent with every request by clients of all ages."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import logging
import secrets
import threading
import time
from collections import OrderedDict

from cbm_api.database import Database
from cbm_api.logins import store
from cbm_core.errors import CbmError
from cbm_core.users import passwords
from cbm_core.users import store as users

_log = logging.getLogger("cbm_api")

REMEMBERED_SECONDS = 300
_REMEMBERED = 1024
# argon2 takes 64 MB and a core's time for each password; so many at once, others wait.
_AT_ONCE = 2
_WAIT_SECONDS = 5
# Where a server is reached over a socket of the file system, its clients have no address.
_NOWHERE = "0.0.0.0"  # noqa: S104


def parse(header: str) -> tuple[str, str] | None:
    """Return user and password of an Authorization header; None where it is no Basic login.

    Text is UTF-8; what is not is Latin-1, as Python's requests sends it.
    """
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(rest.strip(" \t"), validate=True)
    except (binascii.Error, ValueError):
        return None
    try:
        text = decoded.decode()
    except UnicodeDecodeError:
        text = decoded.decode("latin-1")
    name, colon, password = text.partition(":")
    return (name, password) if colon else None


def network(address: str | None) -> str:
    """Return what failures of an address are counted under: itself, of IPv6 its /64."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return _NOWHERE
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


class Passwords:
    """Checks passwords of one process; the right ones are remembered as keyed digests."""

    def __init__(self, database: Database) -> None:
        """Start with nothing remembered, under a key that nobody else has."""
        self._database = database
        self._key = secrets.token_bytes(32)
        self._until: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(_AT_ONCE)

    def check(self, name: str, password: str, address: str | None) -> str:
        """Return the user's name.

        Raises:
            CbmError: ``login_failed``; ``locked_out`` after too many failures, whether or not the
                password is right; ``busy`` when too many passwords are being checked; as
                :meth:`cbm_api.database.Database.transaction`.

        """
        counted = network(address)
        if not users.is_name(name):
            raise self._failed(None, counted)
        with self._database.transaction(None) as cursor:
            account = store.account(cursor, name, counted)
        if account.locked_seconds:
            raise CbmError(
                "locked_out",
                f"Too many logins failed; no other is looked at for {account.locked_seconds} s.",
                "Wait, and see that password and user are right.",
                retry_after=account.locked_seconds,
            )
        if not self._is_right(name, password, account.password_hash):
            raise self._failed(name, counted)
        if account.has_failures:
            with self._database.transaction(None) as cursor:
                store.forget_failures(cursor, name, counted)
        return name

    def _is_right(self, name: str, password: str, stored: str | None) -> bool:
        """Compare with the stored hash; what was right with this very hash just now still is."""
        text = "\0".join((name, stored or "", password))
        digest = hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
        now = time.monotonic()
        with self._lock:
            if self._until.get(digest, 0.0) > now:
                return True
        # Longer ones cannot have been set, and would cost.
        if len(password) > passwords.LONGEST:
            return False
        if not self._free.acquire(timeout=_WAIT_SECONDS):
            raise CbmError("busy", "Too many logins are being checked.", "Ask again.")
        try:
            right = passwords.matches(stored, password)
        finally:
            self._free.release()
        if right:
            with self._lock:
                self._until.pop(digest, None)
                self._until[digest] = now + REMEMBERED_SECONDS
                if len(self._until) > _REMEMBERED:
                    self._until.popitem(last=False)
        return right

    def _failed(self, name: str | None, address: str) -> CbmError:
        with self._database.transaction(None) as cursor:
            store.count_failure(cursor, name, address)
        _log.warning("failed login of %s from %s", name or "an impossible name", address)
        return CbmError("login_failed", "User or password is wrong.")
