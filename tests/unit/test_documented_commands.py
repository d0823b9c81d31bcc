"""The commands that the documentation and the hints of errors show are commands of this release."""

import re
import shlex
from pathlib import Path

import pytest

from cbm_extract import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^    (cbm (?!--json).+)$", re.MULTILINE)
# In texts, also those of Python, where {} stands for a value.
INLINE = re.compile(r"`(cbm [a-z][^`|<]*)`")


def documented() -> list:
    found = []
    for page in PAGES:
        for line in BLOCK.findall(page.read_text()):
            found.append(pytest.param(line.partition("#")[0], id=f"{page.name}: {line[:60]}"))
    return found


def mentioned() -> list:
    found = []
    for file in [*PAGES, *sorted(ROOT.glob("cbm_*/**/*.py"))]:
        for text in dict.fromkeys(INLINE.findall(file.read_text())):
            found.append(pytest.param(text, id=f"{file.name}: {text[:60]}"))
    return found


@pytest.mark.parametrize("line", documented())
def test_commands_run_as_written(line):
    words = shlex.split(line)[1:]
    options = cli._parser(words).parse_args(words)
    verb = cli._load(options.cbm_verb)
    given = {
        name: value
        for name, value in vars(options).items()
        if name in verb.arguments.model_fields and value is not None
    }
    cli._validated(verb, given)


@pytest.mark.parametrize("text", mentioned())
def test_commands_mentioned_exist(text):
    words = text.split()[1:]
    if any(verb.startswith(f"{' '.join(words)} ") for verb in cli.VERBS):
        return  # a group of commands
    names = (" ".join(words[:count]) for count in (3, 2, 1))
    name = next((name for name in names if name in cli.VERBS), None)
    assert name, text
    properties = cli._load(name).arguments.model_fields
    for flag in re.findall(r"--([a-z-]+)", text):
        assert flag.replace("-", "_") in properties, text


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_command_is_documented(verb):
    assert any(re.search(rf"cbm {verb}\b", page.read_text()) for page in PAGES)
