"""Which product of an acquisition is in use."""

from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box

from cbm_extract.catalogue import footprint
from cbm_extract.catalogue.identity import (
    Candidate,
    acquisition,
    candidate,
    rank,
    resolve,
    supersedes,
)
from tests.unit.catalogue.scenes import EXTENT, START, area, scene

EARLY, LATE = START + timedelta(hours=6), START + timedelta(days=30)
STRIP_A, STRIP_B = START - timedelta(seconds=5), START + timedelta(seconds=9)
WEST, EAST, ALL = box(0, 0, 1, 1), box(1, 0, 2, 1), box(0, 0, 2, 1)


def winners(*products: Candidate) -> set[str]:
    return {name for name, winner in resolve(products).items() if winner is None}


def product(name: str, baseline="N0400", time=EARLY, strip=STRIP_A, where=ALL, only=False):
    return Candidate(name, baseline, time, None if only else strip, only, where)


@pytest.mark.parametrize(
    ("products", "expected"),
    [
        # The same datastrip: newest baseline, then newest generation.
        ([product("a"), product("b", time=LATE)], {"b"}),
        ([product("a", "N0510"), product("b", "N0400", LATE)], {"a"}),
        ([product("a", "N0400", LATE), product("b", "N0400", LATE)], {"b"}),
        # N9999 ranks lowest, however new.
        ([product("a", "N0400"), product("b", "N9999", LATE)], {"a"}),
        ([product("a", "N9999"), product("b", "N9999", LATE)], {"b"}),
        # Different datastrips are different parts of the tile.
        ([product("a", strip=STRIP_A), product("b", "N0510", LATE, STRIP_B)], {"a", "b"}),
        # Unknown datastrip, same baseline: only if the older area is covered.
        ([product("a", strip=None), product("b", time=LATE, strip=None)], {"b"}),
        ([product("a", strip=None), product("b", time=LATE, strip=None, where=WEST)], {"a", "b"}),
        ([product("a", where=EAST), product("b", time=LATE, strip=None, where=WEST)], {"a", "b"}),
        ([product("a", where=EAST), product("b", time=LATE, strip=None)], {"b"}),
        # An area that is only the raster's rectangle proves nothing.
        ([product("a", strip=None), product("b", time=LATE, strip=None, where=None)], {"a", "b"}),
        ([product("a", strip=None, where=None), product("b", time=LATE, strip=None)], {"a", "b"}),
        # Unknown datastrip, another baseline: supersedes.
        ([product("a", strip=None), product("b", "N0510", strip=None, where=None)], {"b"}),
        # An unknown baseline is no other baseline.
        (
            [product("a", None, strip=None, where=EAST), product("b", strip=None, where=WEST)],
            {"a", "b"},
        ),
        # A source that knows of a single datastrip needs no area.
        (
            [product("a", only=True, strip=None, where=None), product("b", time=LATE, where=None)],
            {"b"},
        ),
        # b falls to c; a, of another datastrip than c, stays although b would have superseded it.
        (
            [
                product("a", "N0400", strip=STRIP_A),
                product("b", "N0500", strip=None),
                product("c", "N0510", strip=STRIP_B),
            ],
            {"a", "c"},
        ),
    ],
)
def test_rules(products, expected):
    for order in permutations(products):
        assert winners(*order) == expected


def test_a_sliver_does_not_save_the_older_product():
    # Two processings draw the edge a little differently.
    newer = product("b", time=LATE, strip=None, where=box(0, 0, 1.995, 1))
    assert winners(product("a", strip=None), newer) == {"b"}


times = st.one_of(st.none(), st.sampled_from([EARLY, LATE]))
candidates = st.lists(
    st.builds(
        Candidate,
        reference=st.uuids().map(str),
        baseline=st.sampled_from([None, "N0214", "N0400", "N0510", "N9999"]),
        generation_time=times,
        datastrip=st.sampled_from([None, STRIP_A, STRIP_B]),
        only_datastrip=st.booleans(),
        footprint=st.sampled_from([None, WEST, EAST, ALL]),
    ),
    max_size=7,
    unique_by=lambda c: c.reference,
)


@given(candidates, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(products, random):
    expected = resolve(products)
    shuffled = list(products)
    random.shuffle(shuffled)
    assert resolve(shuffled) == expected


@given(candidates)
def test_every_hidden_product_is_hidden_by_a_newer_one_in_use(products):
    by_name = {p.reference: p for p in products}
    result = resolve(products)
    assert set(result) == set(by_name)
    for name, winner in result.items():
        if winner is None:
            continue
        assert result[winner] is None
        assert rank(by_name[winner]) > rank(by_name[name])
        assert supersedes(by_name[winner], by_name[name])
    for name in (n for n, w in result.items() if w is None):
        others = [by_name[o] for o, w in result.items() if w is None and o != name]
        assert not any(supersedes(other, by_name[name]) for other in others)


@given(candidates)
def test_the_newest_is_in_use(products):
    if products:
        assert resolve(products)[max(products, key=rank).reference] is None


def test_known_datastrips_never_mix():
    products = [
        product(f"{strip}{i}", f"N0{i}00", strip=strip)
        for strip in (STRIP_A, STRIP_B)
        for i in (2, 4, 5)
    ]
    assert {n[-1] for n in winners(*products)} == {"5"}
    assert len(winners(*products)) == 2


def test_acquisition_does_not_depend_on_milliseconds():
    exact = scene(datatake_start=START.replace(microsecond=24000))
    assert acquisition(exact) == acquisition(scene())
    assert acquisition(scene(tile="32TNT")) != acquisition(scene())
    assert acquisition(scene(part="Witzwil")) != acquisition(scene())
    assert acquisition(scene(card="bs")) != acquisition(scene())


def test_candidate_of_a_scene():
    assert candidate(scene(datastrip=STRIP_A)).datastrip == STRIP_A
    only = candidate(scene(datastrip=START.replace(microsecond=24000)))
    assert only.only_datastrip
    assert only.datastrip is None
    assert candidate(scene()).footprint.equals(box(8, 47, 9, 48))
    rectangle = replace(scene(), footprint=footprint.from_extent(EXTENT))
    assert candidate(rectangle).footprint is None


def test_areas_of_scenes():
    assert winners(
        candidate(scene("A", footprint=area(8, 8.5))),
        candidate(scene("B", footprint=area(8, 9), generation_time=LATE)),
    ) == {"B"}
