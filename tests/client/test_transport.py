"""Logins, certificates, patience, and what is said when the API does not answer as it should."""

import base64
import logging
import socket
import time
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cbm_client import ApiError, Client, jobs
from tests.client.stub import Answer, serve
from tests.postgis import free_port

SECRET = "pässword of anna"


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    """The pauses that were made; none takes time."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    return pauses


def client(url: str, **given) -> Client:
    return Client(url, "anna", SECRET, **given)


def failure(one: Client) -> ApiError:
    with one, pytest.raises(ApiError) as found:
        one.collections()
    return found.value


def test_logins(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login eve password of-another\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with serve() as stub:
        assert len(client(stub.url).collections()) == 0
        Client(f"{stub.url}/v1/", token="cbm_secret").collections()
    basic = base64.b64encode(f"anna:{SECRET}".encode()).decode()
    assert stub.asked == [
        ("/v1/collections", f"Basic {basic}"),
        ("/v1/collections", "Bearer cbm_secret"),
    ]


@pytest.mark.parametrize(
    "given", [{}, {"user": "anna"}, {"password": SECRET}, {"user": "anna", "token": "t"}]
)
def test_a_login_is_whole(given):
    with pytest.raises(ValueError, match="user and password, or a token"):
        Client("https://cbm.example", **given)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://cbm.example", "use https"),
        ("http://127.0.0.1.example", "use https"),
        ("https://anna:topsecret@cbm.example", "holds a login"),
        ("cbm.example", "an address like"),
        ("file:///etc/passwd", "an address like"),
    ],
)
def test_bad_addresses(url, said):
    with pytest.raises(ValueError, match=said) as found:
        client(url)
    assert "topsecret" not in str(found.value)


def test_secrets_are_not_shown(caplog):
    caplog.set_level(logging.DEBUG)
    with serve(Answer.problem(401, "login_failed")) as stub:
        one = client(stub.url)
        error = failure(one)
        other = Client(stub.url, token="cbm_secret")
        other.collections()
    basic = base64.b64encode(f"anna:{SECRET}".encode()).decode()
    shown = [repr(one), repr(other), str(error), repr(error), repr(vars(error)), caplog.text]
    shown += [repr(vars(one._transport)), repr(vars(other._transport))]
    assert "127.0.0.1" in shown[0] and "/v1/collections" in caplog.text
    for text in shown:
        assert not any(secret in text for secret in (SECRET, basic, "cbm_secret"))
    assert (error.code, error.status, error.request_id) == ("login_failed", 401, "r1")
    assert "Check user and password" in str(error)


@pytest.mark.parametrize(("status", "code"), [(503, "busy"), (429, "too_many_requests")])
def test_what_passes_is_waited_for(slept, status, code):
    busy = Answer.problem(status, code, Retry_After="7")
    with serve(busy, busy) as stub, client(stub.url) as one:
        one.collections()
    assert slept == [7, 7] and len(stub.asked) == 3


@pytest.mark.parametrize("status", [502, 504])
def test_a_proxys_word_is_waited_out_where_nothing_is_changed(slept, status):
    down = Answer(status, "<html/>", "text/html")
    with serve(down, down) as stub, client(stub.url) as one:
        one.collections()
        assert (slept, len(stub.asked)) == ([0.5, 1], 3)
        stub.answers += [down]
        with pytest.raises(ApiError) as found:
            one.signatures("tt_2024", ["p0"])
    assert (found.value.code, len(stub.asked), len(slept)) == (f"http_{status}", 4, 2)


def test_the_apis_own_502_does_not_pass(slept):
    with serve(Answer.problem(502, "raster_damaged")) as stub:
        assert failure(client(stub.url)).code == "raster_damaged"
    assert slept == []


def test_without_a_word_of_the_server_pauses_grow(slept):
    with serve(*[Answer(503, "busy", "text/html")] * 3) as stub, client(stub.url) as one:
        one.collections()
    assert slept == [0.5, 1, 2]


def test_patience_ends(slept):
    busy = Answer.problem(503, "busy", Retry_After="4")
    with serve(*[busy] * 9) as stub:
        error = failure(client(stub.url, patience=10))
    assert (error.code, error.retry_after, slept) == ("busy", 4, [4, 4])
    with serve(Answer.problem(429, "too_many_requests", Retry_After="3600")) as stub:
        assert failure(client(stub.url)).retry_after == 3600
    assert len(slept) == 2


def test_who_is_locked_out_does_not_try_again(slept):
    with serve(Answer.problem(429, "locked_out", Retry_After="1")) as stub:
        error = failure(client(stub.url))
    assert (error.code, slept, len(stub.asked)) == ("locked_out", [], 1)


def test_a_login_is_not_carried_elsewhere():
    with serve() as other:
        to = {"Location": f"{other.url}/v1/collections"}
        with serve(Answer(302, "", headers=to)) as stub:
            error = failure(client(stub.url))
    assert error.code == "redirected" and other.url in error.message
    assert other.asked == []


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(502, "<html>Bad gateway</html>", "text/html"), "http_502"),
        (Answer(500, "{", "application/problem+json"), "http_500"),
        (Answer(200, "<html>Log in here</html>", "text/html"), "not_the_api"),
        (Answer(200, []), "not_the_api"),
    ],
)
def test_answers_that_are_not_the_apis(answer, code):
    with serve(answer) as stub:
        assert failure(client(stub.url, patience=0)).code == code


def test_numbers_that_are_not_the_apis():
    with (
        serve(Answer(200, "<html/>", "text/html")) as stub,
        client(stub.url) as one,
        pytest.raises(ApiError) as found,
    ):
        one.signatures("tt_2024", "p0")
    assert found.value.code == "not_the_api"


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_what_is_not_ciphered_goes_past_proxies(monkeypatch, name):
    for unset in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(unset, raising=False)
    with serve() as proxy, serve() as stub:
        monkeypatch.setenv(name, proxy.url)
        with client(stub.url) as one:
            one.collections()
        assert (proxy.asked, len(stub.asked)) == ([], 1)


def test_nobody_there():
    error = failure(client(f"http://127.0.0.1:{free_port()}"))
    assert (error.code, error.status) == ("unreachable", None)
    assert "Check the address" in error.hint


def test_a_server_that_says_nothing():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = failure(client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2))
    assert error.code == "timed_out" and "0.2 s" in error.message


@pytest.fixture
def certificate(tmp_path):
    """A certificate of 127.0.0.1 that signs itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "own.pem"
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(
        key.private_bytes(pem, form, serialization.NoEncryption()) + made.public_bytes(pem)
    )
    return path


def test_certificates_are_checked(certificate, monkeypatch, tmp_path):
    with serve(certificate=certificate) as stub:
        assert failure(client(stub.url)).code == "tls_failed"
        assert stub.asked == []
        with client(stub.url, ca=certificate) as one:
            one.collections()
        # What the environment says yields to what the client is told.
        (tmp_path / "empty.pem").touch()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "empty.pem"))
        with client(stub.url, ca=certificate) as one:
            one.collections()
        with pytest.raises(FileNotFoundError):
            client(stub.url, ca=tmp_path / "none.pem")


@pytest.mark.parametrize("pid", ["", ".", ".."])
def test_ids_that_paths_cannot_hold(pid):
    with serve() as stub, client(stub.url) as one, pytest.raises(ValueError, match="no id"):
        one.parcel("tt_2024", pid)
    assert stub.asked == []


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("2024-05-01/..", "2024-05-01/.."),
        (date(2024, 5, 1), "2024-05-01"),
        ((date(2024, 5, 1), None), "2024-05-01/.."),
        ((None, datetime.fromisoformat("2024-05-01T12:00:00")), "../2024-05-01T12:00:00.000000Z"),
        (datetime.fromisoformat("2024-05-01T12:00:00+02:00"), "2024-05-01T10:00:00.000000Z"),
    ],
)
def test_times_as_the_api_spells_them(given, sent):
    body = {"answers": []}
    with serve(Answer(200, body)) as stub, client(stub.url) as one:
        assert len(one.coverage("tt_2024", "p0", datetime=given)) == 0
    (path, _) = stub.asked[0]
    assert path.partition("datetime=")[2].replace("%2F", "/").replace("%3A", ":") == sent


JOB = {"id": "j", "parcels": 9, "parcels_done": 4, "state": "running", "bytes": None}


DOWN = {
    "database_unreachable": Answer.problem(503, "database_unreachable", Retry_After="5"),
    "http_502": Answer(502, "<html/>", "text/html"),
    "http_503": Answer(503, "<html/>", "text/html"),
    "http_504": Answer(504, "<html/>", "text/html"),
}


@pytest.mark.parametrize("code", DOWN)
def test_an_outage_does_not_end_the_wait_for_a_job(slept, monkeypatch, code):
    down = DOWN[code]
    done = Answer(200, {**JOB, "state": "done"})
    seen: list[str] = []
    with serve(Answer(200, JOB), down, done) as stub, client(stub.url, patience=0) as one:
        one.job("j").wait(lambda job: seen.append(job.state))
    assert seen == ["running", "done"]
    monkeypatch.setattr(jobs, "_OUTAGE_SECONDS", 0)
    with serve(Answer(200, JOB), down, done) as stub, client(stub.url, patience=0) as one:
        with pytest.raises(ApiError) as found:
            one.job("j").wait()
        assert found.value.code == code
