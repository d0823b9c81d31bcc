"""Random histories of a small ledger: whatever happens, an item is done by one holder at most.

The histories are the same in every run; CBM_MACHINE_EXAMPLES=1000 tries so many new ones.
"""

import os
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import date

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
from cbm_extract.ledger import claims, enqueue, overview, redo
from cbm_extract.ledger.enqueue import Wanted
from cbm_extract.ledger.states import MAX_ATTEMPTS, Scope
from cbm_extract.store import scenes, standing
from tests.factories import add_dataset, add_parcels, add_product, add_scene, sql, square

pytestmark = pytest.mark.postgis

ERRORS = st.sampled_from(["raster_damaged", "raster_unreachable"])
SCOPES = [None, "delta", "fill", "full"]  # each comprises the one before
SCENES = ("a", "b")
PRODUCTS = {"s2": "home", "clear": "all"}
YEAR = (date(2024, 1, 1), date(2024, 12, 31))


@dataclass
class Modelled:
    """What an item should be."""

    scene: str
    product: str
    state: str = "pending"
    attempts: int = 0
    covers: int = 0
    scope: str = "delta"
    next_scope: str | None = None
    token: int | None = None
    expired: bool = False

    def leave(self, state, attempts=None):
        self.state, self.token, self.expired = state, None, False
        self.attempts = self.attempts if attempts is None else attempts
        self.widen(self.next_scope)
        self.next_scope = None

    def widen(self, scope):
        self.scope = max(self.scope, scope, key=SCOPES.index)

    def ask(self, scope):
        """More is asked for; what was done or failed is put to work."""
        if self.state == "running":
            self.next_scope = max(self.next_scope, scope, key=SCOPES.index)
            return
        self.widen(scope)
        if self.state == "done" or scope == "full":
            self.state, self.attempts = "pending", 0


class LedgerMachine(RuleBasedStateMachine):
    """Models each item's state and holder; old claims are kept, so that late workers act.

    Two scenes are neighbours of one datatake with no rows stored: whenever one goes out of use, the
    other has a gap to fill under the product with home tiles.
    """

    db = connection = None
    dataset = 0
    products: dict[str, int] = {}
    keys: dict[int, tuple[str, str]] = {}  # item -> scene, product

    def __init__(self):
        super().__init__()
        with database.transaction(self.connection) as cursor:
            cursor.execute("UPDATE cbm.scene SET state = 'active', overruled = '{}'")
            cursor.execute(
                "UPDATE cbm.work_item SET state = 'pending', token = NULL, lease_until = NULL,"
                " attempts = 0, error_code = NULL, error = NULL, scope = 'delta',"
                " next_scope = NULL, parcel_set_id = 0"
            )
            cursor.execute("SELECT max(id) FROM cbm.parcel_set")
            self.newest = cursor.fetchone()[0]
        self.items = {item: Modelled(*key) for item, key in self.keys.items()}
        self.scenes = dict.fromkeys(SCENES, "active")
        self.claims = []

    def do(self, function, *arguments):
        with database.transaction(self.connection) as cursor:
            return function(cursor, *arguments)

    def pick(self, data):
        claim = data.draw(st.sampled_from(self.claims)) if self.claims else None
        if claim is None:
            return None, None
        return claim, data.draw(st.sampled_from(claim.items))

    def held(self, claim):
        mine = [self.items[item.id] for item in claim.items]
        return [item for item in mine if item.state == "running" and item.token == claim.token]

    @rule()
    def claim(self):
        for item in self.items.values():
            if item.expired and item.attempts >= MAX_ATTEMPTS:
                item.leave("failed")
        free = {
            number: item
            for number, item in self.items.items()
            if (item.state == "pending" or item.expired) and self.scenes[item.scene] == "active"
        }
        taken = self.do(claims.claim, Scope(), "w", 3600.0)
        if not free:
            assert taken is None
            return
        chosen = {self.items[item.id].scene for item in taken.items}
        mine = {number for number, item in free.items() if item.scene in chosen}
        assert (len(chosen), {item.id for item in taken.items}) == (1, mine)
        fewest = min(item.attempts for item in free.values())
        assert fewest in {free[number].attempts for number in mine}
        assert taken.token > max((c.token for c in self.claims), default=0)
        for item in taken.items:
            model = self.items[item.id]
            model.leave("running", model.attempts + 1)
            model.token = taken.token
            assert (item.attempts, item.scope, item.parcel_set_id) == (
                model.attempts, model.scope, model.covers,
            )  # fmt: skip
        self.claims.append(taken)

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
        for item in self.held(claim):
            item.expired = True

    @rule(data=st.data())
    def beat(self, data):
        claim, _ = self.pick(data)
        if claim is None:
            return
        held = self.held(claim)
        assert self.do(claims.extend, claim) == len(held)
        for item in held:
            item.expired = False

    @rule(data=st.data())
    def finish(self, data):
        claim, item = self.pick(data)
        if claim is None:
            return
        model = self.items[item.id]
        holds = model in self.held(claim)
        # Parcels may have come after its worker had looked.
        covers = self.newest - data.draw(st.integers(0, 1))
        state = None
        with suppress(CbmError):
            state = self.do(claims.finish, claim, item, covers)
        assert (state is not None) == holds
        if holds:
            then = model.next_scope
            more = then or covers < self.newest
            assert state == ("pending" if more else "done")
            model.leave(state, 0 if more else None)
            model.scope, model.covers = then or "delta", covers

    @rule(data=st.data(), code=ERRORS)
    def fail(self, data, code):
        claim, item = self.pick(data)
        if claim is None:
            return
        model = self.items[item.id]
        holds = model in self.held(claim)
        state = None
        with suppress(CbmError):
            state = self.do(claims.fail, claim, item, CbmError(code, "m"))
        assert (state is not None) == holds
        if holds:
            again = code == "raster_unreachable" and model.attempts < MAX_ATTEMPTS
            assert state == ("pending" if again else "failed")
            model.leave(state)

    @rule(data=st.data())
    def release_claim(self, data):
        claim, _ = self.pick(data)
        if claim is None:
            return
        held = self.held(claim)
        assert self.do(claims.release, claim) == len(held)
        for item in held:
            item.leave("pending", item.attempts - 1)

    @rule(data=st.data())
    def hold(self, data):
        claim, _ = self.pick(data)
        if claim is None:
            return
        held = self.held(claim)
        done = False
        with suppress(CbmError):
            self.do(claims.hold, claim, CbmError("suspect_offset", "m"))
            done = True
        assert done == bool(held)
        for item in held:
            item.leave("pending", 0)
        if held and self.scenes[held[0].scene] == "active":
            self.leave_use(held[0].scene, "held")

    def leave_use(self, scene, state):
        self.scenes[scene] = state
        for item in self.items.values():
            home = PRODUCTS[item.product] == "home"
            if item.scene != scene and home and (item.covers or item.state == "running"):
                item.ask("fill")

    def stand(self, scene, state):
        with database.transaction(self.connection) as cursor:
            scenes.lock(cursor)
            todo = standing.plan(cursor, standing.require(cursor, scene, None), state)
            standing.apply(cursor, todo, "test")
        return bool(todo.scenes)

    @rule(scene=st.sampled_from(SCENES))
    def retract(self, scene):
        before = self.scenes[scene]
        assert self.stand(scene, "retracted") == (before != "retracted")
        if before == "active":
            self.leave_use(scene, "retracted")
        self.scenes[scene] = "retracted"

    @rule(scene=st.sampled_from(SCENES))
    def release(self, scene):
        assert self.stand(scene, "active") == (self.scenes[scene] != "active")
        self.scenes[scene] = "active"

    @rule(data=st.data())
    def retry(self, data):
        number = data.draw(st.sampled_from(sorted(self.items)))
        model = self.items[number]
        changed = self.do(overview.retry, [number])
        assert changed == (model.state == "failed")
        if changed:
            model.leave("pending", 0)

    @rule(product=st.sampled_from(sorted(PRODUCTS)))
    def redo(self, product):
        scope = Scope(self.dataset, (self.products[product],))
        found = self.do(redo.find, scope, None)
        expected = {
            number
            for number, item in self.items.items()
            if item.product == product and item.covers
            and not (item.state == "running" and item.next_scope == "full")
            and not (item.state == "pending" and item.scope == "full")
        }  # fmt: skip
        assert {one.item_id for one in found} == expected
        self.do(redo.mark, "tt:2024", found, None)
        for number in expected:
            self.items[number].ask("full")

    @rule()
    def new_parcels(self):
        add_parcels(self.db, self.dataset, [square(500_000, 5_200_000)], layer=f"l{self.newest}")
        self.newest += 1

    @rule()
    def enqueue(self):
        wanted = [Wanted(name, "s2", number) for name, number in self.products.items()]
        expected = [
            item
            for item in self.items.values()
            if item.state == "done" and item.covers < self.newest
            and self.scenes[item.scene] == "active"
        ]  # fmt: skip
        with database.transaction(self.connection) as cursor:
            todo = enqueue.plan(cursor, self.dataset, wanted, *YEAR)
            assert enqueue.apply(cursor, todo, self.products) == len(expected)
        for item in expected:
            item.state, item.attempts = "pending", 0

    @invariant()
    def database_agrees(self):
        with database.transaction(self.connection) as cursor:
            cursor.execute(
                "SELECT id, state, token, attempts, scope, next_scope, parcel_set_id"
                " FROM cbm.work_item"
            )
            found = {row[0]: row[1:] for row in cursor.fetchall()}
            cursor.execute("SELECT reference, state FROM cbm.scene")
            assert dict(cursor.fetchall()) == self.scenes
        assert found == {
            number: (i.state, i.token, i.attempts, i.scope, i.next_scope, i.covers)
            for number, i in self.items.items()
        }


def test_random_histories(db):
    machine = LedgerMachine
    machine.db, machine.dataset = db, add_dataset(db)
    add_parcels(db, machine.dataset, [square(500_000, 5_200_000)])
    box = (499_000, 5_199_000, 501_000, 5_201_000)
    for name in SCENES:
        add_scene(db, {}, reference=name, tile=name, bounds=box)
    machine.products = {name: add_product(db, name) for name in PRODUCTS}
    for name, tiles in PRODUCTS.items():
        sql_owner(db, "UPDATE cbm.product SET definition = jsonb_build_object('tiles', %s::text)"
                      " WHERE name = %s", tiles, name)  # fmt: skip
    sql(db, "INSERT INTO cbm.work_item (scene_id, dataset_id, product_id)"
            " SELECT s.id, %s, p.id FROM cbm.scene s, cbm.product p", machine.dataset)  # fmt: skip
    machine.keys = {
        number: (scene, product)
        for number, scene, product in sql(
            db,
            "SELECT w.id, s.reference, p.name FROM cbm.work_item w"
            " JOIN cbm.scene s ON s.id = w.scene_id JOIN cbm.product p ON p.id = w.product_id",
        )
    }
    examples = os.environ.get("CBM_MACHINE_EXAMPLES")
    with closing(database.connect(db)) as connection:
        machine.connection = connection
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=int(examples or 40),
                derandomize=examples is None,
                database=None,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


def sql_owner(settings, statement, *parameters):
    with closing(database.connect(settings, "owner")) as owner, owner, owner.cursor() as cursor:
        cursor.execute("SET ROLE cbm_owner")
        cursor.execute(statement, parameters)
