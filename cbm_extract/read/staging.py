"""Remote files kept on local disk while they are read.

Layout of the folder: ``lock`` (flock, held while room is given out) and one folder ``w-*`` per
process, with its copies and the file ``alive``, on which the process holds a flock as long as it
lives. Whoever can take that lock finds the folder of a process that was killed, and removes it.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock

from cbm_core.errors import CbmError
from cbm_core.remote.addresses import shown
from cbm_core.remote.objects import RemoteObject
from cbm_core.settings import StorageSettings
from cbm_extract.read.remote import configure

PART = 8 * 2**20  # bytes of one range
CONNECTIONS = 4  # at once: what the Copernicus Data Space grants a user


def default_folder() -> Path:
    """Return the folder that serves where the settings name none."""
    return Path("/var/tmp") / f"cbm-staging-{os.getuid()}"  # noqa: S108


@dataclass
class Copy:
    """A local copy of a remote file, made when it is first asked for."""

    remote: RemoteObject
    _staging: Staging
    users: int = 0
    stopped: Event = field(default_factory=Event)
    _future: Future[Path | None] | None = None
    _begun: Lock = field(default_factory=Lock)

    def begin(self) -> None:
        """Start to fetch; files begun earlier come first."""
        with self._begun:
            if self._future is None:
                self._future = self._staging.submit(self)

    def path(self) -> Path | None:
        """Wait for the copy; None where there is no room for it.

        Raises:
            CbmError: as :meth:`RemoteObject.read`, and ``staging_full`` (the disk),
                ``staging_unusable``.

        """
        self.begin()
        assert self._future is not None  # noqa: S101
        return self._future.result()

    def discard(self) -> None:
        """Stop fetching and remove the file, at once or when its thread has noticed."""
        self.stopped.set()
        if self._future is not None and not self._future.cancel():
            self._future.add_done_callback(_remove)


class Staging:
    """The copies of this process; all processes that share the folder share its limit in bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Nothing is touched yet."""
        self.pid = os.getpid()
        self.folder, self.limit = folder, limit
        self._home: Path | None = None
        self._alive = -1
        self._copies: dict[tuple[str, str | None], Copy] = {}
        self._lock = Lock()
        self._files = ThreadPoolExecutor(1, "stage")
        self._parts = ThreadPoolExecutor(CONNECTIONS, "fetch")

    @contextmanager
    def held(self, remote: RemoteObject) -> Iterator[Copy]:
        """Hold the copy of a remote file; the last one who held it removes it."""
        key = remote.href, remote.version
        with self._lock:
            copy = self._copies.setdefault(key, Copy(remote, self))
            copy.users += 1
        try:
            yield copy
        finally:
            with self._lock:
                copy.users -= 1
                last = copy.users == 0
                if last:
                    del self._copies[key]
            if last:
                copy.discard()

    def submit(self, copy: Copy) -> Future[Path | None]:
        """Fetch in the background, file after file."""
        return self._files.submit(self._fetch, copy)

    def close(self) -> None:
        """Remove what is left of this process."""
        if self._home is not None and self.pid == os.getpid():
            shutil.rmtree(self._home, ignore_errors=True)
            os.close(self._alive)
            self._home = None

    def _fetch(self, copy: Copy) -> Path | None:
        try:
            path = self._reserve(copy.remote)
            if path is None:
                return None
            try:
                self._fill(path, copy)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise self._unusable(error) from None
        return path

    def _reserve(self, remote: RemoteObject) -> Path | None:
        """Create the file in its full length, which is what others count."""
        with self._locked():
            home = self._own_folder()
            if _used(self.folder) + remote.size > self.limit:
                return None
            suffix = Path(shown(remote.href)).suffix
            number, name = tempfile.mkstemp(suffix, dir=home)
            os.ftruncate(number, remote.size)
        try:
            if remote.size:
                os.posix_fallocate(number, 0, remote.size)
        except OSError:
            Path(name).unlink()
            raise
        finally:
            os.close(number)
        return Path(name)

    def _fill(self, path: Path, copy: Copy) -> None:
        remote = copy.remote
        length = PART if remote.parallel else max(remote.size, 1)
        with path.open("r+b", buffering=0) as file:
            number = file.fileno()

            def write(at: int, data: bytes) -> None:
                while data:
                    done = os.pwrite(number, data, at)
                    at, data = at + done, data[done:]

            parts = [
                self._parts.submit(
                    remote.copy, start, min(start + length, remote.size), write, copy.stopped
                )
                for start in range(0, remote.size, length)
            ]
            try:
                for part in parts:
                    part.result()
            except BaseException:
                copy.stopped.set()
                raise
            finally:
                # The file stays open until nobody writes any more.
                for part in parts:
                    part.cancel() or part.exception()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(number, fcntl.LOCK_EX)
            yield
        finally:
            os.close(number)

    def _own_folder(self) -> Path:
        if self._home is None:
            _sweep(self.folder)
            self._home = Path(tempfile.mkdtemp(prefix="w-", dir=self.folder))
            self._alive = os.open(self._home / "alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            fcntl.flock(self._alive, fcntl.LOCK_EX)
            atexit.register(self.close)
        return self._home

    def check(self) -> None:
        """Clean up after processes that were killed, and see whether the folder serves.

        Raises:
            CbmError: ``staging_unusable``.

        """
        try:
            if not self.folder.is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if self.folder.stat().st_uid != os.getuid() and os.getuid() != 0:
                # Others could put their pixels in the place of ours.
                raise PermissionError(errno.EPERM, "it belongs to another user")
            with self._locked():
                _sweep(self.folder)
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> CbmError:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return CbmError(
                "staging_full",
                f"There is no space left for copies of remote files in {self.folder}.",
                "Make space, name another staging_folder in [storage], or lower"
                " staging_limit_mb: what does not fit is read over the network.",
            )
        return CbmError(
            "staging_unusable",
            f"Copies of remote files cannot be kept in {self.folder}: {error.strerror}.",
            "Create the folder for the user who extracts, name another staging_folder in"
            " [storage], or set staging_limit_mb to 0.",
        )


def prepare(settings: StorageSettings) -> None:
    """Make this process read as the settings say; call it before anything is read.

    Raises:
        CbmError: as :func:`cbm_extract.read.remote.configure`, and ``staging_unusable``.

    """
    folder = Path(settings.staging_folder) if settings.staging_folder else default_folder()
    limit = settings.staging_limit_mb * 1_000_000
    with _state.lock:  # threads of a worker begin their scenes at the same time
        configure(settings)
        if limit and _state.same(folder, limit):
            return
        staging = Staging(folder, limit) if limit else None
        if staging and (settings.staging_folder or folder.exists()):
            staging.check()
        _state.staging = staging


class _State:
    staging: Staging | None = None
    lock = Lock()

    def same(self, folder: Path, limit: int) -> bool:
        one = self.staging
        return one is not None and (one.folder, one.limit, one.pid) == (folder, limit, os.getpid())


_state = _State()


@contextmanager
def copy_of(remote: RemoteObject | None) -> Iterator[Copy | None]:
    """Hold the copy of a remote file; None for local files and where nothing is staged."""
    staging = _state.staging
    if remote is None or staging is None or staging.pid != os.getpid():
        yield None
        return
    with staging.held(remote) as copy:
        yield copy


def _remove(future: Future[Path | None]) -> None:
    if future.exception() is None and (path := future.result()) is not None:
        path.unlink(missing_ok=True)


def _used(folder: Path) -> int:
    """Return the bytes that all processes have reserved."""
    used = 0
    for file in folder.glob("w-*/*"):
        try:
            used += file.stat().st_size
        except FileNotFoundError:
            continue
    return used


def _sweep(folder: Path) -> None:
    """Remove the folders of processes that live no more; the caller holds the folder's lock."""
    for home in folder.glob("w-*"):
        try:
            number = os.open(home / "alive", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            shutil.rmtree(home, ignore_errors=True)
            continue
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(home, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(number)
