"""Plans: what is inserted, updated and flagged, whatever the order in which scenes arrive."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from cbm_extract.catalogue.register import Key, Known, key_of, plan
from cbm_extract.scene import BandAsset
from tests.unit.catalogue.scenes import START, area, scene

LATE = START + timedelta(days=30)
STRIP = START - timedelta(seconds=5)


class Shelf:
    """A catalogue in memory that does what plans say, as the store does."""

    def __init__(self):
        self.rows: dict[Key, Known] = {}

    def add(self, *scenes):
        done = plan(self.rows.values(), scenes)
        for new in done.inserts:
            self.rows[key_of(new)] = Known(len(self.rows) + 1, new)
        for update in done.updates:
            key = key_of(update.after)
            self.rows[key] = replace(self.rows[key], scene=update.after)
        for change in done.states:
            by = change.after.superseded_by
            self.rows[change.key] = replace(
                self.rows[change.key],
                state=change.after.state,
                superseded_by=self.rows[by].id if by else None,
            )
        return done

    def set(self, name, state):
        key = Key("s2", name, "")
        self.rows[key] = replace(self.rows[key], state=state, superseded_by=None)

    @property
    def active(self):
        return {key.reference for key, row in self.rows.items() if row.state == "active"}


def older(**changes):
    return scene("A", datastrip=STRIP, **changes)


def newer(**changes):
    return scene("B", datastrip=STRIP, generation_time=LATE, **changes)


def test_adding_and_adding_again():
    shelf = Shelf()
    first = shelf.add(older(), newer())
    assert [s.reference for s in first.inserts] == ["A", "B"]
    assert shelf.active == {"B"}
    assert first.lines == ["add s2 A", "add s2 B", "supersede s2 A by B"]
    assert first.describe(after=False) == ""
    assert first.describe(after=True) == "s2 A: superseded by B\ns2 B: active\n"
    again = shelf.add(older(), newer())
    assert not again.changes
    assert again.lines == []
    assert again.unchanged == 2
    assert again.describe(after=False) == again.describe(after=True) == ""


def test_a_newer_product_arrives_later():
    shelf = Shelf()
    shelf.add(older())
    done = shelf.add(newer())
    assert done.describe(after=False) == "s2 A: active\n"
    assert done.describe(after=True) == "s2 A: superseded by B\ns2 B: active\n"
    assert shelf.rows[Key("s2", "A", "")].superseded_by == shelf.rows[Key("s2", "B", "")].id


def test_an_older_product_arrives_later():
    shelf = Shelf()
    shelf.add(newer())
    shelf.add(older())
    assert shelf.active == {"B"}


def test_the_superseding_scene_is_itself_superseded():
    shelf = Shelf()
    shelf.add(older(), newer())
    done = shelf.add(scene("C", datastrip=STRIP, baseline="N0510"))
    assert shelf.active == {"C"}
    # Both point to the one in use.
    assert {str(change.after) for change in done.states} == {"superseded by C"}
    assert len(done.states) == 2


def test_changed_assets_are_an_update_and_keep_the_id():
    shelf = Shelf()
    shelf.add(older())
    before = shelf.rows[Key("s2", "A", "")].id
    moved = older(assets={"B04": BandAsset("/elsewhere/B04.tif")}, source="/elsewhere")
    done = shelf.add(moved)
    assert [update.changed for update in done.updates] == [("assets",)]
    assert done.lines == ["change s2 A: assets"]
    assert "/data/A/B04.tif" in done.describe(after=False)
    assert "/elsewhere/B04.tif" in done.describe(after=True)
    assert shelf.rows[Key("s2", "A", "")].id == before
    assert not shelf.add(moved).changes


def test_another_source_alone_is_no_change():
    shelf = Shelf()
    shelf.add(older())
    assert not shelf.add(older(source="../data")).changes


def test_cloud_cover_is_compared_as_it_is_stored():
    shelf = Shelf()
    shelf.add(older(cloud_percent=51.580326))
    key = Key("s2", "A", "")
    row = shelf.rows[key]
    shelf.rows[key] = replace(row, scene=replace(row.scene, cloud_percent=51.58032608))
    assert not shelf.add(older(cloud_percent=51.580326)).changes
    assert shelf.add(older(cloud_percent=52.0)).updates[0].changed == ("cloud_percent",)


def test_the_observation_time_stays():
    shelf = Shelf()
    shelf.add(older())
    later = older(obstime=START + timedelta(minutes=9))
    done = shelf.add(later)
    assert not done.changes
    assert any("observation time" in text for text in done.warnings)
    shelf.add(replace(later, tile="32TNT"))
    assert shelf.rows[Key("s2", "A", "")].scene.obstime == older().obstime


def test_an_update_can_bring_another_scene_back():
    shelf = Shelf()
    shelf.add(older(), newer())
    done = shelf.add(newer(tile="32TNT"))
    assert shelf.active == {"A", "B"}
    assert "use s2 A again" in done.lines


def test_scenes_set_aside_neither_supersede_nor_change():
    for state in ("held", "retracted"):
        shelf = Shelf()
        shelf.add(older(), newer())
        shelf.set("B", state)
        shelf.add(newer())
        assert shelf.active == {"A"}
        assert shelf.rows[Key("s2", "B", "")].state == state


def test_parts_are_scenes_of_their_own():
    shelf = Shelf()
    done = shelf.add(older(part="x"), older(part="y"), newer(part="x"))
    assert len(done.inserts) == 3
    assert {key.part for key, row in shelf.rows.items() if row.state == "active"} == {"x", "y"}
    assert "add s2 A part y" in done.lines


def test_repeated_scenes():
    done = plan([], [older(), older(), older(tile="32TNT")])
    assert len(done.inserts) == 1
    assert done.inserts[0].tile == "32TMT"
    assert done.warnings == ["1 scenes are there more than once; the first was taken"]


def test_several_in_use_are_reported():
    done = plan([], [older(), replace(newer(), datastrip=STRIP + timedelta(seconds=30))])
    assert not done.states
    assert any("1 acquisitions keep several products" in text for text in done.warnings)


pool = [
    scene(f"{baseline}{strip}{west}{day}", baseline=baseline, datastrip=when,
          footprint=area(west, west + 1), generation_time=START + timedelta(days=day))
    for baseline in ("N0400", "N0510", "N9999")
    for strip, when in (("-", None), ("a", STRIP), ("b", STRIP + timedelta(seconds=30)))
    for west in (8.0, 8.5)
    for day in (1, 2)
]  # fmt: skip


@given(st.lists(st.sampled_from(pool), max_size=7), st.data())
def test_batches_in_any_order_end_the_same(scenes, data):
    whole = Shelf()
    whole.add(*scenes)
    shuffled = data.draw(st.permutations(scenes))
    cut = data.draw(st.integers(0, len(shuffled)))
    batches = Shelf()
    batches.add(*shuffled[:cut])
    batches.add(*shuffled[cut:])
    standing = [
        {
            key.reference: next(
                (k.reference for k, r in shelf.rows.items() if r.id == row.superseded_by), None
            )
            for key, row in shelf.rows.items()
        }
        for shelf in (whole, batches)
    ]
    assert standing[0] == standing[1]
    assert not batches.add(*scenes).changes
