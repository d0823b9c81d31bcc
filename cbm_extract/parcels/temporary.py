"""Temporary folders that do not outlive a killed process for long."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "cbm-parcels-"
_LOCK = ".lock"


@contextmanager
def folder() -> Iterator[Path]:
    """Give an empty folder for the length of a block, and remove those that died with their owner.

    A folder's owner holds a lock on a file in it. The kernel takes the lock away with the process,
    so that one killed with -9 is recognised by the next.
    """
    _remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        path = Path(name)
        with (path / "new").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Under its name only once it is locked: nobody ever sees it free while we live.
            (path / "new").rename(path / _LOCK)
            inner = path / "content"
            inner.mkdir()
            yield inner


def _remove_abandoned(parent: Path) -> None:
    for lock in parent.glob(f"{PREFIX}*/{_LOCK}"):
        try:
            with lock.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
        except OSError:
            continue  # in use, another user's, or gone meanwhile
