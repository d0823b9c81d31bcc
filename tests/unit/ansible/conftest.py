"""Modules run in this process, against a stand-in for the command `cbm`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ansible.module_utils
import pytest
from ansible.module_utils.testing import patch_module_args

REPO = Path(__file__).parents[3]

# Where Ansible puts our module_utils when it runs a module (ansible.cfg: module_utils).
ansible.module_utils.__path__.append(str(REPO / "module_utils"))

STAND_IN = """#!/usr/bin/python3
import json, pathlib, sys
here = pathlib.Path(__file__).parent
text = sys.stdin.read()
(here / "called.json").write_text(json.dumps({"argv": sys.argv[1:], "stdin": text}))
answer = json.loads((here / "answer.json").read_text())
sys.stderr.write(answer["stderr"])
sys.stdout.write(answer["stdout"])
sys.exit(answer["code"])
"""


class StandIn:
    """A `cbm` that answers what it is told to, and says how it was called."""

    def __init__(self, folder: Path) -> None:
        self.command = folder / "cbm"
        self._folder = folder
        self.command.write_text(STAND_IN)
        self.command.chmod(0o755)

    def says(self, stdout: str | dict[str, Any], *, stderr: str = "", code: int = 0) -> None:
        text = stdout if isinstance(stdout, str) else json.dumps(stdout)
        answer = {"stdout": text, "stderr": stderr, "code": code}
        (self._folder / "answer.json").write_text(json.dumps(answer))

    def is_fine(self, **changes: Any) -> None:
        diff = {"before": "", "after": ""}
        answer = {"version": "1.2.3", "changed": False, "plan": [], "result": {}, "diff": diff}
        self.says({"ok": True, **answer, **changes})

    def refuses(self, code: str, message: str = "No.", hint: str = "", **details: Any) -> None:
        error = {"code": code, "message": message, "hint": hint, "details": details}
        self.says({"ok": False, "error": error}, code=1)

    @property
    def called(self) -> dict[str, Any]:
        call = json.loads((self._folder / "called.json").read_text())
        return {"argv": call["argv"], "arguments": json.loads(call["stdin"])}


@pytest.fixture
def cbm(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path)


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Run a module of library/ with these arguments and return what it answers to Ansible."""

    def run(name: str, *, check: bool = False, diff: bool = False, **arguments: Any) -> Any:
        given = {**arguments, "_ansible_check_mode": check, "_ansible_diff": diff}
        module = importlib.import_module(name)
        with patch_module_args(given), pytest.raises(SystemExit) as ended:
            module.main()
        answer = json.loads(capsys.readouterr().out)
        assert bool(ended.value.code) == answer.get("failed", False)
        return answer

    return run
