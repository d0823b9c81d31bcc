"""What counts the days of certificates."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.ansible.tree import REPO

SCRIPT = REPO / "roles/cbm_monitoring/files/certificate_days.py"


def certificate(folder: Path, name: str, days: int) -> Path:
    path = folder / name
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "/dev/null"]
    subprocess.run(
        ["openssl", "req", "-x509", *key, "-days", str(days), "-subj", "/CN=x", "-out", str(path)],
        check=True,
        capture_output=True,
    )
    return path


def end_of(path: Path) -> int:
    """As `date` reads what openssl says."""
    end = subprocess.check_output(
        ["openssl", "x509", "-noout", "-enddate", "-in", str(path)], text=True
    )
    return int(subprocess.check_output(["date", "+%s", "--date", end.strip().split("=")[1]]))


def written(output: Path, *patterns: str) -> dict:
    subprocess.run([sys.executable, "-I", str(SCRIPT), str(output), *patterns], check=True)
    return {
        (sample.name, sample.labels["path"]): sample.value
        for family in text_string_to_metric_families(output.read_text())
        for sample in family.samples
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pki").mkdir()
    return tmp_path


def test_when_certificates_expire(folder: Path) -> None:
    one, two = (certificate(folder / "pki", f"{days}.pem", days) for days in (3, 300))
    name = "cbm_certificate_expires_timestamp_seconds"
    assert written(folder / "x.prom", f"{folder}/p*/*.pem", str(one)) == {
        (name, str(one)): end_of(one),
        (name, str(two)): end_of(two),
    }
    assert (folder / "x.prom").stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in folder.iterdir()) == ["pki", "x.prom"]


def test_of_a_chain_the_first_to_expire_counts(folder: Path) -> None:
    late, soon = certificate(folder, "a", 300), certificate(folder, "b", 3)
    chain = folder / "pki/chain.pem"
    chain.write_text(late.read_text() + soon.read_text())
    (value,) = written(folder / "x.prom", str(chain)).values()
    assert value == end_of(soon)


def test_what_is_no_certificate_is_told(folder: Path) -> None:
    empty, damaged = folder / "pki/empty.pem", folder / 'pki/dam"aged.pem'
    empty.write_text("")
    damaged.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert written(folder / "x.prom", f"{folder}/pki/*") == {
        ("cbm_certificate_unreadable", str(empty)): 1,
        ("cbm_certificate_unreadable", str(damaged)): 1,
    }
