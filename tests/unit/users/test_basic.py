"""Reading of Basic logins and of addresses."""

import base64

import pytest

from cbm_api.logins import basic


def header(content: bytes, scheme: str = "Basic") -> str:
    return f"{scheme} {base64.b64encode(content).decode()}"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (header(b"anna:secret"), ("anna", "secret")),
        (header(b"anna:a:b:c", "bAsIc"), ("anna", "a:b:c")),
        (header(b":"), ("", "")),
        (header("anna:pässwörd".encode()), ("anna", "pässwörd")),
        # as Python's requests sends it
        (header("anna:pässwörd".encode("latin-1")), ("anna", "pässwörd")),
        (header(b"a\0b:\0"), ("a\0b", "\0")),
        (header(b"no colon"), None),
        ("Basic", None),
        ("Basic !!!", None),
        ("Basic YQ", None),
        ("Bearer YTpi", None),
        ("", None),
    ],
)
def test_parse(given, expected):
    assert basic.parse(given) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", "0.0.0.0"),
        (None, "0.0.0.0"),
        ("unknown", "0.0.0.0"),
        ("'; DROP TABLE cbm.audit", "0.0.0.0"),
    ],
)
def test_network(address, expected):
    assert basic.network(address) == expected
