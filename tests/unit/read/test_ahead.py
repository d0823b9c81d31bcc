"""Strips decoded ahead: in order, once, within bounds, and ended cleanly."""

import threading
import time
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest

from cbm_core.errors import CbmError
from cbm_extract.read import ahead
from cbm_extract.read.ahead import AHEAD_BYTES, Decoder
from cbm_extract.read.strips import Strip

THREADS = pytest.mark.parametrize("threads", [1, 2, 4])


class Blocks:
    """A raster of blocks of 512 x 64 pixels that hold their numbers; notes what is decoded."""

    block_shape = (512, 64)

    def __init__(self, damaged=(), slow=0.0):
        self.damaged, self.slow, self.decoded = damaged, slow, []

    def decode(self, row, col, out):
        self.decoded.append((row, col))
        time.sleep(self.slow)
        if (row, col) in self.damaged:
            raise CbmError("raster_damaged", f"block {row} {col}")
        out[...] = row * 100 + col


def strips(blocks, count=12, cols=8):
    band = SimpleNamespace(
        reader=blocks, header=SimpleNamespace(width=64 * cols), dtype=np.dtype("u2")
    )
    return [
        Strip(band, row * 512, (row + 1) * 512, tuple((row, col) for col in range(cols)))
        for row in range(count)
    ]


def no_decoding_threads() -> bool:
    return not any(one.name.startswith("decode") for one in threading.enumerate())


@THREADS
def test_strips_come_in_order_each_block_decoded_once(threads):
    blocks = Blocks()
    with Decoder(threads) as decoder:
        for number, (strip, values) in enumerate(decoder.decode(strips(blocks))):
            assert strip.start == number * 512
            np.testing.assert_array_equal(values[0, ::64], number * 100 + np.arange(8))
            assert (values == values[0]).all()
    assert len(blocks.decoded) == len(set(blocks.decoded)) == 12 * 8
    assert no_decoding_threads()


@THREADS
def test_a_strip_is_not_overwritten_while_it_is_used(threads):
    with Decoder(threads) as decoder:
        for number, (_, values) in enumerate(decoder.decode(strips(Blocks()))):
            time.sleep(0.01)
            assert (values // 100 == number).all()


def test_no_more_is_decoded_ahead_than_there_is_room_for():
    blocks, large = Blocks(), 64 * 250
    size = 512 * large * 2
    with Decoder(2) as decoder, closing(decoder.decode(strips(blocks, 30, 250))) as decoded:
        next(decoded)
        deadline = time.monotonic() + 5
        while len(blocks.decoded) < 250 * (AHEAD_BYTES // size) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
    assert len({row for row, _ in blocks.decoded}) == AHEAD_BYTES // size


def test_strips_are_asked_for_when_there_is_room():
    asked = []

    def lazy():
        for strip in strips(Blocks(), 200, 100):
            asked.append(strip.start)
            yield strip

    with Decoder(2) as decoder, closing(decoder.decode(lazy())) as decoded:
        next(decoded)
        assert 2 <= len(asked) <= AHEAD_BYTES // (512 * 6400 * 2) + 1


@THREADS
def test_an_error_comes_at_its_strip_and_is_the_first_one_of_it(threads):
    blocks = Blocks(damaged={(5, 6), (5, 3), (7, 0)}, slow=0.001)
    seen = []
    with Decoder(threads) as decoder, pytest.raises(CbmError, match="block 5 3"):
        for strip, _ in decoder.decode(strips(blocks)):
            seen.append(strip.start // 512)
    assert seen == [0, 1, 2, 3, 4]
    assert no_decoding_threads()


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, CbmError])
def test_an_interrupt_leaves_no_thread_and_begins_no_block(threads, kind):
    blocks = Blocks(slow=0.02)
    with (
        pytest.raises(kind),
        Decoder(threads) as decoder,
        closing(decoder.decode(strips(blocks))) as decoded,
    ):
        next(decoded)
        raise kind("stop", "stop")
    assert no_decoding_threads()
    ended = len(blocks.decoded)
    assert ended < 12 * 8
    time.sleep(0.1)
    assert len(blocks.decoded) == ended


def test_an_interrupt_while_waiting_for_a_strip(monkeypatch):
    blocks = Blocks(slow=0.02)

    def interrupted(futures):
        monkeypatch.undo()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Decoder(2) as decoder:
        monkeypatch.setattr(ahead, "wait", interrupted)
        list(decoder.decode(strips(blocks)))
    assert no_decoding_threads()
    assert len(blocks.decoded) < 12 * 8


def test_nought_threads_are_all_cores(monkeypatch):
    monkeypatch.setattr(ahead.os, "sched_getaffinity", lambda _: {0, 1, 5})
    assert Decoder(0)._threads == 3


@THREADS
def test_strips_of_different_types_and_sizes_share_memory(threads):
    narrow = strips(Blocks(), 3, 2)
    other = SimpleNamespace(
        reader=Blocks(), header=SimpleNamespace(width=64 * 5), dtype=np.dtype("f8")
    )
    wide = [Strip(other, 0, 400, tuple((0, col) for col in range(5)))]
    order = [narrow[0], *wide, narrow[1], *wide, narrow[2]]
    with Decoder(threads) as decoder:
        for strip, values in decoder.decode(order):
            assert values.shape == strip.shape
            assert values.dtype == strip.band.dtype
            row, count = strip.start // 512, values.shape[1] // 64
            np.testing.assert_array_equal(values[-1, ::64], row * 100 + np.arange(count))
