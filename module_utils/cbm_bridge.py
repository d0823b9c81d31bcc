"""How the modules in ``library/`` reach the command ``cbm`` of the installed release.

A module runs under the system's Python and calls ``<cbm_command> --json --config <file> <verb>``
with its arguments as JSON on standard input: no secret stands in an argv, arguments have no size
limit, and the system's Python needs none of the release's libraries.
"""

from __future__ import annotations

import json
import os
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

CONNECTION_OPTIONS: dict[str, dict[str, Any]] = {
    "cbm_command": {"type": "path", "default": "/opt/cbm/current/venv/bin/cbm"},
    "config": {"type": "path", "default": "/etc/cbm/cbm.toml"},
}

# What an earlier step of the same run may still make. In check mode that step made nothing, so
# these say "this would be done next", not "this is wrong". The module warns with the message.
MADE_EARLIER = frozenset(
    {
        "not_installed",
        "config_missing",
        "database_unreachable",
        "bootstrap_missing",
        "schema_missing",
        "schema_outdated",
        "dataset_unknown",
        "no_parcels",
    }
)

_LAST_LINES = 10


class CbmRefusedError(Exception):
    """The command refused or failed; ``code``, ``hint`` and ``details`` are its own words."""

    def __init__(
        self, code: str, message: str, hint: str = "", details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.details = details or {}


def run_changing(verbs: dict[str, str], options: dict[str, dict[str, Any]], **rules: Any) -> None:
    """Run a module that changes something.

    Args:
        verbs: state -> verb, e.g. ``{"present": "dataset add", "absent": "dataset purge"}``. The
            first is the default; with a single state there is no option ``state``.
        options: the argument spec of the verbs' own arguments, name for name. An option that only
            some of the verbs know says so in ``for_states``.
        rules: what else AnsibleModule takes (required_if, mutually_exclusive, ...).

    """
    spec, known = changing_spec(verbs, options)
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True, **rules)
    state = module.params.get("state", next(iter(verbs)))
    arguments = _arguments(module, known[state])
    _refuse_foreign(module, state, known)
    try:
        answer = call(module, verbs[state], {**arguments, "check": module.check_mode})
    except CbmRefusedError as failure:
        if not (module.check_mode and failure.code in MADE_EARLIER):
            _fail(module, failure)
        module.warn(f"Check mode: {failure.message} Taken as made by an earlier step of this run.")
        reason = f"{failure.code}: {failure.message}"
        module.exit_json(changed=True, plan=[reason], reason=failure.code, result={}, version=None)
    _exit(module, answer)


def run_info(verb: str, options: dict[str, dict[str, Any]], **rules: Any) -> None:
    """Run a read-only module; before anything is installed it finds nothing in check mode."""
    spec = {**CONNECTION_OPTIONS, **options}
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True, **rules)
    try:
        answer = call(module, verb, _arguments(module, set(options)))
    except CbmRefusedError as failure:
        if not (module.check_mode and failure.code in MADE_EARLIER):
            _fail(module, failure)
        module.warn(f"Check mode: {failure.message} Nothing to read yet.")
        module.exit_json(changed=False, reason=failure.code, result={}, version=None)
    module.exit_json(changed=False, result=answer["result"], version=answer["version"])


def call(module: AnsibleModule, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run ``cbm --json <verb>`` and return its answer.

    Raises:
        CbmRefusedError: with the command's own code, or ``not_installed`` when there is no command,
            ``no_answer`` when it printed no JSON object (killed, or not a cbm at all).

    """
    command = module.params["cbm_command"]
    if not os.access(command, os.X_OK):
        raise CbmRefusedError(
            "not_installed",
            f"There is no command {command} on this host.",
            "Deploy the release first (playbooks/site.yml), or correct cbm_command.",
        )
    argv = [command, "--json", "--config", module.params["config"], *verb.split()]
    returned, output, errors = module.run_command(
        argv, data=json.dumps(arguments), binary_data=True
    )
    try:
        answer = json.loads(output)
        fine = answer["ok"]
    except (ValueError, TypeError, KeyError):
        raise _no_answer(argv, returned, output, errors) from None
    if not fine:
        error = answer["error"]
        raise CbmRefusedError(error["code"], error["message"], error["hint"], error["details"])
    result: dict[str, Any] = answer
    return result


def _no_answer(argv: list[str], returned: int, output: str, errors: str) -> CbmRefusedError:
    last = "\n".join((errors or output).strip().splitlines()[-_LAST_LINES:])
    return CbmRefusedError(
        "no_answer",
        f"`{' '.join(argv)}` ended with code {returned} and gave no answer. It said: {last or '-'}",
        "Run the command by hand on the host. A negative code is the signal that killed it.",
        {"rc": returned},
    )


def changing_spec(
    verbs: dict[str, str], options: dict[str, dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, set[str]]]:
    """Return the argument spec, and per state the options that its verb knows."""
    spec: dict[str, Any] = dict(CONNECTION_OPTIONS)
    if len(verbs) > 1:
        spec["state"] = {"type": "str", "choices": list(verbs), "default": next(iter(verbs))}
    known: dict[str, set[str]] = {state: set() for state in verbs}
    for name, option in options.items():
        plain = dict(option)
        for state in plain.pop("for_states", verbs):
            known[state].add(name)
        spec[name] = plain
    return spec, known


def _arguments(module: AnsibleModule, names: set[str]) -> dict[str, Any]:
    """Return the given ones: what was left out is the verb's own default, stated in one place."""
    return {name: module.params[name] for name in names if module.params[name] is not None}


def _refuse_foreign(module: AnsibleModule, state: str, known: dict[str, set[str]]) -> None:
    own = set().union(*known.values())
    foreign = sorted(n for n in own - known[state] if module.params[n] is not None)
    if foreign:
        module.fail_json(msg=f"state={state} has no use for: {', '.join(foreign)}.")


def _exit(module: AnsibleModule, answer: dict[str, Any]) -> NoReturn:
    returned = {name: answer[name] for name in ("changed", "plan", "result", "version")}
    diff = answer["diff"]
    if module._diff and diff["before"] != diff["after"]:
        returned["diff"] = diff
    module.exit_json(**returned)
    raise AssertionError("exit_json does not return")


def _fail(module: AnsibleModule, failure: CbmRefusedError) -> NoReturn:
    msg = f"{failure.message} {failure.hint}".strip()
    module.fail_json(msg=msg, code=failure.code, hint=failure.hint, details=failure.details)
    raise AssertionError("fail_json does not return")
