"""The client: everything of the API under one name."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from cbm_client.images import Chips
from cbm_client.jobs import Jobs
from cbm_client.parcels import Parcels
from cbm_client.series import Series
from cbm_client.transport import Transport, login


class Client(Parcels, Series, Chips, Jobs):
    """Asks one API as one user; each thread has its own.

    Args:
        url: The API's address, ``https://cbm.example``; http on this machine alone, past any
            proxy.
        user: Who asks, with ``password``.
        password: Of the user.
        token: Instead of user and password.
        ca: File with the certificates that the server's is signed by; left out, those that
            ``REQUESTS_CA_BUNDLE`` or certifi has. The certificate is always checked.
        timeout: Seconds that the server may say nothing for.
        patience: Seconds that a request waits in all where the server asks to come again (429 and
            503 with ``Retry-After``), or a proxy does not reach it (502, 504; what changes nothing
            is then asked for again); then :class:`ApiError` is raised.

    Raises:
        ValueError: The address or the login is not as it should be.
        FileNotFoundError: There is no file ``ca``.

    """

    def __init__(
        self,
        url: str,
        user: str | None = None,
        password: str | None = None,
        *,
        token: str | None = None,
        ca: str | Path | None = None,
        timeout: float = 120,
        patience: float = 60,
    ) -> None:
        self._transport = Transport(url, login(user, password, token), ca, timeout, patience)

    def __repr__(self) -> str:
        return f"Client({self._transport.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()
