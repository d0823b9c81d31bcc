"""Parameters that several resources have, and what their documents share."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

# What ids and names may be. PostgreSQL's texts hold no NUL.
Text = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00]*$")]
Pid = Text


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return BaseModel.model_json_schema.__func__(model)  # type: ignore[attr-defined, no-any-return]


class Parameters(BaseModel):
    """Parameters of a request; others are refused."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:
        """Return the schema; flask_openapi3 asks for it with every request, so it is made once."""
        return super().model_json_schema(*args, **options) if args or options else _schema(cls)


class CollectionPath(Parameters):
    """A collection."""

    collection_id: str = Field(max_length=128, description="The collection's id.")


class ParcelPath(CollectionPath):
    """A parcel of a collection."""

    pid: Pid = Field(description="The parcel's id.")
