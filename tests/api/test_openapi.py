"""The OpenAPI document, and whether the answers are as it says (schemathesis)."""

from dataclasses import replace

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cbm_api.app import create_app
from tests.api.hostile import world
from tests.api.test_security_routes import PUBLIC

pytestmark = pytest.mark.postgis
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 12


def test_problems_and_logins_are_described(app):
    document = app.test_client().get("/openapi/openapi.json").json
    assert len(document["paths"]) > 30
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["responses"]["default"] == {"$ref": "#/components/responses/Problem"}
            assert operation["summary"]
            if path in PUBLIC:
                assert operation["security"] == [], path
    for path in ("/v1/collections", "/query/info", "/metrics"):
        assert "security" not in document["paths"][path]["get"]
    problem = document["components"]["responses"]["Problem"]["content"]
    assert list(problem) == ["application/problem+json"]
    assert document["security"] == [{"basic": []}, {"bearer": []}]


def test_answers_are_as_described(db, tmp_path):
    """Every operation, with examples made from the document and the world's own names."""
    named = world(db, tmp_path)
    api = replace(db.api, requests_per_minute=1_000_000)
    app = create_app(replace(db, database={**db.database, "user": "cbm_web"}, api=api))
    schema = schemathesis.openapi.from_wsgi("/openapi/openapi.json", app)
    failures, answered = [], 0
    for result in schema.get_all_operations():
        operation = result.ok()
        statuses: list[int] = []
        try:
            conforms(operation, named, statuses)
        except BaseExceptionGroup as failure:
            failures += [f"{operation.label}: {one}" for one in failure.exceptions]
        answered += min(statuses, default=999) < 300
    app.extensions["cbm_database"].close()
    assert not failures, "\n".join(failures)
    # Most did not stop at the first parameter.
    assert answered > 30


def conforms(operation, named, statuses: list[int]) -> None:
    """Ask an operation; every other time for what there is."""

    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case):
        if len(statuses) % 2 == 0:
            if len(statuses) == 0:
                case.query = {}
            declared = {one.name for one in operation.query}
            case.query = {
                **(case.query or {}),
                **{name: named.values[name] for name in declared & set(named.values)},
            }
            for name in set(case.path_parameters or {}) & set(named.values):
                case.path_parameters[name] = named.values[name]
        response = case.call(headers=named.headers)
        statuses.append(response.status_code)
        case.validate_response(response, checks=CHECKS)

    ask()
