"""Write each role's README from its argument specs: ``role_readme.py [--check]``.

What stands between the title and the marker line is written by hand and kept.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"
MARKER = "<!-- From here on written by `make docs` from meta/argument_specs.yml. -->"


def render(role: Path) -> str:
    """Return the README's whole text."""
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    entries: dict[str, Any] = specs["argument_specs"]
    parts = [_kept(role / "README.md", role.name), MARKER]
    parts += [_entry(name, entry) for name, entry in entries.items()]
    return "\n\n".join(parts) + "\n"


def _kept(readme: Path, title: str) -> str:
    if not readme.exists():
        return f"# {title}"
    return readme.read_text(encoding="utf-8").partition(MARKER)[0].rstrip()


def _entry(name: str, entry: dict[str, Any]) -> str:
    heading = "## Variables" if name == "main" else f"## Variables of the entry point `{name}`"
    lines = [heading, "", f"{entry['short_description']}.", ""]
    lines += [f"{_plain(sentence)}\n" for sentence in _list(entry["description"])]
    lines += ["| variable | type | default | what it is |", "|---|---|---|---|"]
    options: dict[str, Any] = entry.get("options", {})
    lines += [_row(option, spec) for option, spec in options.items()]
    return "\n".join(lines)


def _row(name: str, spec: dict[str, Any]) -> str:
    kind = spec["type"] + (f" of {spec['elements']}" if "elements" in spec else "")
    default = f"`{json.dumps(spec['default'])}`" if "default" in spec else ""
    text = " ".join(_plain(sentence) for sentence in _list(spec["description"]))
    if "choices" in spec:
        text += f" One of {', '.join(f'`{choice}`' for choice in spec['choices'])}."
    if "options" in spec:
        keys = [f"`{key}`: {_plain(sub['description'])}" for key, sub in spec["options"].items()]
        text += f" Each has {' '.join(keys)}"
    required = "**required**" if spec.get("required") else default
    return f"| `{name}` | {kind} | {required} | {text} |"


def _list(text: str | list[str]) -> list[str]:
    return [text] if isinstance(text, str) else text


def _plain(text: str) -> str:
    """Turn Ansible's markup (O(), V(), C()) into Markdown's code."""
    return re.sub(r"\b[OVC]\(([^)]*)\)", r"`\1`", text)


def main() -> int:
    """Write all READMEs, or with --check name those that are stale."""
    stale = []
    for role in sorted(path.parents[1] for path in ROLES.glob("*/meta/argument_specs.yml")):
        readme, text = role / "README.md", render(role)
        if not readme.exists() or readme.read_text(encoding="utf-8") != text:
            stale.append(readme)
            if "--check" not in sys.argv:
                readme.write_text(text, encoding="utf-8")
    if "--check" in sys.argv and stale:
        sys.exit(f"Run `make docs`: {', '.join(str(path) for path in stale)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
