"""The verifiers by which cbm_postgis knows whether a password changed."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "roles/cbm_postgis/files/scram.py"
# RFC 7677's example: password "pencil", its salt and number of iterations.
PENCIL = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


def missing(wanted: dict[str, str], stored: dict[str, str | None]) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT.read_text("utf-8")],
        input=json.dumps({"wanted": wanted, "stored": stored}),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_password_that_is_stored_is_known_again() -> None:
    assert missing({"a": "pencil"}, {"a": PENCIL}) == {}


def test_another_one_none_and_other_forms_are_set() -> None:
    md5 = "md5" + 32 * "0"
    found = missing(dict.fromkeys("abcd", "other"), {"a": PENCIL, "b": None, "c": md5})
    assert set(found) == set("abcd")
    assert missing(dict.fromkeys("abcd", "other"), found) == {}


def test_each_has_a_salt_of_its_own() -> None:
    found = missing({"a": "same", "b": "same"}, {})
    salts = {value.split("$")[1] for value in found.values()}
    assert len(salts) == 2
    assert all(len(base64.b64decode(one.split(":")[1])) == 16 for one in salts)
