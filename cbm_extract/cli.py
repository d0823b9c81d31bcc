"""The command ``cbm``: verbs for people, and the same verbs as JSON for programs.

``cbm <verb> --flag value`` prints text. ``cbm --json <verb>`` reads one JSON object of arguments
from standard input and prints one JSON object: ``{"ok": true, "changed": ..., "plan": [...],
"result": {...}, "diff": {"before": ..., "after": ...}}`` or ``{"ok": false, "error": {"code": ...,
"message": ..., "hint": ..., "details": {...}}}``. Progress goes to standard error.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from cbm_core import __version__
from cbm_core.errors import CbmError

# Verb -> "module:attribute". Modules are imported when their verb is used, so that `cbm --help`
# is quick and a host needs only the libraries of the verbs it runs.
VERBS = {
    "schema plan": "cbm_core.migrations.verbs:PLAN",
    "schema migrate": "cbm_core.migrations.verbs:MIGRATE",
    "schema status": "cbm_core.migrations.verbs:STATUS",
    "schema bootstrap": "cbm_core.migrations.verbs:BOOTSTRAP_VERB",
    "dataset add": "cbm_core.datasets.verbs:ADD",
    "dataset list": "cbm_core.datasets.verbs:LIST",
    "dataset legacy-views": "cbm_core.datasets.legacy_verbs:LEGACY_VIEWS",
    "dataset background": "cbm_core.datasets.background:BACKGROUND",
    "dataset purge": "cbm_core.datasets.verbs:PURGE",
    "user add": "cbm_core.users.verbs:ADD",
    "user passwd": "cbm_core.users.verbs:PASSWD",
    "user disable": "cbm_core.users.verbs:DISABLE",
    "user list": "cbm_core.users.verbs:LIST",
    "user grant": "cbm_core.users.verbs:GRANT",
    "user revoke": "cbm_core.users.verbs:REVOKE",
    "user token add": "cbm_core.users.token_verbs:ADD",
    "user token revoke": "cbm_core.users.token_verbs:REVOKE",
    "user log": "cbm_core.users.log_verbs:LOG",
    "db size": "cbm_core.database.verbs:SIZE",
    "db check": "cbm_core.database.verbs:CHECK",
    "db compact": "cbm_core.database.verbs:COMPACT",
    "parcels check": "cbm_extract.parcels.verbs:CHECK",
    "parcels import": "cbm_extract.parcels.verbs:IMPORT",
    "parcels list": "cbm_extract.parcels.verbs:LIST",
    "scenes add": "cbm_extract.catalogue.verbs:ADD",
    "scenes list": "cbm_extract.catalogue.verbs:LIST",
    "scenes retract": "cbm_extract.catalogue.standing:RETRACT",
    "scenes release": "cbm_extract.catalogue.standing:RELEASE",
    "product list": "cbm_extract.products.verbs:LIST",
    "extract": "cbm_extract.engine.verbs:EXTRACT",
    "dispatch": "cbm_extract.engine.cluster.verbs:DISPATCH",
    "ledger status": "cbm_extract.ledger.verbs:STATUS",
    "ledger retry": "cbm_extract.ledger.verbs:RETRY",
    "ledger redo": "cbm_extract.ledger.verbs:REDO",
    "ledger explain": "cbm_extract.ledger.explain:EXPLAIN",
    "metrics": "cbm_extract.ledger.metrics:METRICS",
    "signatures export": "cbm_extract.archive.verbs:EXPORT",
    "signatures restore": "cbm_extract.archive.verbs:RESTORE",
    "signatures show": "cbm_extract.report.verbs:SHOW",
    "signatures verify": "cbm_extract.verify.verbs:VERIFY",
    "report": "cbm_extract.report.verbs:REPORT",
    "sample": "cbm_extract.sample.verbs:SAMPLE",
}


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return the process's exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words[:3]
    try:
        return _json_main(words) if as_json else _text_main(words)
    except CbmError as error:
        if as_json:
            _print_json({"ok": False, "error": error.as_json()})
        else:
            print(f"cbm: error: {error.message}", file=sys.stderr)  # noqa: T201
            if error.hint:
                print(f"cbm: hint: {error.hint}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        message = "Interrupted; run the same command again to go on where it stopped."
        if as_json:
            interrupted = CbmError("interrupted", message)
            _print_json({"ok": False, "error": interrupted.as_json()})
        else:
            print(f"cbm: {message}", file=sys.stderr)  # noqa: T201
        return 130


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _json_main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="cbm --json")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--config", type=Path)
    parser.add_argument("verb", nargs="+")
    options = parser.parse_args(words)
    name = " ".join(options.verb)
    if name not in VERBS:
        raise CbmError(
            "unknown_verb",
            f"This release ({__version__}) has no command `{name}`.",
            f"It has: {', '.join(VERBS)}.",
        )
    try:
        arguments = json.loads(sys.stdin.read() or "{}")
    except json.JSONDecodeError as error:
        raise CbmError("arguments_invalid", f"Standard input is not JSON: {error}.") from None
    verb = _load(name)
    answer = verb.run(_validated(verb, arguments), _context(options.config))
    _print_json({"ok": True, "version": __version__, **answer.as_json()})
    return 0


def _text_main(words: list[str]) -> int:
    options = _parser(words).parse_args(words)
    verb = _load(options.cbm_verb)
    given = {
        name: value
        for name, value in vars(options).items()
        if name in verb.arguments.model_fields and value is not None
    }
    parsed = _validated(verb, given)
    answer = verb.run(parsed, _context(options.config))
    lines = [*answer.plan, answer.text] if getattr(parsed, "check", False) else [answer.text]
    text = "\n".join(line for line in lines if line)
    if text:
        print(text)  # noqa: T201
    return 0


def _parser(words: list[str]) -> argparse.ArgumentParser:
    """Build the parser; only the named verb's flags, so that nothing else is imported."""
    parser = argparse.ArgumentParser(
        prog="cbm", description="CAP area monitoring: schema, parcels, scenes, signatures."
    )
    parser.add_argument("--version", action="version", version=f"cbm {__version__}")
    parser.add_argument("--config", type=Path, help="settings file (default /etc/cbm/cbm.toml)")
    parser.add_argument("--json", action="store_true", help="arguments and answer as JSON")
    groups = {"": parser.add_subparsers(metavar="COMMAND", required=True)}
    for name in VERBS:
        verb = _load(name) if set(name.split()) <= set(words) else None
        summary = verb.summary if verb else ""
        noun, _, action = name.rpartition(" ")
        sub = _group(groups, noun).add_parser(action, help=summary or None, description=summary)
        sub.set_defaults(cbm_verb=name)
        if verb:
            _add_flags(sub, verb.arguments)
    return parser


def _group(groups: dict[str, Any], noun: str) -> Any:
    """Return the parsers of a noun's actions; ``user token`` stands among those of ``user``."""
    if noun not in groups:
        actions = ", ".join(v.removeprefix(f"{noun} ") for v in VERBS if v.startswith(f"{noun} "))
        outer, _, last = noun.rpartition(" ")
        group = _group(groups, outer).add_parser(last, help=actions)
        groups[noun] = group.add_subparsers(metavar="ACTION", required=True)
    return groups[noun]


def _add_flags(parser: argparse.ArgumentParser, model: Any) -> None:
    properties = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        shape = properties[name]
        kinds = {part.get("type") for part in shape.get("anyOf", [shape])}
        options: dict[str, Any] = {"help": (field.description or "").replace("%", "%%")}
        if "boolean" in kinds:
            options |= {"action": argparse.BooleanOptionalAction, "default": None}
        elif "array" in kinds:
            options |= {"nargs": "+" if shape.get("positional") else None}
            if not shape.get("positional"):
                options = {**options, "action": "append", "metavar": "VALUE"}
                options.pop("nargs")
        else:
            options["metavar"] = name.upper()
        if shape.get("positional"):
            options.pop("default", None)
            parser.add_argument(name, **options)
        else:
            required = field.is_required() and "array" not in kinds
            parser.add_argument(
                f"--{name.replace('_', '-')}", dest=name, required=required, **options
            )


def _load(name: str) -> Any:
    module_name, _, attribute = VERBS[name].partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in {"cbm_core", "cbm_extract"}:
            raise
        raise CbmError(
            "library_missing",
            f"`cbm {name}` needs the Python library {error.name}, which is not installed here.",
            "Install the extra for this kind of host: pip install 'cbm-backend[worker]'.",
        ) from None
    return getattr(module, attribute)


def _context(config: Path | None) -> Any:
    from cbm_core import settings
    from cbm_core.verbs import Context

    return Context(settings=settings.load(config))


def _validated(verb: Any, arguments: Any) -> Any:
    from pydantic import ValidationError

    try:
        return verb.arguments.model_validate(arguments)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in item['loc']) or 'arguments'}:"
            f" {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False)
        ]
    raise CbmError(
        "arguments_invalid",
        f"Wrong arguments: {'; '.join(problems)}.",
        "`cbm <command> --help` shows what is expected.",
    )


def _print_json(document: dict[str, Any]) -> None:
    json.dump(document, sys.stdout, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


if __name__ == "__main__":
    sys.exit(main())
