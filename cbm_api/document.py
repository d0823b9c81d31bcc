"""The OpenAPI document: what flask-openapi3 makes of the routes, and what holds for all of them."""

from __future__ import annotations

import re
from typing import Any

from flask_openapi3 import OpenAPI

TITLE = "CAP area monitoring"
DESCRIPTION = "Parcels, per-parcel statistics of Sentinel images, and image chips."
# OGC API - Features, part 1, knows documents of this version.
VERSION = "3.0.3"
_PARAMETER = re.compile(r"<(?:[^:<>]*:)?([^<>]*)>")
_NULL = {"type": "null"}
_PROBLEM = {
    "description": "A problem document (RFC 9457). 400: a parameter is wrong; 401: log in;"
    " 404: there is no such thing, or it is not granted; 413: too large; 429: too many requests;"
    " 503: busy, or something is not reached. With 429 and 503, Retry-After says when to ask.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


class Application(OpenAPI):
    """A Flask application that describes itself."""

    def generate_spec_json(self) -> None:
        """Write the document: problems may answer every request, logins are asked by most."""
        super().generate_spec_json()  # type: ignore[no-untyped-call]
        self.spec_json = document = _older(self.spec_json)
        document["openapi"] = VERSION
        document["components"]["responses"] = {"Problem": _PROBLEM}
        document["security"] = [{"basic": []}, {"bearer": []}]
        generated = [{"$ref": "#/components/schemas/Problem"}]
        for operations in document["paths"].values():
            for operation in operations.values():
                responses = operation["responses"]
                if _items(responses.get("400", {})) in generated:
                    del responses["400"]
                responses["default"] = {"$ref": "#/components/responses/Problem"}
        for rule in self.url_map.iter_rules():
            path = document["paths"].get(_PARAMETER.sub(r"{\1}", rule.rule), {})
            if getattr(self.view_functions[rule.endpoint], "is_public", False):
                for method in set(path) & {one.lower() for one in rule.methods or ()}:
                    path[method]["security"] = []


def _older(node: Any) -> Any:
    """Say in OpenAPI 3.0's schemas what those of 3.1 (JSON Schema 2020-12) say.

    https://spec.openapis.org/oas/v3.0.3#schema-object
    """
    if isinstance(node, list):
        return [_older(one) for one in node]
    if not isinstance(node, dict):
        return node
    found = {name: _older(value) for name, value in node.items()}
    if "const" in found:
        found["enum"] = [found.pop("const")]
    for bound in ("Minimum", "Maximum"):
        if isinstance(found.get(f"exclusive{bound}"), int | float):
            found[bound.lower()] = found[f"exclusive{bound}"]
            found[f"exclusive{bound}"] = True
    if "prefixItems" in found:
        found["items"] = {"anyOf": found.pop("prefixItems")}
    if _NULL in found.get("anyOf", ()):
        found |= _nullable([one for one in found.pop("anyOf") if one != _NULL])
    return found


def _nullable(some: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of what is as one of some schemas says, or null."""
    told = [one if "$ref" in one else {**one, "nullable": True} for one in some]
    return told[0] if told == [{**some[0], "nullable": True}] else {"anyOf": told, "nullable": True}


def _items(response: dict[str, Any]) -> Any:
    """Return of what a response is a list, None if it is none."""
    schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    return schema.get("items")
