"""For those who run the service: is it alive, can it work."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel

from cbm_api import metrics
from cbm_api.context import database, public
from cbm_core import __version__

api = APIBlueprint("service", __name__, abp_tags=[Tag(name="service")])


class Health(BaseModel):
    """The state of the service."""

    status: str
    version: str


@api.get("/healthz", responses={200: Health}, summary="The process answers")
@public
def healthz() -> dict[str, str]:
    """Say that the process answers; asks nothing of others."""
    return {"status": "ok", "version": __version__}


@api.get("/readyz", responses={200: Health}, summary="The database answers")
@public
def readyz() -> dict[str, str]:
    """Say that the database answers, or 503."""
    with database().transaction(None) as cursor:
        cursor.execute("SELECT FROM cbm.schema_migration LIMIT 1")
    return {"status": "ok", "version": __version__}


_FIGURES: dict[Any, Any] = {
    200: {
        "description": "Prometheus' text format.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}


@api.get("/metrics", responses=_FIGURES, summary="What the service did, for Prometheus")
def figures() -> Response:
    """Answer counts and durations of all workers; Prometheus logs in like everybody."""
    return Response(metrics.exposition(), content_type=metrics.CONTENT_TYPE)
