"""How much one user may ask: requests in a minute, and requests in work at once."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from cbm_core.errors import CbmError


class Pace:
    """Counts the requests of one process by who asks."""

    def __init__(self, per_minute: int, at_once: int) -> None:
        """Start with nothing counted."""
        self._rate = RateLimitItemPerMinute(per_minute)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._at_once = at_once
        self._in_work: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, who: str) -> None:
        """Count a request.

        Raises:
            CbmError: ``too_many_requests`` beyond what is answered in a minute.

        """
        if self._limiter.hit(self._rate, who):
            return
        seconds = self._limiter.get_window_stats(self._rate, who).reset_time - time.time()
        raise CbmError(
            "too_many_requests",
            f"More than {self._rate.amount} requests in a minute.",
            "Ask more slowly; bulk requests take many parcels at once.",
            retry_after=max(1, math.ceil(seconds)),
        )

    def enter(self, who: str) -> None:
        """Take a request into work, until :meth:`leave`; each holds a thread.

        Raises:
            CbmError: ``too_many_requests`` when as many are in work as may be.

        """
        with self._lock:
            if self._in_work[who] < self._at_once:
                self._in_work[who] += 1
                return
        raise CbmError(
            "too_many_requests",
            f"{self._at_once} of your requests are being answered.",
            "Ask again when one is; send fewer at once.",
            retry_after=1,
        )

    def leave(self, who: str) -> None:
        """Say that a request is answered."""
        with self._lock:
            self._in_work[who] -= 1
            if not self._in_work[who]:
                del self._in_work[who]
