"""What the documents of OGC API share (https://docs.ogc.org/is/17-069r4/17-069r4.html)."""

from __future__ import annotations

from typing import Any

from flask import url_for
from pydantic import BaseModel, Field

from cbm_api.parameters import Parameters

GEOJSON = "application/geo+json"


class NoParameters(Parameters):
    """A query without parameters."""


class Link(BaseModel):
    """A link (RFC 8288)."""

    href: str
    rel: str = Field(description="What the target is to this document.")
    type: str | None = Field(default=None, description="The target's media type.")
    title: str | None = None


def link(rel: str, kind: str, endpoint: str, title: str | None = None, **values: Any) -> Link:
    """Return a link to a route of this service."""
    return Link(href=url_for(endpoint, _external=True, **values), rel=rel, type=kind, title=title)


def document(model: BaseModel) -> dict[str, Any]:
    """Return a model as it is sent: with its names outside, without what is not known."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)
