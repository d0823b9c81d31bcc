"""Access tokens of the agency's identity provider: signed JWTs (RFC 7519, RFC 9068)."""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from joserfc import errors, jwt
from joserfc.jwk import KeySet

from cbm_core.errors import CbmError
from cbm_core.settings import ApiSettings

_log = logging.getLogger("cbm_api")

# Public keys only: with HS256 a public key would pass for the secret.
ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"),
    *("EdDSA", "Ed25519"),
)
KEYS_SECONDS = 3600
RETRY_SECONDS = 60
# Between attempts while there are no keys at all.
_PAUSE_SECONDS = 3
_LEEWAY_SECONDS = 30
_TIMEOUT_SECONDS = 5
_MOST_BYTES = 2**20
# What tokens and key sets that are none make of the parser; deep JSON exhausts the stack.
_REFUSED = (errors.JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


class Provider:
    """The identity provider of the settings; its keys are read when first needed."""

    def __init__(self, issuer: str, audience: str, keys: str, claim: str) -> None:
        """Prepare; ``keys`` is a file or an https address of a JWK set (RFC 7517)."""
        self._claim = claim
        self._source = keys
        self._claims = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
        )
        self._keys: KeySet | None = None
        self._read_at = float("-inf")
        self._lock = threading.Lock()

    @classmethod
    def of(cls, settings: ApiSettings) -> Provider | None:
        """Return the provider of the settings; None without one."""
        if not (settings.oidc_issuer and settings.oidc_audience and settings.oidc_jwks):
            return None
        return cls(
            settings.oidc_issuer, settings.oidc_audience, settings.oidc_jwks, settings.oidc_claim
        )

    def user_name(self, token: str) -> str:
        """Return what the token's claim names the user.

        Raises:
            CbmError: ``token_expired``; ``login_failed`` when it is not a token of the issuer for
                this API; ``identity_provider_unreachable`` when there are no keys to check with.

        """
        try:
            claims = self._decode(token)
            self._claims.validate(claims)
        except errors.ExpiredTokenError:
            raise CbmError("token_expired", "The token has expired.", "Log in anew.") from None
        except _REFUSED as error:
            _log.info("token refused: %s", error)
            raise CbmError("login_failed", "The token is not one of this API's users.") from None
        name = claims.get(self._claim)
        if not isinstance(name, str):
            raise CbmError("login_failed", f"The token has no claim {self._claim}.")
        return name

    def _decode(self, token: str) -> dict[str, Any]:
        keys = self._current(KEYS_SECONDS)
        try:
            return jwt.decode(token, keys, algorithms=ALGORITHMS).claims
        except errors.InvalidKeyIdError:
            # The provider may have changed its keys.
            renewed = self._current(RETRY_SECONDS)
            if renewed is keys:
                raise
            return jwt.decode(token, renewed, algorithms=ALGORITHMS).claims

    def _current(self, oldest: float) -> KeySet:
        """Return the keys; read anew where they are older. Old ones serve while none are had."""
        with self._lock:
            age = time.monotonic() - self._read_at
            if age >= (oldest if self._keys else _PAUSE_SECONDS):
                try:
                    self._keys = KeySet.import_key_set(json.loads(_read(self._source)))
                except (*_REFUSED, OSError) as error:
                    _log.error("no keys from %s: %s", self._source, error)
                self._read_at = time.monotonic()
            if self._keys is None:
                raise CbmError(
                    "identity_provider_unreachable",
                    "The identity provider's keys cannot be read.",
                    "Ask again, or use a password.",
                )
            return self._keys


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any) -> None:
        """Follow nothing: the keys come from where the settings say."""


def _read(source: str) -> bytes:
    if not source.startswith("https://"):
        return Path(source).read_bytes()
    opener = urllib.request.build_opener(_NoRedirect)
    with opener.open(source, timeout=_TIMEOUT_SECONDS) as response:
        content: bytes = response.read(_MOST_BYTES)
    return content
