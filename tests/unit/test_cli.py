"""The command line as a user and as a module meets it."""

import io
import json
import subprocess
import sys

import pytest

from cbm_core.verbs import Answer, ChangingArguments, Context, Verb, positional
from cbm_extract import cli


class Arguments(ChangingArguments):
    source: str = positional("Where it is.")
    columns: list[str] = []
    limit: int | None = None


def echo(arguments: Arguments, _context: Context) -> Answer:
    return Answer(
        changed=True,
        plan=["one step"],
        result=arguments.model_dump(),
        before="a\n",
        after="b\n",
        text="done",
    )


@pytest.fixture(autouse=True)
def echo_verb(monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "VERBS", {"test echo": f"{__name__}:ECHO"})
    (tmp_path / "cbm.toml").write_text("")
    monkeypatch.setenv("CBM_CONFIG", str(tmp_path / "cbm.toml"))


ECHO = Verb("Echo.", Arguments, echo)


def run_json(monkeypatch, capsys, text: str, *words: str) -> tuple[int, dict]:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    code = cli.main(["--json", *(words or ("test", "echo"))])
    return code, json.loads(capsys.readouterr().out)


def test_json_answer_carries_change_plan_result_and_diff(monkeypatch, capsys):
    code, answer = run_json(monkeypatch, capsys, '{"source": "x", "columns": ["a"]}')
    assert code == 0
    assert answer["ok"] is True
    assert answer["changed"] is True
    assert answer["plan"] == ["one step"]
    assert answer["diff"] == {"before": "a\n", "after": "b\n"}
    assert answer["result"] == {"source": "x", "columns": ["a"], "limit": None, "check": False}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not JSON"),
        ("{}", "source"),
        ('{"source": "x", "colour": 1}', "colour"),
        ('{"source": "x", "limit": "many"}', "limit"),
    ],
)
def test_wrong_json_arguments_are_named(monkeypatch, capsys, text, expected):
    code, answer = run_json(monkeypatch, capsys, text)
    assert code == 1
    assert answer["ok"] is False
    assert answer["error"]["code"] == "arguments_invalid"
    assert expected in answer["error"]["message"]


def test_unknown_verb_lists_the_known(monkeypatch, capsys):
    code, answer = run_json(monkeypatch, capsys, "{}", "test", "shout")
    assert code == 1
    assert answer["error"]["code"] == "unknown_verb"
    assert "test echo" in answer["error"]["hint"]


def test_arguments_larger_than_a_pipe_buffer(monkeypatch, capsys):
    columns = [f"column_{i}" for i in range(50_000)]
    code, answer = run_json(monkeypatch, capsys, json.dumps({"source": "x", "columns": columns}))
    assert code == 0
    assert answer["result"]["columns"] == columns


def test_flags_follow_the_model(capsys):
    assert cli.main(["test", "echo", "x", "--columns", "a", "--columns", "b", "--check"]) == 0
    assert capsys.readouterr().out == "one step\ndone\n"


def test_check_is_off_by_default(capsys):
    assert cli.main(["test", "echo", "x"]) == 0
    assert capsys.readouterr().out == "done\n"


def test_missing_argument_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["test", "echo"])
    assert caught.value.code == 2
    assert "SOURCE" in capsys.readouterr().err


def test_named_configuration_must_exist(monkeypatch, capsys, tmp_path):
    code = cli.main(["--config", str(tmp_path / "none.toml"), "test", "echo", "x"])
    assert code == 1
    assert "none.toml" in capsys.readouterr().err


def test_help_needs_no_data_library():
    """`cbm --help` works, and quickly, on a host that has only the standard library."""
    script = (
        "import sys\n"
        "for name in ('numpy', 'rasterio', 'pydantic', 'psycopg2'): sys.modules[name] = None\n"
        "from cbm_extract import cli\n"
        "cli.main(['--help'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "parcels" in done.stdout


def test_missing_library_says_which_extra_to_install():
    script = (
        "import sys\n"
        "sys.modules['numba'] = None; sys.modules['numpy'] = None; sys.modules['psycopg2'] = None\n"
        "from cbm_extract import cli\n"
        "sys.exit(cli.main(['schema', 'status']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert "psycopg2" in done.stderr
    assert "cbm-backend[" in done.stderr
    assert "Traceback" not in done.stderr
