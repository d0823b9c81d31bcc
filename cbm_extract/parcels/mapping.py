"""Which columns become what: the parcel's id, its crop, and the attributes that are kept."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cbm_core.errors import CbmError

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
# Whole numbers are exact in float64 up to here; beyond, a float id is no id any more.
_EXACT = 2.0**53


@dataclass(frozen=True)
class IdRule:
    """How ids are made: literal texts and column names in turn, or the file's name.

    ``parts`` alternates (text, column); the last column is None. Empty with ``filename``.
    """

    text: str
    parts: tuple[tuple[str, str | None], ...] = ()

    @property
    def columns(self) -> list[str]:
        """The columns it reads."""
        return [column for _, column in self.parts if column is not None]


def parse_id(text: str) -> IdRule:
    """Read ``column:NAME``, ``filename`` or ``expression:TEMPLATE``.

    A template is text with columns in braces, ``{Journalnr}/{Marknr}``; ``{{`` and ``}}`` are the
    braces themselves. A column with no value makes the id null.

    Raises:
        ValueError: when it is none of these.

    """
    kind, _, rest = text.partition(":")
    if text == "filename":
        return IdRule(text)
    if kind == "column" and rest:
        return IdRule(text, (("", rest), ("", None)))
    if kind == "expression" and rest:
        return IdRule(text, _parse_template(rest))
    raise ValueError("expected column:NAME, filename or expression:{COLUMN1}-{COLUMN2}")


def _parse_template(template: str) -> tuple[tuple[str, str | None], ...]:
    parts: list[tuple[str, str | None]] = []
    literal, end = "", 0
    for token in _TOKEN.finditer(template):
        literal += template[end : token.start()]
        end = token.end()
        if token[0] in ("{{", "}}"):
            literal += token[0][0]
        elif token[1]:
            parts.append((literal, token[1]))
            literal = ""
        else:
            raise ValueError(f"{token[0]!r} at position {token.start()} names no column")
    if not parts:
        raise ValueError("the expression names no column, so that every id would be the same")
    return (*parts, (literal + template[end:], None))


@dataclass(frozen=True)
class Mapping:
    """What is read from a table; the names are those of the file, case-exact."""

    id: IdRule
    crop_code: str | None = None
    crop_name: str | None = None
    keep: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """All columns it reads, each once."""
        named = [*self.id.columns, self.crop_code, self.crop_name, *self.keep]
        return list(dict.fromkeys(name for name in named if name is not None))

    def require(self, fields: Sequence[str]) -> None:
        """Check the names against a table.

        Raises:
            CbmError: ``column_missing`` with the most alike and all the names that are there.

        """
        missing = [name for name in self.columns if name not in fields]
        if not missing:
            return
        lower = {name.lower(): name for name in fields}
        close = difflib.get_close_matches(missing[0].lower(), lower, n=1)
        raise CbmError(
            "column_missing",
            f"Expected the column {', '.join(missing)}; the file has: {', '.join(fields)}.",
            f"Did you mean {lower[close[0]]}? Names are case-exact." if close else "",
            missing=missing,
            columns=list(fields),
        )

    def dropped(self, fields: Sequence[str]) -> list[str]:
        """Return the table's columns that are not imported."""
        return [name for name in fields if name not in self.columns]


@dataclass(frozen=True)
class Mapped:
    """The mapped columns of a batch: pid, crop_code, crop_name (string), attributes (JSON text)."""

    pid: pa.Array
    crop_code: pa.Array
    crop_name: pa.Array
    attributes: pa.Array


def apply(mapping: Mapping, columns: dict[str, pa.Array], rows: int, stem: str) -> Mapped:
    """Map a batch of ``rows`` features of the file ``stem``; blank ids become null.

    Raises:
        CbmError: ``column_type`` for columns that have no text form, ``encoding_invalid``.

    """
    texts = {
        name: as_text(columns[name], name)
        for name in {*mapping.id.columns, mapping.crop_code, mapping.crop_name}
        if name is not None
    }
    empty = pa.nulls(rows, pa.string())
    return Mapped(
        pid=_ids(mapping.id, texts, rows, stem),
        crop_code=texts[mapping.crop_code] if mapping.crop_code else empty,
        crop_name=texts[mapping.crop_name] if mapping.crop_name else empty,
        attributes=_attributes({name: columns[name] for name in mapping.keep}, rows),
    )


def _ids(rule: IdRule, texts: dict[str, pa.Array], rows: int, stem: str) -> pa.Array:
    if not rule.parts:
        return pa.array([stem] * rows, pa.string())
    pieces: list[Any] = []
    for literal, column in rule.parts:
        pieces += [literal] if literal else []
        pieces += [texts[column]] if column is not None else []
    joined = pc.binary_join_element_wise(*pieces, "") if len(pieces) > 1 else pieces[0]
    blank = pc.equal(pc.utf8_trim_whitespace(joined), "")
    for column in rule.columns:
        # A part that is blank leaves an id that only looks like one.
        blank = pc.or_kleene(blank, pc.equal(pc.utf8_trim_whitespace(texts[column]), ""))
    return pc.if_else(blank, pa.scalar(None, pa.string()), joined)


def as_text(values: pa.Array, column: str) -> pa.Array:
    """Return values as text: whole numbers without a decimal point, dates as ISO 8601.

    Raises:
        CbmError: ``column_type`` for lists, structures, bytes; ``encoding_invalid`` for text
            that is not UTF-8 or holds a NUL.

    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.dictionary_decode(), kind.value_type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise CbmError(
            "column_type", f"Expected text, numbers or dates in column {column}, found {kind}."
        )
    if pa.types.is_floating(kind):
        return _float_text(values)
    try:
        text = values.cast(pa.string())
        text.validate(full=True)
    except pa.ArrowInvalid:
        raise _not_text(column, "which is not UTF-8") from None
    if pc.any(pc.match_substring(text, "\x00")).as_py():
        raise _not_text(column, "with NUL characters")
    return text


def _not_text(column: str, what: str) -> CbmError:
    return CbmError("encoding_invalid", f"Column {column} holds text {what}.", "Correct the file.")


def _float_text(values: pa.Array) -> pa.Array:
    """Return 12.0 as "12", 0.5 as "0.5", NaN and infinities as null."""
    numbers = values.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    whole = np.isfinite(numbers) & (np.trunc(numbers) == numbers) & (np.abs(numbers) < _EXACT)
    as_whole = pa.array(np.where(whole, numbers, 0).astype(np.int64)).cast(pa.string())
    text = pc.if_else(pa.array(whole), as_whole, values.cast(pa.string()))
    return pc.if_else(pa.array(np.isfinite(numbers)), text, pa.scalar(None, pa.string()))


def _attributes(columns: dict[str, pa.Array], rows: int) -> pa.Array:
    if not columns:
        return pa.array(["{}"] * rows, pa.string())
    checked = {
        name: as_text(values, name) if _is_textual(values.type) else values
        for name, values in columns.items()
    }
    lists = {name: values.to_pylist() for name, values in checked.items()}
    return pa.array(
        [
            json.dumps({name: _plain(lists[name][row]) for name in lists}, ensure_ascii=False)
            for row in range(rows)
        ],
        pa.string(),
    )


def _is_textual(kind: pa.DataType) -> bool:
    """Say whether values are kept as text in JSON: all but numbers and truth values."""
    return not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    )


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
