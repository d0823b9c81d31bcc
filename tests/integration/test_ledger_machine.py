"""Random histories of a small ledger: whatever happens, an item is done by one holder at most."""

from contextlib import closing, suppress

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from cbm_core import db as database
from cbm_core.errors import CbmError
from cbm_extract.ledger import claims, overview
from cbm_extract.ledger.states import MAX_ATTEMPTS, Scope
from tests.factories import add_dataset, add_product, add_scene

pytestmark = pytest.mark.postgis

ERRORS = st.sampled_from(["raster_damaged", "raster_unreachable"])
ITEMS = 4  # two scenes, two products


class LedgerMachine(RuleBasedStateMachine):
    """Models each item's state and holder; old claims are kept, so that late workers act."""

    connection = None
    items: tuple[tuple[int, int], ...] = ()  # (item, scene)

    def __init__(self):
        super().__init__()
        with database.transaction(self.connection) as cursor:
            cursor.execute(
                "UPDATE cbm.work_item SET state = 'pending', token = NULL, lease_until = NULL,"
                " attempts = 0, error_code = NULL, error = NULL"
            )
        self.state = {item: "pending" for item, _ in self.items}
        self.scene = dict(self.items)
        self.holder = {}
        self.attempts = dict.fromkeys(self.state, 0)
        self.expired = set()
        self.claims = []

    def do(self, function, *arguments):
        with database.transaction(self.connection) as cursor:
            return function(cursor, *arguments)

    def pick(self, data):
        claim = data.draw(st.sampled_from(self.claims)) if self.claims else None
        if claim is None:
            return None, None
        return claim, data.draw(st.sampled_from(claim.items))

    def holds(self, claim, item):
        return self.state[item.id] == "running" and self.holder[item.id] == claim.token

    @rule()
    def claim(self):
        for item in sorted(self.expired):
            if self.attempts[item] >= MAX_ATTEMPTS:
                self.leave(item, "failed")
        open_items = {i for i, s in self.state.items() if s == "pending"} | self.expired
        taken = self.do(claims.claim, Scope(), "w", 3600.0)
        if not open_items:
            assert taken is None
            return
        mine = {i for i in open_items if self.scene[i] == taken.scene_id}
        assert {item.id for item in taken.items} == mine
        for item in taken.items:
            self.attempts[item.id] += 1
            assert item.attempts == self.attempts[item.id]
            assert taken.token > max((c.token for c in self.claims), default=0)
            self.state[item.id], self.holder[item.id] = "running", taken.token
            self.expired.discard(item.id)
        self.claims.append(taken)

    def leave(self, item, state):
        self.state[item] = state
        self.holder.pop(item, None)
        self.expired.discard(item)

    @rule(data=st.data())
    def lease_runs_out(self, data):
        claim, _ = self.pick(data)
        if claim is None:
            return
        with database.transaction(self.connection) as cursor:
            cursor.execute(
                "UPDATE cbm.work_item SET lease_until = now() - interval '1 s' WHERE token = %s",
                (claim.token,),
            )
        self.expired |= {item.id for item in claim.items if self.holds(claim, item)}

    @rule(data=st.data())
    def beat(self, data):
        claim, _ = self.pick(data)
        if claim is None:
            return
        held = {item.id for item in claim.items if self.holds(claim, item)}
        assert self.do(claims.extend, claim) == len(held)
        self.expired -= held

    @rule(data=st.data())
    def finish(self, data):
        claim, item = self.pick(data)
        if claim is None:
            return
        done = False
        with suppress(CbmError):
            self.do(claims.finish, claim, item, 1)
            done = True
        assert done == self.holds(claim, item)
        if done:
            self.leave(item.id, "done")

    @rule(data=st.data(), code=ERRORS)
    def fail(self, data, code):
        claim, item = self.pick(data)
        if claim is None:
            return
        state = None
        with suppress(CbmError):
            state = self.do(claims.fail, claim, item, CbmError(code, "m"))
        assert (state is not None) == self.holds(claim, item)
        if state:
            again = code == "raster_unreachable" and self.attempts[item.id] < MAX_ATTEMPTS
            assert state == ("pending" if again else "failed")
            self.leave(item.id, state)

    @rule(data=st.data())
    def release(self, data):
        claim, _ = self.pick(data)
        if claim is None:
            return
        held = [item.id for item in claim.items if self.holds(claim, item)]
        assert self.do(claims.release, claim) == len(held)
        for item in held:
            self.attempts[item] -= 1
            self.leave(item, "pending")

    @rule(data=st.data())
    def retry(self, data):
        item = data.draw(st.sampled_from(sorted(self.state)))
        changed = self.do(overview.retry, [item])
        assert changed == (self.state[item] == "failed")
        if changed:
            self.attempts[item] = 0
            self.leave(item, "pending")

    @invariant()
    def database_agrees(self):
        with database.transaction(self.connection) as cursor:
            cursor.execute("SELECT id, state, token, attempts FROM cbm.work_item")
            found = {row[0]: row[1:] for row in cursor.fetchall()}
        assert found == {
            item: (state, self.holder.get(item), self.attempts[item])
            for item, state in self.state.items()
        }


def test_random_histories(db):
    dataset = add_dataset(db)
    scenes = [add_scene(db, {}, reference=name) for name in ("a", "b")]
    products = [add_product(db, name) for name in ("s2", "clear")]
    with closing(database.connect(db)) as connection:
        with database.transaction(connection) as cursor:
            for scene in scenes:
                for product in products:
                    cursor.execute(
                        "INSERT INTO cbm.work_item (scene_id, dataset_id, product_id)"
                        " VALUES (%s, %s, %s)",
                        (scene, dataset, product),
                    )
            cursor.execute("SELECT id, scene_id FROM cbm.work_item ORDER BY id")
            LedgerMachine.items = tuple(cursor.fetchall())
        assert len(LedgerMachine.items) == ITEMS
        LedgerMachine.connection = connection
        run_state_machine_as_test(
            LedgerMachine,
            settings=settings(
                max_examples=40,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
