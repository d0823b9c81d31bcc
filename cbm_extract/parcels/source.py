"""Opens what the operator named: a file, a FileGDB folder or an archive, recognised by content."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cbm_core.errors import CbmError
from cbm_extract.parcels import formats, temporary, unpack
from cbm_extract.parcels.formats import ARCHIVES, EXTENSION, Format, Unusable

_CHUNK = 1 << 20
_SHAPEFILE_PARTS = (".shp", ".shx", ".dbf", ".prj", ".cpg")
_SHAPEFILE_NEEDS = (".shp", ".shx", ".dbf")


@dataclass(frozen=True)
class Given:
    """A source as named: where, what it is, and the sha256 of its content."""

    path: Path
    kind: Format
    checksum: bytes


@dataclass(frozen=True)
class Source:
    """A data set ready to be read: ``path`` lies in a temporary folder under a fitting name.

    ``member`` is its name inside the archive, None outside of archives; ``stem`` is its own file
    name without extension.
    """

    kind: Format
    path: Path
    stem: str
    member: str | None


def identify(path: Path) -> Given:
    """Recognise a source and take its checksum.

    Raises:
        CbmError: ``source_missing``, ``source_unreadable``, ``no_geometry`` (a table),
            ``format_unknown``, ``shapefile_incomplete``.

    """
    found = formats.recognise(path)
    if isinstance(found, Unusable):
        raise formats.refusal(path, found)
    return Given(path, found, _checksum(path, found))


@contextmanager
def opened(given: Given, member: str | None, unpack_limit_gb: float) -> Iterator[Source]:
    """Give the data set for the length of a block; what was unpacked is removed at its end.

    Raises:
        CbmError: ``member_ambiguous`` when an archive holds several data sets and none is named,
            ``member_unknown``, ``no_geometry`` or ``format_unknown`` when it holds none,
            ``archive_*`` as :func:`cbm_extract.parcels.unpack.unpack`.

    """
    if member is not None and given.kind not in ARCHIVES:
        raise CbmError(
            "member_unknown",
            f"{given.path.name} is no archive ({given.kind}); it has no member {member!r}.",
            "Leave `member` out.",
        )
    with temporary.folder() as folder:
        kind, path = given.kind, given.path
        if given.kind in ARCHIVES:
            unpacked = folder / "unpacked"
            unpacked.mkdir()
            unpack.unpack(given.path, given.kind, unpacked, unpack_limit_gb)
            kind, path = _choose(given.path, unpacked, member)
            member = path.relative_to(unpacked).as_posix()
        staged = folder / "staged"
        staged.mkdir()
        yield Source(kind, _stage(kind, path.resolve(), staged), path.stem, member)


def _checksum(path: Path, kind: Format) -> bytes:
    """Return the sha256 of the content; of several files with their names, in a fixed order."""
    digest = hashlib.sha256()
    if kind == "shapefile":
        parts = [(suffix, part) for suffix, part in _shapefile_parts(path).items()]
    elif kind == "filegdb":
        parts = [(part.name, part) for part in sorted(path.iterdir()) if part.is_file()]
    else:
        parts = [("", path)]
    for name, part in parts:
        digest.update(name.encode())
        with part.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.digest()


def _choose(archive: Path, folder: Path, member: str | None) -> tuple[Format, Path]:
    found = _data_sets(folder)
    usable = {
        path.relative_to(folder).as_posix(): (kind, path)
        for path, kind in found.items()
        if not isinstance(kind, Unusable) and kind not in ARCHIVES
    }
    if member is not None:
        if member not in usable:
            close = difflib.get_close_matches(member, usable, n=1)
            raise CbmError(
                "member_unknown",
                f"{archive.name} has no data set {member!r}; it has: {_listing(usable)}.",
                f"Did you mean {close[0]}?" if close else "",
            )
        return usable[member]
    if not usable:
        raise _nothing_in(archive, found, folder)
    if len(usable) > 1:
        raise CbmError(
            "member_ambiguous",
            f"{archive.name} holds {len(usable)} data sets: {_listing(usable)}.",
            "Name one with `member`.",
            members=sorted(usable),
        )
    return next(iter(usable.values()))


def _listing(names: dict[str, tuple[Format, Path]]) -> str:
    return ", ".join(sorted(names)[:20]) + (" ..." if len(names) > 20 else "")


def _nothing_in(archive: Path, found: dict[Path, Format | Unusable], folder: Path) -> CbmError:
    tables = [path for path, kind in found.items() if getattr(kind, "code", "") == "no_geometry"]
    nested = [path for path, kind in found.items() if kind in ARCHIVES]
    if tables:
        names = ", ".join(path.relative_to(folder).as_posix() for path in tables[:5])
        return CbmError(
            "no_geometry", f"{archive.name} holds tables without geometries only: {names}."
        )
    hint = f"Supported: {formats.SUPPORTED}."
    if nested:
        hint = f"Unpack it first: it holds another archive ({nested[0].name})."
    return CbmError(
        "format_unknown",
        f"{archive.name} holds no data set with parcels ({len(found)} files).",
        hint,
    )


def _data_sets(folder: Path) -> dict[Path, Format | Unusable]:
    """Return what each file below a folder is; a FileGDB is one thing, not its files."""
    found: dict[Path, Format | Unusable] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            kind = formats.recognise(path)
            if kind == "filegdb":
                found[path] = kind
            else:
                found |= _data_sets(path)
        elif path.suffix.lower() != ".shx":
            found[path] = formats.recognise(path)
    return found


def _shapefile_parts(path: Path) -> dict[str, Path]:
    parts = {
        part.suffix.lower(): part
        for part in sorted(path.parent.iterdir())
        if part.stem == path.stem and part.suffix.lower() in _SHAPEFILE_PARTS
    }
    lacking = [suffix for suffix in _SHAPEFILE_NEEDS if suffix not in parts]
    if lacking:
        raise CbmError(
            "shapefile_incomplete",
            f"Expected {', '.join(_SHAPEFILE_NEEDS)} of the shapefile {path.stem}, "
            f"missing: {', '.join(lacking)}.",
            "Put the missing files beside it.",
        )
    return parts


def _stage(kind: Format, path: Path, folder: Path) -> Path:
    """Link the data set into a folder under a name by which GDAL finds the right driver.

    Nothing else lies there, so that no stale side file is believed and none is written beside the
    operator's own.
    """
    if kind == "parquet":
        return path
    stem = re.sub(r"[^\w\-. ()]", "_", path.stem)
    if kind == "shapefile":
        for suffix, part in _shapefile_parts(path).items():
            (folder / f"{stem}{suffix}").symlink_to(part)
    else:
        (folder / f"{stem}{EXTENSION[kind]}").symlink_to(path)
    return folder / f"{stem}{EXTENSION[kind]}"
