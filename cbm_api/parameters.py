"""Parameters that several resources have, and what their documents share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# PostgreSQL's texts hold no NUL.
Pid = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00]*$")]


class CollectionPath(BaseModel):
    """A collection."""

    model_config = ConfigDict(extra="forbid")

    collection_id: str = Field(max_length=128, description="The collection's id.")


class ParcelPath(CollectionPath):
    """A parcel of a collection."""

    pid: Pid = Field(description="The parcel's id.")
