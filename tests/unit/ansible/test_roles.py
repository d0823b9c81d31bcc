"""House rules of the roles, playbooks and inventories."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.ansible.tree import (
    MODULES,
    PLAYBOOKS,
    REPO,
    ROLES,
    SCENARIO_FILES,
    TASK_FILES,
    all_tasks,
    load,
)

GROUPS = {"db", "manager", "workers", "retired", "api", "hub", "bastion"}
SITE_WIDE = re.compile(r"cbm_(agency|mirror)_|ansible_ssh_common_args$")


def options_of(role: Path) -> dict[str, dict[str, Any]]:
    entries = load(role / "meta/argument_specs.yml")["argument_specs"].values()
    return {name: spec for entry in entries for name, spec in entry.get("options", {}).items()}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_equal_the_argument_specs(role: Path) -> None:
    declared = options_of(role)
    defaults = load(role / "defaults/main.yml")
    assert defaults == {n: spec["default"] for n, spec in declared.items() if "default" in spec}
    assert all(name.startswith(f"{role.name}_") for name in declared)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_option_is_used(role: Path) -> None:
    parts = [*role.glob("tasks/*.yml"), *role.glob("templates/*"), *role.glob("vars/*.yml")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in parts)
    unused = [name for name in options_of(role) if not re.search(rf"\b{name}\b", text)]
    assert not unused


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_knows_no_other_role_and_no_group(role: Path) -> None:
    for path in [*role.rglob("*.yml"), *role.rglob("*.j2")]:
        text = path.read_text(encoding="utf-8")
        code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        assert "groups[" not in code, path
        assert "group_names" not in code, path
        # Scenarios stand for playbooks, which do know roles.
        own = "molecule" not in path.parts
        if own and {"tasks", "templates", "vars"} & set(path.parts):
            foreign = {
                name
                for name in re.findall(r"\b(?:__)?(cbm_[a-z]+)_[a-z_]+", code)
                if name in {other.name for other in ROLES} - {role.name}
            }
            assert not foreign, f"{path} names variables of {foreign}"


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_internals_are_marked(role: Path) -> None:
    """Registers and facts are internal (`__role_`), or what the README says they tell a play."""
    readme = (role / "README.md").read_text(encoding="utf-8")
    for path, task in all_tasks():
        if role not in path.parents:
            continue
        names = [task["register"]] if "register" in task else []
        names += [n for n in task.get("ansible.builtin.set_fact", {}) if n != "cacheable"]
        for name in names:
            assert name.startswith(f"__{role.name}_") or f"`{name}`" in readme, f"{path}: {name}"


def test_tasks_are_named_after_their_file() -> None:
    for path, task in all_tasks():
        if "tasks" not in path.parts:
            continue
        name = task.get("name", "")
        heading = path.stem.replace("_", " ").capitalize()
        assert name.startswith(f"{heading} | "), f"{path}: {name!r}"


def test_role_readmes_are_fresh() -> None:
    command = [sys.executable, str(REPO / "docs/tools/role_readme.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_has_a_scenario_whose_verify_can_fail(role: Path) -> None:
    """`default`, and each further one, with a break that its name tells and verify must notice."""
    assert (role / "molecule/default/molecule.yml").exists()
    for scenario in sorted(path.parent for path in role.glob("molecule/*/molecule.yml")):
        assert load(scenario / "molecule.yml")["platforms"], scenario
        for name in ("converge", "verify", "side_effect"):
            assert (scenario / f"{name}.yml").exists(), f"{scenario} has no {name}.yml"
        name = load(scenario / "side_effect.yml")[0]["name"]
        assert len(name.split()) > 3, f"{scenario}: a name that says what breaks, not {name!r}"


def test_playbooks_hand_roles_what_they_know() -> None:
    """A variable that no role knows would be of no effect, and nobody would say so."""
    known = {name for role in ROLES for name in options_of(role)}
    prefixes = tuple(f"{role.name}_" for role in ROLES)
    for path in [*REPO.glob("playbooks/**/*.yml"), *REPO.glob("tests/hosts/**/*.yml")]:
        handed = [entry.get("vars") or {} for entry in vars_of(load(path))]
        for name in {name for some in handed for name in some}:
            assert not name.startswith(prefixes) or name in known, f"{path}: {name}"


def vars_of(entry: Any) -> Iterator[dict[str, Any]]:
    """Every play, role, block and task, as far as it has variables of its own."""
    if isinstance(entry, dict):
        if "vars" in entry:
            yield entry
        for value in entry.values():
            yield from vars_of(value)
    elif isinstance(entry, list):
        for one in entry:
            yield from vars_of(one)


def test_nothing_but_builtins_is_used() -> None:
    """Which is what requirements.yml says, and why no Galaxy is needed."""
    assert load(REPO / "requirements.yml") == {"collections": []}
    for path in [*TASK_FILES, *SCENARIO_FILES]:
        used = set(re.findall(r"\b([a-z_]+\.[a-z_]+)\.[a-z_]+:(?:\s|$)", path.read_text("utf-8")))
        assert used <= {"ansible.builtin"}, path


def test_check_mode_hides_no_failure() -> None:
    for path in [*TASK_FILES, *SCENARIO_FILES]:
        text = path.read_text(encoding="utf-8")
        assert "ignore_errors" not in text, path


@pytest.mark.parametrize(
    "inventory", sorted((REPO / "inventories").iterdir()), ids=lambda i: i.name
)
def test_inventories(inventory: Path) -> None:
    everything = load(inventory / "hosts.yml")["all"]
    assert set(everything["children"]) <= GROUPS
    assert {"db", "manager", "workers"} <= set(everything["children"])
    given = [everything.get("vars", {}), *everything.get("hosts", {}).values()]
    assert "/usr/bin/python3" in [one.get("ansible_python_interpreter") for one in given]
    known = {name for role in ROLES for name in options_of(role)}
    for file in inventory.glob("group_vars/*/*.yml"):
        for name in load(file):
            assert name in known or SITE_WIDE.match(name) or name.startswith("__"), (
                f"{file}: {name}"
            )
            if name in known:
                assert name.startswith(f"{file.stem}_"), f"{file}: {name}"


def test_inventories_have_the_same_groups() -> None:
    trees = [load(path)["all"]["children"] for path in REPO.glob("inventories/*/hosts.yml")]
    assert all(set(tree) == set(trees[0]) for tree in trees)


def test_tags_are_documented() -> None:
    site = str(REPO / "playbooks/site.yml")
    command = [sys.executable, "-m", "ansible.cli.playbook", "--list-tags", site]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True)
    lists = re.findall(r"TASK TAGS: \[(.*)\]", done.stdout)
    tags = {tag for text in lists for tag in text.split(", ")} - {"always", "cbm_preflight"}
    guide = (REPO / "docs/ansible.md").read_text(encoding="utf-8")
    table = guide.partition("\n## Tags\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert tags == set(re.findall(r"`([a-z_]+)`", " ".join(rows)))


def test_playbooks_and_modules_are_documented() -> None:
    guide = (REPO / "docs/ansible.md").read_text(encoding="utf-8")
    assert not [p.name for p in PLAYBOOKS if f"`{p.name}`" not in guide]
    assert not [name for name in MODULES if f"`{name}`" not in guide]
