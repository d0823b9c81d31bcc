"""Where clients of OGC API begin: what is here, and which standards it keeps to."""

from __future__ import annotations

from typing import Any, cast

from flask import Response, current_app, json, request, url_for
from flask_openapi3 import APIBlueprint, OpenAPI, Tag
from pydantic import BaseModel, Field

from cbm_api.context import public
from cbm_api.document import DESCRIPTION, TITLE
from cbm_api.routes.ogc import Link, NoParameters, document, link

api = APIBlueprint(
    "landing", __name__, abp_tags=[Tag(name="collections", description="Parcels, by dataset")]
)

# Of the OpenAPI document in JSON; part 1 asks for this very text (/req/oas30/oas-definition-1).
MEDIA_TYPE = "application/vnd.oai.openapi+json;version=3.0"
CLASSES = [
    "http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/json",
    "http://www.opengis.net/spec/ogcapi-common-2/1.0/conf/collections",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/oas30",
    "http://www.opengis.net/spec/ogcapi-features-2/1.0/conf/crs",
]


class Landing(BaseModel):
    """The landing page."""

    title: str
    description: str
    links: list[Link]


class Conformance(BaseModel):
    """The standards that are kept to."""

    conforms_to: list[str] = Field(serialization_alias="conformsTo")


@api.get("/v1", responses={200: Landing}, summary="What is here", strict_slashes=False)
@public
def landing(query: NoParameters) -> dict[str, Any]:
    """Link to what is here; needs no login."""
    page = Landing(
        title=TITLE,
        description=DESCRIPTION,
        links=[
            Link(href=request.base_url, rel="self", type="application/json"),
            link("service-desc", MEDIA_TYPE, "landing.description", "The OpenAPI document"),
            Link(
                href=url_for("openapi.openapi", _external=True),
                rel="service-doc",
                type="text/html",
                title="The OpenAPI document as a page",
            ),
            link("conformance", "application/json", "landing.conformance"),
            link("data", "application/json", "collections.collections", "The collections"),
        ],
    )
    return document(page)


_DOCUMENT: dict[Any, Any] = {
    200: {"description": "OpenAPI 3.0.", "content": {MEDIA_TYPE: {"schema": {"type": "object"}}}}
}


@api.get("/v1/api", responses=_DOCUMENT, summary="The OpenAPI document")
@public
def description(query: NoParameters) -> Response:
    """Describe every route, in the form that clients of OGC API ask for; needs no login."""
    return Response(json.dumps(cast(OpenAPI, current_app).api_doc), content_type=MEDIA_TYPE)


@api.get("/v1/conformance", responses={200: Conformance}, summary="Standards that are kept to")
@public
def conformance(query: NoParameters) -> dict[str, Any]:
    """List the conformance classes of OGC API that this service keeps to; needs no login."""
    return document(Conformance(conforms_to=CLASSES))
