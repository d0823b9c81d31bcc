"""Rows of the database that are answered as they are: one model is both."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel


class Row(BaseModel):
    """A row whose columns stand in the order of the fields."""

    @classmethod
    def of(cls, row: tuple[Any, ...]) -> Self:
        """Return the row that a cursor gave."""
        return cls(**dict(zip(cls.model_fields, row, strict=True)))
