"""A remote file as GDAL reads it through rasterio's ``opener``.

Whoever opens rasters tells rasterio of the folder once:
``rasterio.abc.FileContainer.register(RemoteFolder)``.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from threading import Lock

from cbm_core.errors import CbmError
from cbm_core.remote.objects import RemoteObject

_KEPT_PIECES = 64


class RemoteFolder:
    """What GDAL sees of a remote file's surroundings: the file, and its header if it is ENVI.

    GDAL makes do with short reads (a header without its last tags, say), so whoever uses what it
    read looks at ``trouble`` first: the error that ended reading, None while there was none.
    """

    def __init__(self, name: str, remote: RemoteObject) -> None:
        """``name`` is what GDAL calls the file."""
        self.remote = remote
        self.trouble: CbmError | None = None
        self._name = name
        self._files = {name: _Pieces(remote, self)}

    def open(self, path: str, _mode: str = "rb", **_options: object) -> io.RawIOBase:
        """Open the file, or an ENVI header beside it; FileNotFoundError for all else."""
        if path not in self._files:
            if not path.endswith(".hdr"):
                raise FileNotFoundError(path)
            try:
                beside = self.remote.beside(path.rpartition("/")[2])
            except CbmError as error:
                if error.code != "raster_missing":
                    self.trouble = error
                raise FileNotFoundError(path) from error
            self._files[path] = _Pieces(beside, self)
        return _RemoteFile(self._files[path])

    def isfile(self, path: str) -> bool:
        """Say whether there is such a file; sidecars are not looked for."""
        return path == self._name

    def isdir(self, _path: str) -> bool:
        """Return False."""
        return False

    def ls(self, _path: str) -> list[str]:
        """Return nothing: folders are not listed."""
        return []

    def mtime(self, _path: str) -> int:
        """Return 0: versions are told by ETag."""
        return 0

    def rm(self, path: str) -> None:
        """Refuse."""
        raise PermissionError(path)

    def size(self, path: str) -> int:
        """Return the length of a file that was opened, in bytes."""
        return self._files[path].remote.size


class _Pieces:
    """A remote object in pieces, some of which are kept."""

    def __init__(self, remote: RemoteObject, folder: RemoteFolder) -> None:
        self.remote, self._folder = remote, folder
        self._size = remote.access.piece
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._lock = Lock()

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes [start, stop); none after trouble."""
        if self._folder.trouble or stop <= start:
            return b""
        try:
            with self._lock:
                return self._range(start, stop)
        except CbmError as error:
            self._folder.trouble = error
            return b""

    def _range(self, start: int, stop: int) -> bytes:
        size = self._size
        first, last = start // size, (stop - 1) // size
        missing = [number for number in range(first, last + 1) if number not in self._kept]
        if missing:
            begin = missing[0] * size
            data = self.remote.read(begin, (missing[-1] + 1) * size)
            for number in range(missing[0], missing[-1] + 1):
                at = number * size - begin
                self._kept[number] = data[at : at + size]
        found = b"".join(self._kept[number] for number in range(first, last + 1))
        while len(self._kept) > _KEPT_PIECES:
            self._kept.popitem(last=False)
        return found[start - first * size : stop - first * size]


class _RemoteFile(io.RawIOBase):
    """Pieces as a file object, one for each time GDAL opens the file."""

    def __init__(self, pieces: _Pieces) -> None:
        super().__init__()
        self._pieces, self._at = pieces, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {0: 0, 1: self._at, 2: self._pieces.remote.size}[whence] + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._pieces.remote.size
        found = self._pieces.read(self._at, end if size < 0 else min(self._at + size, end))
        self._at += len(found)
        return found
