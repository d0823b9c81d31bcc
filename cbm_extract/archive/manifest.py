"""The list of an archive's files with checksums; written last: where it is, all is there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cbm_core import __version__
from cbm_core.errors import CbmError

NAME = "manifest.json"
FORMAT = "cbm-archive-1"


@dataclass(frozen=True)
class File:
    """A file of an archive; ``path`` is relative to its folder.

    ``product_id`` and ``start`` (first moment of the month, ISO 8601, UTC) are those of a file of
    signatures, None for tables.
    """

    path: str
    rows: int
    bytes: int
    sha256: str
    product_id: int | None = None
    start: str | None = None


@dataclass(frozen=True)
class Manifest:
    """What an archive holds."""

    dataset: str
    files: tuple[File, ...]

    @property
    def signatures(self) -> list[File]:
        """The files of signatures."""
        return [file for file in self.files if file.product_id is not None]


def describe(folder: Path, path: Path, rows: int, **given: Any) -> File:
    """Return the entry of a finished file."""
    return File(
        path=path.relative_to(folder).as_posix(),
        rows=rows,
        bytes=path.stat().st_size,
        sha256=_sha256(path),
        **given,
    )


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest in one step."""
    document = {
        "format": FORMAT,
        "software": __version__,
        "dataset": manifest.dataset,
        "files": [asdict(file) for file in manifest.files],
    }
    half = folder / f".{NAME}.part"
    half.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    half.replace(folder / NAME)


def read(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises:
        CbmError: ``archive_missing`` when the folder has none (or its export never ended),
            ``archive_invalid`` when it is of another kind.

    """
    try:
        document = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise CbmError(
                "archive_invalid",
                f"{folder} is an archive of the form {document['format']}; expected {FORMAT}.",
                "Use the release that wrote it.",
            )
        files = tuple(File(**entry) for entry in document["files"])
        return Manifest(document["dataset"], files)
    except FileNotFoundError:
        raise CbmError(
            "archive_missing",
            f"{folder} holds no finished archive: it has no {NAME}.",
            "Name the folder of `cbm signatures export`; if the export was interrupted, repeat it.",
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise CbmError("archive_invalid", f"{folder / NAME} cannot be read: {error}.") from None


def verify(folder: Path, manifest: Manifest, done: Callable[[], None]) -> None:
    """Compare every file with its checksum, calling ``done`` after each.

    Raises:
        CbmError: ``archive_damaged`` naming the files that are missing or changed.

    """
    wrong = []
    for file in manifest.files:
        path = folder / file.path
        if not path.is_file() or _sha256(path) != file.sha256:
            wrong.append(file.path)
        done()
    if wrong:
        raise CbmError(
            "archive_damaged",
            f"Missing or not as they were written: {', '.join(wrong[:5])}"
            f"{f' and {len(wrong) - 5} more' if wrong[5:] else ''}.",
            "Take them from another copy of the archive.",
            files=wrong,
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
