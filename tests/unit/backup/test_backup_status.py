"""What `cbm-backup` reports and compares, without a database."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILES = Path(__file__).parents[3] / "roles/cbm_backup/files"
GOOD = {"stored_bytes": 77, "label": "20261123-050000F"}


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(FILES), *sys.path])
    return importlib.import_module("cbm_backup")


def lines(program: ModuleType, status: dict[str, Any]) -> list[str]:
    return [line for line in program.metrics(status).splitlines() if not line.startswith("#")]


def test_a_good_backup_is_dated_by_kind(program: ModuleType) -> None:
    status = program.ended({}, "full", "success", GOOD, 1000.7)
    assert lines(program, status) == [
        'cbm_backup_last_success_timestamp_seconds{kind="full"} 1000',
        'cbm_backup_size_bytes{kind="full"} 77',
        "cbm_backup_last_run_success 1",
    ]


def test_a_failure_keeps_when_it_was_good(program: ModuleType) -> None:
    status = program.ended({}, "full", "success", GOOD, 1000)
    status = program.ended(status, "full", "exit-code", {"error": "no route"}, 2000)
    assert status["full"]["error"] == "no route"
    assert 'cbm_backup_last_success_timestamp_seconds{kind="full"} 1000' in lines(program, status)
    assert "cbm_backup_last_run_success 0" in lines(program, status)


def test_a_killed_run_is_a_failure_although_it_left_no_word(program: ModuleType) -> None:
    status = program.ended({}, "drill", "oom-kill", {}, 2000)
    assert status["drill"]["error"] == "systemd says: oom-kill"
    assert lines(program, status) == ["cbm_backup_drill_last_run_success 0"]


def test_the_last_of_all_kinds_counts(program: ModuleType) -> None:
    status = program.ended({}, "diff", "exit-code", {}, 1000)
    status = program.ended(status, "full", "success", GOOD, 2000)
    assert "cbm_backup_last_run_success 1" in lines(program, status)


def test_differences_name_the_table(program: ModuleType) -> None:
    noted = {"cbm.parcel": [5, ""], "cbm.signature": [9, "123"], "cbm.scene": [1, ""]}
    found = {"cbm.parcel": [5, ""], "cbm.signature": [9, "124"], "cbm.run": [1, ""]}
    said = program.differences(noted, found)
    assert said == [
        "cbm.run: no table noted, 1 rows restored",
        "cbm.scene: 1 rows noted, no table restored",
        "cbm.signature: 9 rows (checksum 123) noted, 9 rows (checksum 124) restored",
    ]


def test_a_table_with_a_bar_in_its_name_is_counted(program: ModuleType) -> None:
    assert program.counted(['cbm."a|b"|3|17']) == {'cbm."a|b"': [3, "17"]}


def test_a_full_disk_is_refused(program: ModuleType, tmp_path: Path) -> None:
    program.room(tmp_path, 0)
    with pytest.raises(program.BackupError, match="MiB free"):
        program.room(tmp_path, 1 << 60)


def test_a_report_reaches_status_and_metrics(program: ModuleType, tmp_path: Path) -> None:
    settings = program.Settings(state=str(tmp_path), metrics=str(tmp_path / "cbm_backup.prom"))
    program.write(tmp_path / "results/full.json", GOOD)
    program.report(settings, "full", "success")
    assert program.read(tmp_path / "status.json")["full"]["last_result"] == GOOD
    assert "cbm_backup_last_run_success 1" in (tmp_path / "cbm_backup.prom").read_text()
    # The next run, killed, does not inherit the result.
    program.report(settings, "full", "signal")
    assert program.read(tmp_path / "status.json")["full"]["good"] is False
