"""What imports of several dates make of a layer; checked in the database."""

import pytest
import shapely

from cbm_core.errors import CbmError
from tests.integration import imports
from tests.integration.imports import (
    FOREVER,
    JULY,
    JUNE,
    START,
    active,
    counts,
    everything,
    known,
    query,
)
from tests.unit.parcels import files

pytestmark = pytest.mark.postgis


@pytest.fixture
def dataset(db):
    return imports.dataset(db)


@pytest.fixture
def put(dataset, tmp_path):
    return imports.put(dataset, tmp_path)


def test_what_was_known_is_kept(put, dataset):
    put(files.frame(1, crop=[1]))
    first = query(dataset, "SELECT clock_timestamp()")[0][0]
    put(files.frame(1, crop=[2]))
    as_of = """SELECT crop_code FROM cbm.parcel WHERE known_from <= %s AND known_to > %s"""
    assert query(dataset, as_of, first, first) == [("1",)]
    now = query(dataset, "SELECT clock_timestamp()")[0][0]
    assert query(dataset, as_of, now, now) == [("2",)]
    rows = query(dataset, "SELECT known_to FROM cbm.parcel WHERE known_to <> 'infinity'")
    starts = query(dataset, "SELECT known_from FROM cbm.parcel WHERE known_to = 'infinity'")
    assert rows == starts, "no moment without knowledge and none with two truths"


def test_the_same_date_corrects_a_later_one_keeps_the_past(put, dataset):
    put(files.frame(3, crop=[1, 2, 3]))
    changed = files.frame(3, crop=[1, 9, 3]).iloc[:2]
    assert counts(put(changed, valid_from=JUNE)) == (0, 1, 1)
    assert known(dataset) == [
        ("p1", "1", START, FOREVER),
        ("p2", "2", START, JUNE),
        ("p2", "9", JUNE, FOREVER),
        ("p3", "3", START, JUNE),
    ]
    corrected = files.frame(2, crop=[1, 8])
    assert counts(put(corrected, valid_from=JUNE)) == (0, 1, 0)
    assert known(dataset)[1:3] == [("p2", "2", START, JUNE), ("p2", "8", JUNE, FOREVER)]
    back = files.frame(3, crop=[1, 8, 3])
    assert counts(put(back, valid_from=JULY)) == (1, 0, 0)
    assert known(dataset)[3:] == [("p3", "3", START, JUNE), ("p3", "3", JULY, FOREVER)]
    overlapping = query(
        dataset,
        """SELECT a.pid FROM cbm.parcel a JOIN cbm.parcel b
             ON a.layer = b.layer AND a.pid = b.pid AND a.id < b.id
           WHERE a.known_to = 'infinity' AND b.known_to = 'infinity'
             AND daterange(a.valid_from, a.valid_to) && daterange(b.valid_from, b.valid_to)""",
    )
    assert overlapping == []


def test_a_past_geometry_stays_active(put, dataset):
    """Images before the change are still to be reduced with what was there then."""
    put(files.frame(1))
    before, _ = active(dataset)
    moved = files.frame(geometry=[shapely.box(0, 0, 50, 50)])
    put(moved, valid_from=JUNE)
    after, ids = active(dataset)
    assert ids == [before["p1"], after["p1"]]


def test_an_import_does_not_undo_what_is_known_of_a_later_date(put, dataset):
    put(files.frame(1, crop=[1]))
    put(files.frame(1, crop=[2]), valid_from=JUNE)
    before = everything(dataset)
    with pytest.raises(CbmError, match="2024-06-01") as caught:
        put(files.frame(1, crop=[3]))
    assert caught.value.code == "valid_from_too_early"
    assert everything(dataset) == before


def test_files_of_several_dates_can_be_listed_again(put, dataset):
    """What stands in a playbook is imported from top to bottom each time it runs."""
    listed = [(0, {}), (1, {"valid_from": JUNE})]
    put(files.frame(2, crop=[1, 1]))
    put(files.frame(2, crop=[1, 2]), valid_from=JUNE)
    before = everything(dataset)
    for check in (True, False):
        for number, arguments in listed:
            answer = put(number, check=check, **arguments)
            assert (answer.changed, answer.plan) == (False, [])
            assert answer.result["parcel_set"] == number + 1
    assert everything(dataset) == before
    with pytest.raises(CbmError) as caught:
        put(0, crop_name="crop")
    assert caught.value.code == "valid_from_too_early", "read in another way it is another source"


def test_parcels_without_a_history_can_begin_earlier(put, dataset):
    put(files.frame(2), valid_from=JUNE)
    answer = put(files.frame(2), valid_from=START)
    assert answer.plan == ["let 2 parcels of ie:2024 layer '' begin on 2024-01-01"]
    assert counts(answer) == (0, 2, 0)
    assert {row[2:] for row in known(dataset)} == {(START, FOREVER)}
    assert answer.result["new_geometries"] == 0
