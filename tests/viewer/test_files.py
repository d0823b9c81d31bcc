"""The page's files as the API gives them, without a browser."""

import gzip

import pytest

from cbm_api.app import create_app
from cbm_api.routes import viewer
from cbm_core.settings import Settings


@pytest.fixture
def client(tmp_path, monkeypatch):
    for name in ("index.html", "viewer.js"):
        (tmp_path / name).write_text(f"this is {name}")
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(f"this is {name}".encode()))
    (tmp_path.parent / "secret").write_text("not for you")
    monkeypatch.setattr(viewer, "FOLDER", tmp_path)
    return create_app(Settings()).test_client()


def test_the_page_is_for_everybody_and_may_load_nothing_from_elsewhere(client):
    assert client.get("/viewer").headers["Location"].endswith("/viewer/")
    page = client.get("/viewer/")
    assert (page.status_code, page.text) == (200, "this is index.html")
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"


def test_files_are_packed_for_those_who_can_unpack(client):
    plain = client.get("/viewer/viewer.js")
    assert plain.text == "this is viewer.js"
    assert "Content-Encoding" not in plain.headers
    packed = client.get("/viewer/viewer.js", headers={"Accept-Encoding": "br, gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert packed.content_type == plain.content_type == "text/javascript; charset=utf-8"
    assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"


def test_a_file_that_did_not_change_is_not_sent_again(client):
    first = client.get("/viewer/viewer.js")
    again = client.get("/viewer/viewer.js", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    "name", ["nothing.js", "..%2fsecret", "%2e%2e/secret", "..%5csecret", "%00", "a%00.js", "."]
)
def test_there_is_nothing_else(client, name):
    for headers in ({}, {"Accept-Encoding": "gzip"}):
        answer = client.get(f"/viewer/{name}", headers=headers)
        assert answer.status_code in {404, 308}, name
        assert b"not for you" not in answer.data


def test_a_page_that_was_not_built_is_said_to_be(client, tmp_path):
    for file in tmp_path.iterdir():
        file.unlink()
    answer = client.get("/viewer/")
    assert answer.status_code == 404
    assert "was not built" in answer.json["detail"]
