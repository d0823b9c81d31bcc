"""Keeps a claim's lease alive while its worker works."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from cbm_core import db
from cbm_core.errors import CbmError
from cbm_core.settings import Settings
from cbm_extract.ledger import claims
from cbm_extract.ledger.states import Claim

_BEATS_PER_LEASE = 3


class Heartbeat:
    """Extends a lease from a thread of its own, three times per lease, for the length of a block.

    Each beat opens its own short session: it must neither wait for nor disturb the worker's
    transaction, and survives a restart of the database.
    """

    def __init__(self, settings: Settings, claim: Claim) -> None:
        """Prepare; the thread starts with the block."""
        self._settings, self._claim = settings, claim
        self._stop = threading.Event()
        self._lost = False
        self._extended = time.monotonic()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        """Start beating."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop beating, before the claim is given back."""
        self._stop.set()
        self._thread.join()

    def require(self) -> None:
        """Stop work that is for nothing.

        Raises:
            CbmError: ``lease_lost`` when another worker has taken over, or may have.

        """
        if self._lost or time.monotonic() - self._extended > self._claim.lease_seconds:
            raise claims.lease_lost(self._claim)

    def _beat(self) -> None:
        while not self._stop.wait(self._claim.lease_seconds / _BEATS_PER_LEASE):
            asked = time.monotonic()
            try:
                with (
                    db.session(self._settings) as connection,
                    db.transaction(connection) as cursor,
                ):
                    held = claims.extend(cursor, self._claim)
            except CbmError:
                # The database may be back at the next beat; until then the lease runs.
                continue
            if held:
                self._extended = asked
            else:
                self._lost = True
                return
