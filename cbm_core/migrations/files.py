"""The migrations a release brings: numbered SQL files with a header.

Every file ``sql/NNNN_name.sql`` starts with a header line::

    -- cbm: expand                  older releases keep working beside it
    -- cbm: contract                older releases must not run any more
    -- cbm: expand no-transaction   runs outside a transaction (CREATE INDEX CONCURRENTLY)

What runs outside a transaction runs a statement at a time, each of which ends with its line, and
again from the first one after a failure: it begins with removing what may be half done.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from cbm_core.errors import CbmError

DIRECTORY = Path(__file__).parent / "sql"
BOOTSTRAP = Path(__file__).parent / "bootstrap.sql"

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+")
_HEADER = re.compile(r"-- cbm: (expand|contract)( no-transaction)?")


@dataclass(frozen=True)
class Migration:
    """One file: its name without ending (``0001_access``), kind, SQL text and sha256."""

    name: str
    kind: str
    transactional: bool
    sql: str
    checksum: str

    @property
    def number(self) -> int:
        """The number that orders it."""
        return int(self.name[:4])


def read_all(directory: Path = DIRECTORY) -> list[Migration]:
    """Read every migration in order.

    Raises:
        CbmError: ``migration_invalid`` when a file's name or header is wrong, or numbers do not
            follow each other from 1.

    """
    migrations = [_read(path) for path in sorted(directory.glob("*.sql"))]
    for position, migration in enumerate(migrations, start=1):
        if migration.number != position:
            raise CbmError(
                "migration_invalid",
                f"Migration {migration.name} stands where number {position:04d} was expected.",
                "Number migrations from 0001 without a gap or a double.",
            )
    return migrations


def statements(text: str) -> list[str]:
    """Return the statements of a file that runs outside a transaction."""
    parts = re.split(r";[ \t]*(?:\n|\Z)", text)
    return [part.strip() for part in parts if re.sub(r"--.*", "", part).strip()]


def _read(path: Path) -> Migration:
    text = path.read_text(encoding="utf-8")
    name = path.stem
    header = _HEADER.fullmatch(text.partition("\n")[0].strip())
    if not _NAME.fullmatch(name) or header is None:
        raise CbmError(
            "migration_invalid",
            f"{path.name} is no migration: expected a name like 0001_words.sql and a first line "
            "`-- cbm: expand` or `-- cbm: contract`, perhaps followed by ` no-transaction`.",
        )
    return Migration(
        name=name,
        kind=header[1],
        transactional=header[2] is None,
        sql=text,
        checksum=hashlib.sha256(text.encode()).hexdigest(),
    )
