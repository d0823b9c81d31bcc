"""Tokens of an identity provider."""

import base64
import hmac
import json
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from flask import g
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

from cbm_api.app import create_app
from cbm_api.logins import oidc
from cbm_core.settings import ApiSettings
from cbm_core.users import verbs
from cbm_core.verbs import Context
from tests.api.conftest import add_user, basic

pytestmark = pytest.mark.postgis

ISSUER, AUDIENCE = "https://login.example/realms/cbm", "cbm-api"
RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"})
STRANGER = RSAKey.generate_key(2048, {"kid": "rsa"})


def key_set(*keys) -> str:
    return json.dumps({"keys": [key.as_dict(private=False) for key in keys]})


def claims(**changes):
    now = int(time.time())
    given = {
        "iss": ISSUER,
        "aud": ["account", AUDIENCE],
        "iat": now,
        "exp": now + 300,
        "sub": "anna",
        # Users may change it at most providers.
        "preferred_username": "paul",
        **changes,
    }
    return {name: value for name, value in given.items() if value is not None}


def signed(key=RSA, alg="RS256", **changes):
    header = {"alg": alg, "kid": key.kid}
    return jwt.encode(header, claims(**changes), key, algorithms=[alg])


def part(document) -> str:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


@pytest.fixture
def keys(tmp_path):
    """The file of the provider's keys."""
    file = tmp_path / "jwks.json"
    file.write_text(key_set(RSA, EC, ED))
    return file


@pytest.fixture
def guarded(db):
    """guarded(keys) -> a client of an application whose provider has these keys."""
    made = []

    def make(keys, **api):
        given = {"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, "oidc_jwks": str(keys), **api}
        settings = replace(db, database={**db.database, "user": "cbm_web"})
        app = create_app(replace(settings, api=ApiSettings(**given)))
        app.add_url_rule("/whoami", view_func=lambda: {"user": g.user})
        made.append(app)
        return app.test_client()

    yield make
    for app in made:
        app.extensions["cbm_database"].close()


@pytest.fixture
def client(guarded, keys, db):
    add_user(db, "anna")
    return guarded(keys)


def ask(client, token):
    response = client.get("/whoami", headers={"Authorization": f"Bearer {token}"})
    return response.status_code, response.json.get("user") or response.json["code"]


@pytest.mark.parametrize(("key", "alg"), [(RSA, "RS256"), (RSA, "PS256"), (EC, "ES256")])
def test_a_token_is_its_user(client, key, alg):
    assert ask(client, signed(key, alg)) == (200, "anna")


def test_who_calls_herself_like_another_user_is_not_that_user(client, db):
    add_user(db, "paul")
    assert ask(client, signed(preferred_username="paul")) == (200, "anna")
    assert ask(client, signed(sub="mallory", preferred_username="paul")) == (401, "login_failed")


def test_ed25519(client):
    assert ask(client, signed(ED, "Ed25519")) == (200, "anna")


def test_the_claim_is_the_settings(guarded, keys, db):
    add_user(db, "anna@agency.example")
    client = guarded(keys, oidc_claim="email")
    assert ask(client, signed(email="anna@agency.example")) == (200, "anna@agency.example")
    assert ask(client, signed()) == (401, "login_failed")


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://login.example/realms/other"},
        {"iss": ISSUER + "/"},
        {"iss": None},
        {"aud": "another-api"},
        {"aud": ["account"]},
        {"aud": None},
        {"aud": {"cbm-api": 1}},
        {"exp": None},
        {"exp": "tomorrow"},
        {"nbf": 2**40},
        {"sub": None},
        {"sub": "nobody"},
        {"sub": ["anna"]},
        {"sub": "anna\0"},
        {"sub": "' OR name = 'anna"},
    ],
)
def test_claims_that_are_not_right(client, changes):
    assert ask(client, signed(**changes)) == (401, "login_failed")


def test_expired_but_for_the_clocks_difference(client):
    assert ask(client, signed(exp=int(time.time()) - 10)) == (200, "anna")
    assert ask(client, signed(exp=int(time.time()) - 60)) == (401, "token_expired")


def test_a_token_of_another_key(client):
    assert ask(client, signed(STRANGER)) == (401, "login_failed")


def test_forged_tokens(client):
    unsigned = f"{part({'alg': 'none', 'kid': 'rsa'})}.{part(claims())}."
    # The public key is everybody's: as a secret it must not open anything.
    text = f"{part({'alg': 'HS256', 'kid': 'rsa'})}.{part(claims())}"
    digest = hmac.digest(RSA.as_pem(private=False), text.encode(), "sha256")
    secret = f"{text}.{part(digest)}"
    header, payload, signature = signed().split(".")
    swapped = f"{header}.{part(claims(sub='root'))}.{signature}"
    mine = {"alg": "RS256", "jwk": STRANGER.as_dict(private=False)}
    carried = jwt.encode(mine, claims(), STRANGER, algorithms=["RS256"])
    for token in (
        unsigned,
        secret,
        swapped,
        carried,
        f"{header}.{payload}.",
        f"{header}.{payload}",
    ):
        assert ask(client, token) == (401, "login_failed")


@pytest.mark.parametrize(
    "token",
    [
        "a.b.c",
        "...",
        "a.b.c.d.e",
        part(b"[" * 5000) + ".e30.x",
        part(b"[]") + ".e30.x",
        part(b"\xff") + ".e30.x",
        part({"alg": ["RS256"], "kid": {"a": 1}}) + ".e30.x",
        part({"alg": "RS256", "kid": "x", "crit": ["b64"], "b64": False}) + ".e30.x",
        "é.é.é",
    ],
)
def test_what_is_no_token(client, token):
    assert ask(client, token) == (401, "login_failed")


def test_a_signed_token_whose_content_is_none(client):
    from joserfc import jws

    for content in (b"[]", b"null", b"[" * 5000, b"\xff", b""):
        token = jws.serialize_compact({"alg": "RS256", "kid": "rsa"}, content, RSA)
        assert ask(client, token) == (401, "login_failed")


def test_a_disabled_user_is_shut_out(client, db):
    token = signed()
    assert ask(client, token) == (200, "anna")
    arguments = verbs.DISABLE.arguments.model_validate({"name": "anna"})
    verbs.DISABLE.run(arguments, Context(db))
    assert ask(client, token) == (401, "login_failed")


def test_without_a_provider_its_tokens_are_worthless(app, db):
    add_user(db, "anna")
    app.add_url_rule("/whoami", view_func=lambda: {"user": g.user})
    assert ask(app.test_client(), signed()) == (401, "login_failed")


def test_new_keys_are_read_when_a_token_names_them(client, keys, monkeypatch):
    fresh = RSAKey.generate_key(2048, {"kid": "fresh"})
    assert ask(client, signed()) == (200, "anna")
    keys.write_text(key_set(fresh))
    assert ask(client, signed(fresh)) == (401, "login_failed"), "not with every guess"
    after(monkeypatch, oidc.RETRY_SECONDS)
    assert ask(client, signed(fresh)) == (200, "anna")
    assert ask(client, signed()) == (401, "login_failed"), "a key taken back opens nothing"


def test_keys_are_read_anew_after_a_while(client, keys, monkeypatch):
    assert ask(client, signed()) == (200, "anna")
    keys.write_text(key_set(STRANGER))
    assert ask(client, signed()) == (200, "anna")
    after(monkeypatch, oidc.KEYS_SECONDS)
    assert ask(client, signed()) == (401, "login_failed")
    assert ask(client, signed(STRANGER)) == (200, "anna")


def test_known_keys_serve_while_the_provider_is_away(client, keys, monkeypatch):
    assert ask(client, signed()) == (200, "anna")
    keys.unlink()
    after(monkeypatch, oidc.KEYS_SECONDS)
    assert ask(client, signed()) == (200, "anna")


@pytest.mark.parametrize("content", [None, "", "[]", '{"keys": []}', '{"keys": [1]}', "[" * 9999])
def test_a_provider_without_keys(guarded, keys, db, monkeypatch, content):
    add_user(db, "anna")
    keys.unlink() if content is None else keys.write_text(content)
    client = guarded(keys)
    response = client.get("/whoami", headers={"Authorization": f"Bearer {signed()}"})
    assert (response.status_code, response.json["code"]) == (503, "identity_provider_unreachable")
    assert int(response.headers["Retry-After"]) > 0
    assert client.get("/whoami", headers=basic("anna")).status_code == 200
    keys.write_text(key_set(RSA))
    after(monkeypatch, 4)
    assert ask(client, signed()) == (200, "anna")


def after(monkeypatch, seconds):
    """Let the time pass that is waited between two readings of keys."""
    now = time.monotonic()
    monkeypatch.setattr(oidc.time, "monotonic", lambda: now + seconds + 1)


@contextmanager
def https(folder, answers):
    """A server with a certificate that is trusted: path -> (status, headers, body)."""
    pem = folder / "host.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", pem, "-out",
         folder / "ca.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    pem.write_text(pem.read_text() + (folder / "ca.pem").read_text())

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = answers[self.path]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_arguments):
            pass

    server = HTTPServer(("localhost", 0), Answers)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_keys_come_over_https_from_nowhere_else(guarded, db, tmp_path, monkeypatch):
    add_user(db, "anna")
    answers = {
        "/keys": (200, {"Content-Type": "application/json"}, key_set(RSA)),
        "/moved": (302, {"Location": "/keys"}, ""),
    }
    with https(tmp_path, answers) as url:
        assert ask(guarded(f"{url}/keys"), signed())[0] == 503, "its certificate is not trusted"
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        monkeypatch.setenv("no_proxy", "localhost")
        assert ask(guarded(f"{url}/keys"), signed()) == (200, "anna")
        assert ask(guarded(f"{url}/moved"), signed())[0] == 503
        assert ask(guarded(url.replace("https", "http") + "/keys"), signed())[0] == 503
