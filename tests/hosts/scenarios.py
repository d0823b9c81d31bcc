"""Runs the roles' molecule scenarios, two at a time: ``python -m tests.hosts.scenarios``.

Each goes through create, prepare, check, converge, idempotence, check again (which must change
nothing), verify, its named break (``side_effect.yml``) after which verify must fail, and destroy.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.hosts import engine

ROOT = Path(__file__).resolve().parents[2]
LONGEST_SECONDS = 1800


@dataclass
class Scenario:
    """A role's scenario, how long it took (seconds), and why it failed."""

    folder: Path
    seconds: float = 0
    failure: str = ""

    @property
    def name(self) -> str:
        return f"{self.folder.parents[1].name}/{self.folder.name}"


def found(only: list[str]) -> list[Scenario]:
    """All scenarios, or those of the roles (or `role/scenario`) that are named."""
    folders = [path.parent for path in sorted(ROOT.glob("roles/*/molecule/*/molecule.yml"))]
    scenarios = [Scenario(folder) for folder in folders]
    if not only:
        return scenarios
    chosen = [one for one in scenarios if {one.name, one.name.split("/")[0]} & set(only)]
    if not chosen:
        raise SystemExit(f"No scenario is called {only}; there are: {names(scenarios)}.")
    return chosen


def names(scenarios: list[Scenario]) -> str:
    """Their names in one line."""
    return ", ".join(one.name for one in scenarios)


def run(scenario: Scenario, logs: Path, keep: bool) -> Scenario:
    """Runs one scenario; its output goes to a file of its own."""
    log = logs / f"{scenario.name.replace('/', '-')}.log"
    log.write_text("")
    start = time.monotonic()
    scenario.failure = failure_of(scenario, log)
    scenario.seconds = time.monotonic() - start
    if not keep:
        molecule(scenario, log, "destroy")
    state = f"FAILED: {scenario.failure}; see {log}" if scenario.failure else "ok"
    print(f"{scenario.name}: {state} ({scenario.seconds:.0f} s)", flush=True)
    return scenario


def failure_of(scenario: Scenario, log: Path) -> str:
    """Goes through all steps; why one failed, or nothing."""
    code, output = molecule(scenario, log, "test", "--destroy=never")
    if code:
        steps = re.findall(r"> ([a-z_]+)\] Executing", output)
        return f"{steps[-1] if steps else 'start'} failed"
    again = output.rsplit("> check] Executing", 1)[1].split("> verify] Executing", 1)[0]
    if re.search(r"changed=[1-9]", again):
        return "a check after converging would change something"
    if not (scenario.folder / "side_effect.yml").exists():
        return "no side_effect.yml, the break that verify must notice"
    code, output = molecule(scenario, log, "verify")
    noticed = code and re.search(r"failed=[1-9]", output)
    return "" if noticed else "verify passed although something was broken"


def molecule(scenario: Scenario, log: Path, *action: str) -> tuple[int, str]:
    """Runs one of molecule's actions; its exit code and output, which is added to the log."""
    bin_folder = Path(sys.executable).parent
    try:
        done = subprocess.run(
            [str(bin_folder / "molecule"), *action, "--scenario-name", scenario.folder.name],
            cwd=scenario.folder.parents[1],
            env=engine.environment()
            | {
                "PATH": f"{bin_folder}:{os.environ['PATH']}",
                "ANSIBLE_NOCOLOR": "1",
                "NO_COLOR": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=LONGEST_SECONDS,
        )
        code, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        code, output = 1, f"{error.stdout!r}\n{error}"
    with log.open("a", encoding="utf-8") as file:
        file.write(f"===== {' '.join(action)}: {code}\n{output}\n")
    return code, output


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hosts.scenarios", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="ROLE[/SCENARIO]")
    parser.add_argument("--jobs", type=int, default=2, help="scenarios at a time")
    parser.add_argument("--keep", action="store_true", help="leave the hosts running")
    parser.add_argument("--logs", type=Path, default=Path("/tmp/cbm-scenarios"))
    asked = parser.parse_args()
    asked.logs.mkdir(parents=True, exist_ok=True)
    scenarios = found(asked.only)
    with ThreadPoolExecutor(asked.jobs) as pool:
        done = list(pool.map(lambda one: run(one, asked.logs, asked.keep), scenarios))
    failed = [one for one in done if one.failure]
    if failed:
        raise SystemExit(f"Failed: {names(failed)}.")


if __name__ == "__main__":
    main()
