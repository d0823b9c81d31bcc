"""What Ansible sees of an answer, a refusal and an accident of the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cbm_bridge import MADE_EARLIER

from tests.unit.ansible.tree import REPO

ADD = {"aoi": "ie", "year": 2024}


def test_arguments_go_through_standard_input_only(cbm, run_module) -> None:
    cbm.is_fine()
    run_module("cbm_dataset", cbm_command=str(cbm.command), config="/x.toml", **ADD)
    assert cbm.called["argv"] == ["--json", "--config", "/x.toml", "dataset", "add"]
    assert cbm.called["arguments"] == {"aoi": "ie", "year": 2024, "check": False}


def test_arguments_may_be_large(cbm, run_module) -> None:
    cbm.is_fine()
    readers = [f"reader_{number:06}" for number in range(20_000)]
    run_module("cbm_dataset", cbm_command=str(cbm.command), readers=readers, **ADD)
    assert cbm.called["arguments"]["readers"] == readers


def test_state_chooses_the_verb(cbm, run_module) -> None:
    cbm.is_fine()
    run_module(
        "cbm_dataset", cbm_command=str(cbm.command), state="absent", confirm="ie:2024", **ADD
    )
    assert cbm.called["argv"][-2:] == ["dataset", "purge"]
    assert cbm.called["arguments"] == {**ADD, "confirm": "ie:2024", "check": False}


def test_an_option_of_another_state_is_refused(cbm, run_module) -> None:
    answer = run_module("cbm_dataset", cbm_command=str(cbm.command), confirm="ie:2024", **ADD)
    assert answer["failed"]
    assert answer["msg"] == "state=present has no use for: confirm."
    assert not (cbm.command.parent / "called.json").exists()


def test_the_answer_is_handed_on(cbm, run_module) -> None:
    cbm.is_fine(changed=True, plan=["add it"], result={"dataset": "ie:2024"})
    answer = run_module("cbm_dataset", cbm_command=str(cbm.command), **ADD)
    assert answer["changed"] is True
    assert answer["plan"] == ["add it"]
    assert answer["result"] == {"dataset": "ie:2024"}
    assert answer["version"] == "1.2.3"


@pytest.mark.parametrize("diff", [True, False])
def test_the_diff_is_there_when_asked_for(cbm, run_module, diff: bool) -> None:
    cbm.is_fine(changed=True, diff={"before": "a\n", "after": "b\n"})
    answer = run_module("cbm_dataset", cbm_command=str(cbm.command), diff=diff, **ADD)
    assert answer.get("diff") == ({"before": "a\n", "after": "b\n"} if diff else None)


def test_check_mode_is_passed_on(cbm, run_module) -> None:
    cbm.is_fine(changed=True)
    answer = run_module("cbm_dataset", cbm_command=str(cbm.command), check=True, **ADD)
    assert answer["changed"] is True
    assert cbm.called["arguments"]["check"] is True


@pytest.mark.parametrize("check", [True, False])
def test_a_refusal_fails_with_its_code(cbm, run_module, check: bool) -> None:
    cbm.refuses("period_invalid", "It ends early.", "Give both.", end="2024-01-01")
    answer = run_module("cbm_dataset", cbm_command=str(cbm.command), check=check, **ADD)
    assert answer["failed"]
    assert answer["msg"] == "It ends early. Give both."
    assert (answer["code"], answer["hint"]) == ("period_invalid", "Give both.")
    assert answer["details"] == {"end": "2024-01-01"}


@pytest.mark.parametrize("code", sorted(MADE_EARLIER))
def test_check_mode_takes_earlier_steps_as_done(cbm, run_module, code: str) -> None:
    cbm.refuses(code, "Not there.")
    answer = run_module("cbm_dataset", cbm_command=str(cbm.command), check=True, **ADD)
    assert answer["changed"] is True
    assert answer["reason"] == code
    assert "Not there." in str(answer["warnings"])
    assert run_module("cbm_dataset", cbm_command=str(cbm.command), **ADD)["failed"]


def test_what_earlier_steps_make_are_codes_of_the_release() -> None:
    sources = [*REPO.glob("cbm_*/**/*.py"), REPO / "module_utils/cbm_bridge.py"]
    text = "".join(path.read_text("utf-8").partition("MADE_EARLIER = ")[0] for path in sources)
    text += (REPO / "module_utils/cbm_bridge.py").read_text("utf-8").partition("class ")[2]
    assert [code for code in MADE_EARLIER if f'"{code}"' not in text] == []


def test_not_installed_yet(tmp_path: Path, run_module) -> None:
    command = str(tmp_path / "nothing")
    answer = run_module("cbm_dataset", cbm_command=command, check=True, **ADD)
    assert (answer["changed"], answer["reason"]) == (True, "not_installed")
    answer = run_module("cbm_dataset", cbm_command=command, **ADD)
    assert answer["failed"]
    assert command in answer["msg"]
    assert "site.yml" in answer["msg"]


def test_reading_finds_nothing_before_there_is_something(tmp_path: Path, run_module) -> None:
    command = str(tmp_path / "nothing")
    answer = run_module("cbm_dataset_info", cbm_command=command, check=True)
    assert (answer["changed"], answer["result"]) == (False, {})
    assert run_module("cbm_dataset_info", cbm_command=command)["failed"]


@pytest.mark.parametrize("stdout", ["", "Killed", "[]", '{"changed": true}', "null"])
def test_no_answer_fails_with_the_last_lines(cbm, run_module, stdout: str) -> None:
    noise = "".join(f"line {number}\n" for number in range(100))
    cbm.says(stdout, stderr=noise + "MemoryError\n", code=137)
    answer = run_module("cbm_dataset", cbm_command=str(cbm.command), check=True, **ADD)
    assert answer["failed"]
    assert (answer["code"], answer["details"]) == ("no_answer", {"rc": 137})
    assert "MemoryError" in answer["msg"]
    assert "line 50" not in answer["msg"]


def test_text_of_any_language_survives(cbm, run_module) -> None:
    error = {"code": "x", "message": "Späť żółć", "hint": "", "details": {}}
    cbm.says(json.dumps({"ok": False, "error": error}, ensure_ascii=False), code=1)
    answer = run_module("cbm_dataset", cbm_command=str(cbm.command), **ADD)
    assert answer["msg"] == "Späť żółć"
