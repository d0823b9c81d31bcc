"""Put all hosts' findings together: JSON from standard input, JSON to standard output.

In: ``{"limits": {...}, "hosts": {name: {"wanted": ..., "found": ... | "error": ...}}}``.
Out: ``{"text": ..., "problems": n, "warnings": n}``; the worst comes first.
"""

from __future__ import annotations

import json
import sys
import textwrap
import time
from typing import Any

from doctor_rules import OK, PROBLEM, WARNING, Case, Finding, agree, of_host

WORDS = {PROBLEM: "PROBLEM", WARNING: "warning", OK: "ok"}
WIDTH = 140


def findings(given: dict[str, Any], now: float) -> list[Finding]:
    """All findings, the worst first, else in the order of hosts."""
    cases = [
        Case(host, about.get("wanted", {}), about, given["limits"], now)
        for host, about in given["hosts"].items()
    ]
    found = agree(cases) + [finding for case in cases for finding in of_host(case)]
    return sorted(found, key=lambda finding: -finding.level)


def text(found: list[Finding]) -> str:
    """Return a paragraph for what is wrong, a line per host for what is fine, and the sum."""
    lines = []
    for one in found:
        if one.level != OK:
            lines.append(f"{WORDS[one.level]}  {one.host}: {one.area}")
            parts = {"expected": one.expected, "found": one.found, "do": one.do}
            for name, said in parts.items():
                lines += _wrapped(f"    {name:<10}", said)
    for host in dict.fromkeys(one.host for one in found):
        fine: dict[str, list[str]] = {}
        for one in found:
            if one.host == host and one.level == OK:
                fine.setdefault(one.area, []).append(one.found)
        said = "; ".join(f"{area}: {', '.join(all_of)}" for area, all_of in fine.items())
        lines += _wrapped(f"ok       {host}  ", said) if said else []
    return "\n".join([*lines, summary(found)])


def _wrapped(head: str, said: str) -> list[str]:
    shown = textwrap.TextWrapper(
        WIDTH, head, " " * len(head), break_long_words=False, break_on_hyphens=False
    )
    return shown.wrap(said)


def summary(found: list[Finding]) -> str:
    """Return the last line."""
    count = {level: sum(one.level == level for one in found) for level in WORDS}
    hosts = len({one.host for one in found} - {"all"})
    return (
        f"{hosts} host{'s' * (hosts != 1)}: {count[PROBLEM]} problem{'s' * (count[PROBLEM] != 1)},"
        f" {count[WARNING]} warning{'s' * (count[WARNING] != 1)}, {count[OK]} fine"
    )


def main() -> None:
    """Read, judge, write."""
    found = findings(json.load(sys.stdin), time.time())
    answer = {
        "text": text(found),
        "problems": sum(one.level == PROBLEM for one in found),
        "warnings": sum(one.level == WARNING for one in found),
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
