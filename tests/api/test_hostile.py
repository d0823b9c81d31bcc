"""Every parameter of every route, with what attackers send; and a neighbour's data through all."""

import json
from dataclasses import replace
from urllib.parse import quote, unquote

import pytest

from cbm_api.app import create_app
from tests.api.conftest import owner
from tests.api.hostile import SECRET, Named, world
from tests.factories import sql

pytestmark = pytest.mark.postgis

TEXTS = [
    "",
    "'",
    '"; DROP TABLE cbm.parcel CASCADE; --',
    "' OR '1'='1",
    "p0' UNION SELECT password_hash FROM cbm.api_user --",
    "1; SELECT pg_sleep(60)",
    "%s%n%(x)s",
    "../../../../../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "/vsicurl/http://127.0.0.1:1/x",
    "$(id)`id`|id;id&&id",
    "<script>alert(1)</script>",
    "{{7*7}}${7*7}",
    "NaN",
    "-Infinity",
    "1e400",
    "9" * 400,
    "-9223372036854775809",
    "0x7f",
    "٣",  # a digit, but not of ASCII
    "9999-99-99/..",
    "0001-01-01/9999-12-31",
    "A" * 3000,
    "\r\nX-Injected: 1",
    "[[[]]]",
]
# Already encoded: a NUL, what is no UTF-8, half of a surrogate pair, encoded twice.
RAW = ["%00", "p0%00", "%ff%fe", "%ed%a0%80", "%252e%252e%252f"]
BODIES = [b"", b"{", b"\xff\xfe", b"null", b'"x"', b"[]", b'{"a": NaN}', b"[" * 100_000,
          b'{"a":' * 50_000, b'{"\\u0000": "\\ud800"}', b"1e999"]  # fmt: skip
VALUES = [None, True, -1, 10**400, 1e308, [], {}, [None], "\0", "\ud800", {"type": "Polygon"},
          {"type": "Polygon", "coordinates": [[[1e308, 0], [0, 1e308], [1, 1], [1e308, 0]]]},
          {"type": "Polygon", "coordinates": [[[0, 0]]]}]  # fmt: skip
# What nobody outside should read: of the server's inside, and of the neighbour.
INSIDE = ("Traceback", "psycopg2", "SELECT ", "root:x:0", "argon2", SECRET)


@pytest.fixture
def named(db, tmp_path) -> Named:
    return world(db, tmp_path)


@pytest.fixture
def client(db):
    app = create_app(
        replace(
            db,
            database={**db.database, "user": "cbm_web"},
            api=replace(db.api, requests_per_minute=10**6),
        )
    )
    yield app.test_client()
    app.extensions["cbm_database"].close()


def operations(client):
    """Method, path, parameters as (place, name), schema of the body."""
    document = client.get("/openapi/openapi.json").json
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            found = [(one["in"], one["name"]) for one in operation.get("parameters", [])]
            content = operation.get("requestBody", {}).get("content", {})
            yield method, path, found, _resolved(document, content)


def _resolved(document, content):
    schema = content.get("application/json", {}).get("schema", {})
    reference = schema.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"].get(reference, schema)


def address(path: str, parameters, given: dict[str, str]) -> str:
    """The URL with values that are encoded already."""
    query = []
    for place, name in parameters:
        value = given.get(name)
        if place == "path":
            path = path.replace(f"{{{name}}}", value or "1")
        elif value is not None:
            query.append(f"{name}={value}")
    return path + ("?" + "&".join(query) if query else "")


def known(named: Named, parameters) -> dict[str, str]:
    return {
        name: quote(str(named.values[name]), safe="")
        for _, name in parameters
        if name in named.values
    }


def wrong(response, sent: str = "") -> str | None:
    """What is wrong with an answer to an attacker, who may read again what was sent."""
    with response:
        if response.status_code >= 500:
            return f"{response.status_code} {response.text[:200]}"
        if response.status_code >= 400 and response.content_type != "application/problem+json":
            return f"{response.status_code} as {response.content_type}"
        if "X-Injected" in response.headers:
            return "takes a header"
        said = response.data.decode("utf-8", "replace")
    return next((f"says {word}" for word in INSIDE if word in said and word not in sent), None)


def unharmed(db):
    return [
        sql(owner(db), f"SELECT count(*) FROM cbm.{table}")
        for table in ("parcel", "api_user", "dataset_grant", "signature", "scene", "product")
    ]


def test_injections_in_every_parameter(db, client, named):
    before = unharmed(db)
    failures, asked = [], 0
    encoded = [quote(text, safe="") for text in TEXTS] + RAW
    for method, path, parameters, _ in operations(client):
        for _, name in parameters:
            for value in encoded:
                url = address(path, parameters, {**known(named, parameters), name: value})
                response = client.open(url, method=method, headers=named.headers)
                asked += 1
                if fault := wrong(response, unquote(value)):
                    failures.append(f"{method} {path} {name}={value[:60]}: {fault}")
    assert not failures, "\n".join(failures)
    assert asked > 3000
    assert unharmed(db) == before


def test_unknown_parameters_and_headers(client, named):
    for method, path, parameters, _ in operations(client):
        url = address(path, parameters, known(named, parameters))
        odd = url + ("&" if "?" in url else "?") + "odd=1&odd=2&%00=%00&__proto__[x]=1"
        response = client.open(odd, method=method, headers=named.headers)
        assert not wrong(response), path
        if path.startswith("/v1/collections/"):
            assert response.status_code == 400, path
        headers = {
            **named.headers, "X-Request-Id": "a b\x7f", "X-Forwarded-For": "'; --", "Host": "evil",
            "Accept": "*/*;q=x, \xff", "If-None-Match": '"', "If-Modified-Since": "x",
            "Range": "bytes=-x", "Content-Type": "multipart/form-data; boundary=\xff",
        }  # fmt: skip
        assert not wrong(client.open(url, method=method, headers=headers)), path


def test_bodies_that_are_no_good(db, client, named):
    before = unharmed(db)
    failures, asked = [], 0
    for method, path, parameters, schema in operations(client):
        if not schema:
            continue
        url = address(path, parameters, known(named, parameters))
        bodies = list(BODIES)
        for name in schema.get("properties", {}):
            bodies += [json.dumps({name: value}).encode() for value in [*VALUES, *TEXTS]]
        for body in bodies:
            response = client.open(
                url,
                method=method,
                data=body,
                headers=named.headers,
                content_type="application/json",
            )
            asked += 1
            if fault := wrong(response, repr(body)):
                failures.append(f"{method} {path} {body[:80]!r}: {fault}")
    assert not failures, "\n".join(failures)
    assert asked > 200
    assert unharmed(db) == before


def test_a_neighbours_dataset_is_as_unknown_as_one_that_does_not_exist(client, named):
    """Through every route that names a dataset, a parcel or a scene of it."""
    asked = 0
    for method, path, parameters, schema in operations(client):
        names = {name for _, name in parameters}
        if not names & {"collection_id", "aoi"}:
            continue
        answers = []
        for aoi in ("zz", "qq"):
            given = known(named, parameters)
            given |= {"collection_id": f"{aoi}_2024", "aoi": aoi, "pid": f"{SECRET}p0"}
            body = {"parcels": [f"{SECRET}p0"], "card": "s2"} if schema else None
            response = client.open(
                address(path, parameters, given), method=method, headers=named.headers, json=body
            )
            text = response.text.replace(f"{aoi}_2024", "").replace(f"{SECRET}p0", "")
            assert SECRET not in text, path
            request_id = response.headers["X-Request-Id"]
            answers.append((response.status_code, text.replace(request_id, "")))
        assert answers[0] == answers[1], path
        asked += 1
    assert asked > 30


def test_lists_name_no_neighbour(client, named):
    for path in ("/v1/collections", "/query/info", "/v1/jobs", "/v1"):
        response = client.get(path, headers=named.headers)
        assert response.status_code == 200
        assert "zz" not in response.text and SECRET not in response.text


def test_methods_that_are_not_there(client, named):
    for _, path, parameters, _ in operations(client):
        url = address(path, parameters, known(named, parameters))
        for method in ("PUT", "PATCH", "TRACE", "ODD"):
            response = client.open(url, method=method, headers=named.headers)
            assert response.status_code == 405, (method, path)
            assert not wrong(response)
