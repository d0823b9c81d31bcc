"""Unpacks zip and 7z archives into a temporary folder, within limits.

What an archive declares about itself is checked first, and what really comes out is counted while
it is written: an archive that lies is stopped at the same limits.
"""

from __future__ import annotations

import lzma
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import py7zr
import py7zr.exceptions
import py7zr.io

from cbm_core.errors import CbmError
from cbm_extract.parcels.formats import Format

MAX_FILES = 10_000
DEFAULT_LIMIT_GB = 64
_GIGABYTE = 1_000_000_000
_CHUNK = 1 << 20
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class Entry:
    """A file in an archive: its name as given there and its declared unpacked size in bytes."""

    name: str
    size: int


def unpack(archive: Path, kind: Format, folder: Path, limit_gb: float = DEFAULT_LIMIT_GB) -> None:
    """Unpack all files of an archive below ``folder``.

    Raises:
        CbmError: ``archive_unsafe`` for names that lead out of the folder, links and devices;
            ``archive_too_large`` beyond the limits or the free disk space; ``archive_encrypted``;
            ``archive_damaged``.

    """
    folder = folder.resolve()
    with _readable(archive):
        if kind == "zip":
            _unpack_zip(archive, folder, limit_gb)
        else:
            _unpack_7z(archive, folder, limit_gb)


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except py7zr.exceptions.PasswordRequired:
        raise _encrypted(archive) from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,
        py7zr.exceptions.ArchiveError,
        py7zr.exceptions.Bad7zFile,
    ) as error:
        raise CbmError(
            "archive_damaged",
            f"The archive {archive.name} cannot be unpacked: {error or type(error).__name__}.",
            "Fetch it again. An archive in several volumes has to be joined into one file first.",
        ) from error


class _Budget:
    """Counts what is written and stops at the limit."""

    def __init__(self, archive: Path, folder: Path, limit_gb: float) -> None:
        self._archive, self._limit_gb = archive, limit_gb
        self._free = shutil.disk_usage(folder).free
        self._left = int(limit_gb * _GIGABYTE)

    def declare(self, entries: list[Entry]) -> None:
        if len(entries) > MAX_FILES:
            raise self._too_large(f"{len(entries)} files, more than {MAX_FILES}")
        total = sum(entry.size for entry in entries)
        if total > self._left:
            raise self._too_large(f"{total} bytes, more than the limit of {self._limit_gb} GB")
        if total > self._free:
            raise self._too_large(f"{total} bytes, more than the free {self._free}")

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise self._too_large(f"more than the limit of {self._limit_gb} GB")

    def _too_large(self, what: str) -> CbmError:
        return CbmError(
            "archive_too_large",
            f"The archive {self._archive.name} unpacks to {what}.",
            "Raise unpack_limit_gb, point TMPDIR to a larger disk, or unpack it by hand.",
        )


def _target(archive: Path, folder: Path, name: str) -> Path:
    """Return where an entry goes; names that lead elsewhere are refused."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0]:
        raise _unsafe(archive, name, "a name that leads out of the archive")
    return folder.joinpath(*path.parts)


def _unsafe(archive: Path, name: str, what: str) -> CbmError:
    return CbmError(
        "archive_unsafe",
        f"The archive {archive.name} holds {what}: {name!r}. Nothing was unpacked from it.",
        "Check where the archive comes from.",
    )


def _encrypted(archive: Path) -> CbmError:
    return CbmError(
        "archive_encrypted",
        f"The archive {archive.name} is protected by a password.",
        "Unpack it by hand and give the file inside.",
    )


def _unpack_zip(archive: Path, folder: Path, limit_gb: float) -> None:
    budget = _Budget(archive, folder, limit_gb)
    with zipfile.ZipFile(archive) as packed:
        infos = [info for info in packed.infolist() if not info.is_dir()]
        budget.declare([Entry(info.filename, info.file_size) for info in infos])
        targets = []
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise _unsafe(archive, info.filename, "a link or device")
            if info.flag_bits & _ENCRYPTED:
                raise _encrypted(archive)
            targets.append(_target(archive, folder, info.filename))
        for info, target in zip(infos, targets, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            with packed.open(info) as source, target.open("wb") as output:
                while chunk := source.read(_CHUNK):
                    budget.spend(len(chunk))
                    output.write(chunk)


class _CountedFile(py7zr.io.Py7zIO):
    """What py7zr writes an entry to."""

    def __init__(self, file: IO[bytes], budget: _Budget) -> None:
        self._file, self._budget = file, budget

    def write(self, s: bytes | bytearray) -> int:
        self._budget.spend(len(s))
        return self._file.write(s)

    def read(self, size: int | None = None) -> bytes:
        return self._file.read(-1 if size is None else size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def flush(self) -> None:
        self._file.flush()

    def size(self) -> int:
        position = self._file.tell()
        end = self._file.seek(0, 2)
        self._file.seek(position)
        return end

    def close(self) -> None:
        self._file.close()


class _Files(py7zr.io.WriterFactory):
    """Gives py7zr our own files, so that it never chooses a path itself."""

    def __init__(self, archive: Path, folder: Path, budget: _Budget) -> None:
        self._archive, self._folder, self._budget = archive, folder, budget
        self._created: list[_CountedFile] = []

    def create(self, filename: str) -> Any:
        # py7zr has put the folder in front of the name by now.
        name = str(PurePosixPath(filename).relative_to(self._folder))
        target = _target(self._archive, self._folder, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._created.append(_CountedFile(target.open("w+b"), self._budget))
        return self._created[-1]

    def close(self) -> None:
        """Close what py7zr left open: before 1.1 it closes nothing."""
        for file in self._created:
            file.close()


def _unpack_7z(archive: Path, folder: Path, limit_gb: float) -> None:
    budget = _Budget(archive, folder, limit_gb)
    with py7zr.SevenZipFile(archive) as packed:
        if packed.needs_password():
            raise _encrypted(archive)
        infos = [info for info in packed.list() if not info.is_directory]
        budget.declare([Entry(info.filename, info.uncompressed) for info in infos])
        for info in infos:
            if not info.is_file:
                raise _unsafe(archive, info.filename, "a link or device")
            _target(archive, folder, info.filename)
        names = [info.filename for info in infos]
        with closing(_Files(archive, folder, budget)) as files:
            packed.extract(folder, targets=names, factory=files)
