"""`demo.yml` where nothing is deployed yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.e2e.deployment import Deployment, Run


@dataclass
class Story:
    """`demo.yml`: for real, again, in check mode."""

    output: Path
    first: Run
    second: Run
    checked_again: Run

    @property
    def password(self) -> str:
        return (self.output / "password").read_text("utf-8").strip()


def tell(deployment: Deployment) -> Story:
    output = deployment.folder / "demo-output"
    runs = [
        deployment.must("demo", *words, demo_output=str(output))
        for words in ([], [], ["--check", "--diff"])
    ]
    return Story(output, *runs)
