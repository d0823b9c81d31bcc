"""Facts about the scenes of a described folder in a CSV file beside them."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from cbm_core.errors import CbmError

KEY = "reference"
MAX_BYTES = 64 * 2**20


def read(path: Path, columns: Collection[str]) -> dict[str, dict[str, str]]:
    """Read a table: its rows by ``reference``, without the cells that are empty.

    The file is UTF-8 with commas; its first line names the columns, of which ``columns`` are known.

    Raises:
        CbmError: ``table_missing``, ``table_invalid``.

    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _invalid(path, f"it is larger than {MAX_BYTES} bytes")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_header(path, list(reader.fieldnames or []), columns)
            return _rows(path, reader)
    except OSError as error:
        raise CbmError(
            "table_missing",
            f"The table {path} cannot be read: {error.strerror}.",
            "Correct `table` in the description.",
        ) from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise _invalid(path, f"it is no CSV in UTF-8 ({error})") from None


def _check_header(path: Path, header: list[str], columns: Collection[str]) -> None:
    unknown = sorted({name for name in header if name != KEY and name not in columns})
    if KEY not in header or len(set(header)) < len(header) or unknown:
        raise _invalid(path, f"its columns are {', '.join(header) or 'none'}")


def _rows(path: Path, reader: csv.DictReader[str]) -> dict[str, dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    for row in reader:
        if None in row or None in row.values():
            raise _invalid(path, f"line {reader.line_num} has not as many cells as the first")
        reference = row.pop(KEY)
        if reference in rows:
            raise _invalid(path, f"{reference!r} stands in it twice")
        rows[reference] = {name: cell.strip() for name, cell in row.items() if cell.strip()}
    return rows


def _invalid(path: Path, why: str) -> CbmError:
    return CbmError(
        "table_invalid",
        f"The table {path} is not usable: {why}.",
        f"Expected is a column {KEY}, each value once, and columns named as groups of a pattern.",
    )
