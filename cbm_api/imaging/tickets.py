"""Signed addresses of images, for clients that fetch them without a login.

The predecessor's client asks with a login where a chip is, and then fetches it without one. So the
address is a ticket: it says who asked for what, until when, and nobody can make or change one
without the secret. What it asks for is checked against that user's grants again when it is used.
"""

from __future__ import annotations

from typing import Any

from itsdangerous import BadSignature, SignatureExpired, URLSafeTimedSerializer

from cbm_api.queries import tickets
from cbm_core.db import Cursor
from cbm_core.errors import CbmError

LIFE_SECONDS = 3600


class Desk:
    """Issues and takes tickets of one kind."""

    def __init__(self, cursor: Cursor, kind: str) -> None:
        """Read the secret; any cursor will do."""
        self._signer = URLSafeTimedSerializer(tickets.secret(cursor), salt=kind)

    def issue(self, user: str, *wish: Any) -> str:
        """Return a ticket, safe in a URL's path; ``wish`` is what JSON can say."""
        text: str | bytes = self._signer.dumps([user, *wish])
        return text if isinstance(text, str) else text.decode()

    def take(self, cursor: Cursor, text: str) -> tuple[str, list[Any]]:
        """Return the user and the wish of a ticket.

        Raises:
            CbmError: ``token_expired``; ``login_failed`` when it is none of ours, or its user was
                disabled.

        """
        try:
            user, *wish = self._signer.loads(text, max_age=LIFE_SECONDS)
        except SignatureExpired:
            raise CbmError(
                "token_expired", "This address is no longer valid.", "Ask for the list again."
            ) from None
        except BadSignature:
            raise CbmError("login_failed", "This address was not made here.") from None
        if tickets.is_disabled(cursor, user):
            raise CbmError("login_failed", "The user of this address was disabled.")
        return user, wish
