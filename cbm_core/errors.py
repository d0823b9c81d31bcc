"""The one kind of error a user is meant to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class CbmError(Exception):
    """A failure with a stable code, one clear sentence and what to do about it.

    ``message`` says what was expected and what was found; ``hint`` says what to do.
    ``details`` is JSON-serialisable and meant for programs (lists of ids, say).
    """

    def __init__(self, code: str, message: str, hint: str = "", **details: Any) -> None:
        """Keep the parts; ``str()`` of the error joins message and hint."""
        super().__init__(f"{message} {hint}".strip())
        self.code = code
        self.message = message
        self.hint = hint
        self.details = details

    def as_json(self) -> dict[str, Any]:
        """Return the form that ``cbm --json`` prints."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "details": self.details,
        }


def folder_unusable(folder: Path, error: OSError) -> CbmError:
    """Return the error of a folder that cannot be read or written: ``cannot_read``."""
    return CbmError(
        "cannot_read",
        f"{folder} cannot be looked at: {error.strerror or error}.",
        "Name a folder that you may read and write.",
    )
