"""The states of a work item and every way from one to another.

An item is (scene, dataset, product): all statistics of a dataset's parcels in a scene under one
product. ``parcel_set_id`` is the newest parcel set its stored rows cover, ``scope`` what an open
item is to do:

* *delta*: geometries of parcel sets newer than ``parcel_set_id``; rows are inserted.
* *fill*: as well those without a row that no better tile serves any more; rows are inserted.
* *full*: everything again; where rows come out otherwise, the old ones are archived and replaced.

=========  =========  =============  ============================================================
from       to         by             when
=========  =========  =============  ============================================================
(none)     pending    enqueue        scene, dataset and product were never paired before
pending    running    claim          the scene is active: new token, lease, attempts + 1
running    running    claim          the lease ran out: another worker takes over, as above
running    running    heartbeat      the token holds: the lease is extended
running    done       finish         the token holds; in the transaction that writes the rows
running    pending    finish         as above, where more was asked for or imported meanwhile
running    failed     fail           the token holds; the cause is lasting, or attempts are used up
running    failed     claim          the lease ran out on the last attempt (code ``worker_lost``)
running    pending    fail           the token holds; the cause may pass and attempts are left
running    pending    release        the token holds; interrupted: the attempt is not counted
running    pending    hold           the token holds; the scene was found unfit and is held
done       pending    enqueue        newer parcel sets brought geometries under the scene (delta)
done       pending    scene left     a better tile went out of use and left a gap (fill)
done       pending    redo           an operator asked for everything again (full)
failed     pending    redo           as above, where rows are stored
failed     pending    retry          an operator asked: attempts start again from 0
=========  =========  =============  ============================================================

What is open already only gets the wider scope; what is running keeps its scope and remembers the
request in ``next_scope``, because its worker may have looked before. *Scene left* is a trigger on
``cbm.scene`` (migration 0006), so that whoever takes a scene out of use reopens its neighbours.

*The token holds* means: the row still has the token of the claim and is running. A worker that
slept past its lease has lost the token to its successor, so that its transaction matches no row
and is rolled back (``lease_lost``): nothing is written twice. Tokens only rise.

A running item whose worker died stays running until its lease runs out; nothing else needs to
notice. Items of scenes that are not active (superseded, held, retracted) are left as they are and
never claimed; they are open again when the scene is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg2 import sql

STATES = ("pending", "running", "done", "failed")

# How often an item is tried before it counts as failed.
MAX_ATTEMPTS = 5

DEFAULT_LEASE_SECONDS = 120.0

# What an item is to do; each comprises the one before.
DELTA, FILL, FULL = "delta", "fill", "full"

# Causes that may pass by themselves. Everything else is a property of the data or of the software,
# and fails at once: trying again would only hide it for longer.
TRANSIENT_CODES = frozenset(
    "raster_unreachable raster_changed staging_full"
    " database_lost database_timeout database_full".split()
)


@dataclass(frozen=True)
class Scope:
    """Which items a worker looks at: of one dataset or all, of some products or all."""

    dataset_id: int | None = None
    product_ids: tuple[int, ...] | None = None

    def parameters(self) -> dict[str, object]:
        """Return the parameters of :data:`IN_SCOPE`."""
        products = None if self.product_ids is None else list(self.product_ids)
        return {"dataset_id": self.dataset_id, "product_ids": products}


# The condition that work_item w is in a Scope.
IN_SCOPE = sql.SQL("""(%(dataset_id)s::smallint IS NULL OR w.dataset_id = %(dataset_id)s)
  AND (%(product_ids)s::smallint[] IS NULL OR w.product_id = ANY(%(product_ids)s))""")


@dataclass(frozen=True)
class Item:
    """A claimed work item. ``parcel_set_id`` is what its stored rows cover (0: nothing yet)."""

    id: int
    dataset_id: int
    product_id: int
    parcel_set_id: int
    attempts: int
    scope: str = DELTA


@dataclass(frozen=True)
class Claim:
    """A scene with all its open items in scope, leased to ``worker`` under ``token``."""

    scene_id: int
    token: int
    worker: str
    lease_seconds: float
    started_at: datetime
    items: tuple[Item, ...]
