"""What signed addresses need of the database."""

from __future__ import annotations

from cbm_core.db import Cursor, one_row


def secret(cursor: Cursor) -> str:
    """Return what addresses are signed with."""
    cursor.execute("SELECT secret FROM cbm.api_secret")
    return str(one_row(cursor)[0])


def is_disabled(cursor: Cursor, user: str) -> bool:
    """Say whether a user is known and disabled; users of a login service are not known."""
    cursor.execute(
        "SELECT EXISTS (SELECT FROM cbm.api_user WHERE name = %s AND disabled_at IS NOT NULL)",
        (user,),
    )
    return bool(one_row(cursor)[0])
