"""Rules and dashboards name figures that somebody gives, and each rule has its test."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jinja2
import pytest
import yaml

from tests.unit.ansible.tree import REPO

ROLE = REPO / "roles/cbm_monitoring"
DASHBOARDS = sorted((REPO / "docs/dashboards").glob("*.json"))
NAME = re.compile(r"\b(?:cbm|node|pg|up)(?:_[a-zA-Z0-9_]+)?\b(?=[\s{\[)]|$)")

# Those that a running system gives are compared with rules and dashboards by the role's scenario.
EXPORTERS = re.compile(r"up|pg_up|node_[a-zA-Z0-9_]+")
# What cbm_backup leaves in the folder of figures.
BACKUP = {
    "cbm_backup_last_success_timestamp_seconds",
    "cbm_backup_last_run_success",
    "cbm_backup_drill_last_success_timestamp_seconds",
    "cbm_backup_drill_last_run_success",
    "cbm_backup_homes_last_success_timestamp_seconds",
    "cbm_backup_homes_last_run_success",
}


def rules() -> list[dict]:
    """The rules with the usual limits."""
    text = (ROLE / "files/rules.yml.j2").read_text().partition("\n")[2]
    environment = jinja2.Environment(
        variable_start_string="[%", variable_end_string="%]", undefined=jinja2.StrictUndefined
    )
    environment.filters["comment"] = "# {}".format
    limits = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__cbm_monitoring_usual_limits"]
    rendered = environment.from_string(text).render(
        ansible_managed="", __cbm_monitoring_limit=limits
    )
    return [rule for group in yaml.safe_load(rendered)["groups"] for rule in group["rules"]]


def given() -> set[str]:
    """Names of the figures that this repository's programs give."""
    sources = (REPO / "cbm_extract/ledger/figures.py").read_text()
    sources += (ROLE / "files/certificate_days.py").read_text()
    names = set(re.findall(r'"(cbm_[a-z_]+)"', sources)) | BACKUP | {"cbm_monitoring_test"}
    kinds = "Counter|Gauge|Histogram"
    suffixes = {"Counter": ["_total"], "Gauge": [""], "Histogram": ["_bucket", "_sum", "_count"]}
    api = (REPO / "cbm_api/metrics.py").read_text()
    for kind, name in re.findall(rf'({kinds})\(\s*"(cbm_api_[a-z_]+)"', api):
        names |= {name + suffix for suffix in suffixes[kind]}
    for name, query in yaml.safe_load((ROLE / "files/queries.yml").read_text()).items():
        names |= {f"{name}_{column}" for metric in query["metrics"] for column in metric}
    return names


def named(expression: str) -> set[str]:
    """The figures of an expression: what stands outside of its labels and words."""
    bare = re.sub(r"\{[^}]*\}", "{}", expression)
    return set(NAME.findall(re.sub(r"\b(by|on) \([^)]*\)", "", bare)))


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_rules_name_figures_that_are_given(rule: dict) -> None:
    names = named(rule["expr"])
    assert names
    assert {n for n in names if not EXPORTERS.fullmatch(n)} <= given()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_name_figures_that_are_given(path: Path) -> None:
    panels = json.loads(path.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    names = {
        name for panel in panels for target in panel["targets"] for name in named(target["expr"])
    }
    assert len(names) >= 4
    assert {n for n in names if not EXPORTERS.fullmatch(n)} <= given()


def test_rules_say_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]
        assert all(rule["annotations"].values()), rule["alert"]


def test_each_rule_has_a_test_with_an_alert_and_one_without() -> None:
    cases = yaml.safe_load((ROLE / "molecule/default/files/rules_test.yml").read_text())["tests"]
    assert [case["name"] for case in cases] == [rule["alert"] for rule in rules()]
    for case in cases:
        (check,) = case["promql_expr_test"]
        assert f'alertname="{case["name"]}"' in check["expr"]
        assert check["exp_samples"], case["name"]


def test_limits_are_those_that_the_arguments_state() -> None:
    options = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]
    stated = options["main"]["options"]["cbm_monitoring_limits"]["options"]
    usual = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__cbm_monitoring_usual_limits"]
    assert set(stated) == set(usual)
    for name, limit in usual.items():
        assert f"({limit})" in stated[name]["description"], name


def test_all_figures_of_the_extraction_and_all_alerts_are_documented() -> None:
    guide = (REPO / "docs/monitoring.md").read_text()
    sources = (REPO / "cbm_extract/ledger/figures.py").read_text()
    wanted = set(re.findall(r'"(cbm_[a-z_]+)"', sources)) | {rule["alert"] for rule in rules()}
    assert not [name for name in wanted if name not in guide]
