"""The OpenAPI document: what flask-openapi3 makes of the routes, and what holds for all of them."""

from __future__ import annotations

import re
from typing import Any

from flask_openapi3 import OpenAPI

_PARAMETER = re.compile(r"<(?:[^:<>]*:)?([^<>]*)>")
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
        document = self.spec_json
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


def _items(response: dict[str, Any]) -> Any:
    """Return of what a response is a list, None if it is none."""
    schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    return schema.get("items")
