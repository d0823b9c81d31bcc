"""Strips decoded ahead of who reads them, by several threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cbm_extract.read.strips import Strip

# What may be decoded and not yet read, in bytes: two strips of a Sentinel-2 band of 10 m in
# JPEG 2000, which is the least, three of a GeoTIFF.
AHEAD_BYTES = 36 * 2**20
_LEAST = 2

Decoded = Generator[tuple[Strip, NDArray[Any]], None, None]


class Decoder:
    """Decodes strips: the same values whatever the number of threads.

    With one thread the caller's own does everything. With more, the pool's threads share the blocks
    of the next strips while the caller works on the last one. Leaving the block ends them.
    """

    def __init__(self, threads: int) -> None:
        """``threads`` decode; 0: as many as this process has cores."""
        threads = threads or len(os.sched_getaffinity(0))
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "decode") if threads > 1 else None

    def __enter__(self) -> Decoder:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the threads; blocks that are being decoded are waited for."""
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def decode(self, strips: Iterable[Strip]) -> Decoded:
        """Iterate over strips and their raw values, [rows, width] of the band's dtype, in order.

        Only blocks listed in the strip are decoded, the rest of the values means nothing. The next
        step overwrites the array: use it, or copy it, before going on. ``strips`` may be lazy: it
        is asked for a strip when there is room for it. Close the iterator where it is not read to
        its end.

        Raises:
            CbmError: ``raster_damaged`` or ``raster_unreachable``, naming file and rows, at the
                strip that it is about.

        """
        return self._here(strips) if self._pool is None else self._in_pool(strips, self._pool)

    @staticmethod
    def _here(strips: Iterable[Strip]) -> Decoded:
        room = _Room()
        for strip in strips:
            values = room.take(strip)
            for block in strip.blocks:
                strip.decode(*block, values)
            yield strip, values
            room.give_back(values)

    def _in_pool(self, strips: Iterable[Strip], pool: ThreadPoolExecutor) -> Decoded:
        room, coming, ahead = _Room(), iter(strips), deque[_Task]()
        following = next(coming, None)
        try:
            while following or ahead:
                size = sum(task.strip.nbytes for task in ahead)
                while following and (len(ahead) < _LEAST or size + following.nbytes <= AHEAD_BYTES):
                    ahead.append(_Task(following, room.take(following), pool, self._threads))
                    size += following.nbytes
                    following = next(coming, None)
                task = ahead[0]
                task.finish()
                ahead.popleft()
                yield task.strip, task.values
                if following:
                    room.give_back(task.values)
        finally:
            for task in ahead:
                task.cancel()


class _Task:
    """A strip whose blocks several threads decode, in their order."""

    def __init__(
        self, strip: Strip, values: NDArray[Any], pool: ThreadPoolExecutor, threads: int
    ) -> None:
        self.strip, self.values = strip, values
        self._left = deque(strip.blocks)
        self._errors: dict[tuple[int, int], BaseException] = {}
        number = min(threads, len(strip.blocks))
        self._futures: list[Future[None]] = [pool.submit(self._run) for _ in range(number)]

    def _run(self) -> None:
        while True:
            try:
                block = self._left.popleft()
            except IndexError:
                return
            try:
                self.strip.decode(*block, self.values)
            except BaseException as error:
                self._errors[block] = error
                self._left.clear()

    def finish(self) -> None:
        """Wait for all blocks; raise the error of the first one that has any."""
        wait(self._futures)
        if self._errors:
            # Blocks before it were begun earlier and are finished: none of them is damaged.
            raise self._errors[min(self._errors)]

    def cancel(self) -> None:
        """Begin no other block, wait for those begun."""
        self._left.clear()
        for future in self._futures:
            future.cancel()
        wait(self._futures)


class _Room:
    """Memory of strips that were read, for those to come."""

    def __init__(self) -> None:
        self._free: list[NDArray[np.uint8]] = []

    def take(self, strip: Strip) -> NDArray[Any]:
        """Return an array for the values of a strip; what it holds means nothing."""
        fitting = [number for number, one in enumerate(self._free) if one.nbytes >= strip.nbytes]
        if fitting:
            memory = self._free.pop(fitting[0])
        else:
            self._free.clear()
            memory = np.empty(strip.nbytes, np.uint8)
        return memory[: strip.nbytes].view(strip.band.dtype).reshape(strip.shape)

    def give_back(self, values: NDArray[Any]) -> None:
        """Take an array back."""
        memory = values
        while isinstance(memory.base, np.ndarray):
            memory = memory.base
        self._free.append(memory)
