import threading

import pytest

from cbm_extract.parcels.ahead import in_order


def test_results_come_in_order_whoever_is_first():
    second = threading.Event()

    def work(item):
        if item == 0:
            assert second.wait(10)
        elif item == 1:
            second.set()
        return item

    assert list(in_order(work, range(20))) == list(range(20))


def test_only_a_few_items_are_taken_ahead(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: range(64))
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = in_order(lambda item: item, items())
    assert next(results) == 0
    assert len(taken) <= 5
    results.close()
    assert len(taken) <= 5


def test_an_error_comes_out_in_its_place():
    def work(item):
        if item == 3:
            raise ValueError(item)
        return item

    results = in_order(work, range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="3"):
        next(results)
