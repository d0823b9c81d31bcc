"""Modules, their documentation, the verbs behind them and every use of them say the same."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from cbm_extract.cli import VERBS as COMMANDS
from tests.unit.ansible.tree import (
    MODULES,
    REPO,
    SCENARIO_FILES,
    TASK_FILES,
    all_tasks,
    module_spec,
    tasks,
)

PLACEHOLDERS = {"int": 1, "float": 1.0, "bool": True, "list": [], "dict": {}}
JSON_TYPES = {"integer": "int", "number": "float", "boolean": "bool", "array": "list"}
JSON_TYPES |= {"object": "dict", "string": "str"}


@pytest.fixture(scope="module")
def documentation() -> dict[str, Any]:
    """What ansible-doc makes of the modules, fragments included."""
    command = [sys.executable, "-m", "ansible.cli.doc", "--json", *MODULES]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", MODULES)
def test_documentation_equals_the_spec(documentation: dict[str, Any], name: str) -> None:
    spec, _known, _verbs = module_spec(name)
    doc = documentation[name]["doc"]
    told = {
        option: {key: value[key] for key in ("default", "choices", "elements") if key in value}
        | {"type": value["type"], "required": value.get("required", False)}
        for option, value in doc["options"].items()
    }
    is_so = {
        option: {key: value[key] for key in ("default", "choices", "elements") if key in value}
        | {"type": value["type"], "required": value.get("required", False)}
        for option, value in spec.items()
    }
    for value in told.values():
        if value.get("default", "") is None:
            del value["default"]
    assert told == is_so
    assert set(doc["attributes"]) == {"check_mode", "diff_mode", "idempotent"}
    assert all(value["description"] for value in doc["options"].values())
    assert {"result", "version", "code", "hint", "details"} <= set(documentation[name]["return"])


@pytest.mark.parametrize("name", MODULES)
def test_options_equal_the_verbs_arguments(name: str) -> None:
    spec, known, verbs = module_spec(name)
    for state, verb in verbs.items():
        model = _model(verb)
        fields = set(model.model_fields) - {"check"}
        assert known[state] == fields, f"{name} state={state} against `cbm {verb}`"
        assert ("check" in model.model_fields) == (not name.endswith("_info"))
        schema = model.model_json_schema()
        for option in known[state]:
            shape = schema["properties"][option]
            assert spec[option]["type"] in _types(shape, schema), f"{name}: {option}"
            assert spec[option].get("choices") == _choices(shape, schema), f"{name}: {option}"
        for option in fields:
            needed = model.model_fields[option].is_required()
            assert needed == _required(name, spec, option, state), f"{name}: {option}"


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_valid(name: str) -> None:
    examples = list(tasks(yaml.safe_load(importlib.import_module(name).EXAMPLES)))
    assert examples
    for task in examples:
        assert name in task, f"an example of {name} does not use it"
        _validate(name, task[name] or {})


def test_every_use_is_valid() -> None:
    used = dict.fromkeys(MODULES, 0)
    for path, task in all_tasks([*TASK_FILES, *SCENARIO_FILES]):
        for name in set(task) & set(MODULES):
            used[name] += 1
            try:
                # `args` from a description may bring what is required; the module checks that.
                _validate(name, task[name] or {}, complete="args" not in task)
            except AssertionError as error:
                raise AssertionError(f"{path}: {task.get('name')}: {error}") from None
    assert used["cbm_schema"] >= 1


def test_no_module_is_named_like_a_package() -> None:
    assert not {path.name for path in REPO.glob("cbm_*") if path.is_dir()} & set(MODULES)


def test_the_library_imports_nothing_but_the_bridge() -> None:
    """No calculation in library/: whatever a module needs, the bridge has."""
    allowed = {"from __future__ import annotations"}
    for path in (REPO / "library").glob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        imports = {line for line in lines if line.startswith(("import ", "from "))} - allowed
        assert len(imports) == 1, path
        assert imports.pop().startswith("from ansible.module_utils.cbm_bridge import run_"), path


def _model(verb: str) -> Any:
    module_name, _, attribute = COMMANDS[verb].partition(":")
    file = Path(REPO, *module_name.split(".")).with_suffix(".py")
    if not file.exists():
        pytest.skip(f"`cbm {verb}` is not written yet")
    return getattr(importlib.import_module(module_name), attribute).arguments


def _parts(shape: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    parts = [part for part in shape.get("anyOf", [shape]) if part.get("type") != "null"]
    return [
        schema["$defs"][part["$ref"].split("/")[-1]] if "$ref" in part else part for part in parts
    ]


def _types(shape: dict[str, Any], schema: dict[str, Any]) -> set[str]:
    kinds = set()
    for part in _parts(shape, schema):
        kinds.add("path" if part.get("format") == "path" else JSON_TYPES[part["type"]])
    # A path that may be a URL is a string to both.
    return kinds | ({"path"} if "str" in kinds else set())


def _choices(shape: dict[str, Any], schema: dict[str, Any]) -> list[Any] | None:
    for part in _parts(shape, schema):
        if "enum" in part:
            return list(part["enum"])
        if "const" in part:
            return [part["const"]]
    return None


def _required(name: str, spec: dict[str, Any], option: str, state: str) -> bool:
    rules = getattr(importlib.import_module(name), "RULES", {})
    by_state = [rule for rule in rules.get("required_if", []) if rule[:2] == ["state", state]]
    return spec[option].get("required", False) or any(option in rule[2] for rule in by_state)


def _validate(name: str, arguments: dict[str, Any], *, complete: bool = True) -> None:
    spec, known, _verbs = module_spec(name)
    if not complete:
        spec = {option: {**value, "required": False} for option, value in spec.items()}
    unknown = sorted(set(arguments) - set(spec))
    assert not unknown, f"{name} has no option {', '.join(unknown)}"
    given = {option: _literal(spec[option], value) for option, value in arguments.items()}
    rules = getattr(importlib.import_module(name), "RULES", {})
    result = ArgumentSpecValidator(spec, **rules).validate(given)
    assert not result.error_messages, f"{name}: {result.error_messages}"
    state = given["state"] if given.get("state") in known else next(iter(known))
    foreign = set(given) - known[state] - {"state", "cbm_command", "config"}
    assert not foreign, f"{name} state={state} has no use for {sorted(foreign)}"


def _literal(option: dict[str, Any], value: Any) -> Any:
    """A template's value is not known here; something of the right type stands for it."""
    if not (isinstance(value, str) and "{{" in value):
        return value
    return option["choices"][0] if "choices" in option else PLACEHOLDERS.get(option["type"], "text")
