"""The program as a whole: help, start-up, wrong command lines, and where errors end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from tests.tools.conftest import Cli
from vitgraph.errors import CheckFailed, InputError
from vitgraph.pass_manager.former_names import COMMAND_OPTIONS
from vitgraph.tools.cli import main, make_app
from vitgraph.tools.command import Answer, command

COMMANDS = (
    "compile", "opt", "inspect", "evaluate", "bench", "search", "bisect", "passes", "targets", "recipes", "doctor", "demo",
)  # fmt: skip


def test_help_lists_every_command(cli: Cli) -> None:
    ran = cli("--help")
    assert ran.status == 0
    listed = [line.split()[0] for line in ran.out.partition("Commands:")[2].splitlines() if line.strip()]
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, cli: Cli) -> None:
    ran = cli(name, "--help")
    assert (ran.status, ran.err) == (0, "")
    assert "--json" in ran.out
    assert "--debug" in ran.out


@pytest.mark.parametrize("name", ["compile", "opt", "inspect", "search", "bisect"])
def test_model_options_are_the_same_everywhere(name: str, cli: Cli) -> None:
    wanted = (
        "--weights",
        "--model-args",
        "--batch",
        "--image-size",
        "--mean",
        "--std",
        "--resize",
        "--crop",
        "--interpolation",
    )
    help_text = cli(name, "--help").out
    assert [option for option in wanted if option not in help_text] == []


def test_help_loads_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "onnx", "onnxruntime", "pydantic", "timm", "PIL", "yaml")
    code = (
        "import sys; from vitgraph.tools.cli import main; status = main(['--help']);"
        f"print([name for name in {heavy} if name in sys.modules]); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_version(cli: Cli) -> None:
    assert cli("--version").out.startswith("vitgraph 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        ("optt",),
        ("opt",),
        ("opt", "digits-vit", "--no-such-option"),
        ("opt", "x", "--fuel", "many"),
        ("opt", "x", "--fuel", "-1"),
    ],
)
def test_usage_error(arguments: tuple[str, ...], cli: Cli) -> None:
    ran = cli(*arguments)
    assert ran.status == 2
    assert ran.out == ""
    assert ran.err.startswith("vitgraph: ")
    assert "--help" in ran.err
    assert "Traceback" not in ran.err


def test_usage_error_as_json(cli: Cli) -> None:
    ran = cli("opt", "--json")
    assert ran.status == 2
    assert "Missing argument" in ran.json["error"]


def planted_app(error: BaseException) -> typer.Typer:
    """An app whose one command fails in a given way."""
    app = make_app()

    def fail() -> Answer:
        """Fail."""
        print("a library prints")
        raise error

    command(app, "fail")(fail)
    return app


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (InputError("no such thing"), 2, "no such thing"),
        (CheckFailed("a check failed"), 1, "a check failed"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("secret fault"), 1, "internal error: RuntimeError: secret fault"),
        (MemoryError(), 1, "out of memory"),
    ],
)
def test_errors_become_messages(
    error: BaseException,
    status: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vitgraph.tools.cli.make_app", lambda: planted_app(error))
    assert main(["fail"]) == status
    out, err = capsys.readouterr()
    assert out == "", "standard output is the answer's alone"
    assert told in err
    assert "Traceback" not in err
    assert main(["fail", "--json"]) == status
    assert told in json.loads(capsys.readouterr().out)["error"]
    assert main(["fail", "--debug"]) == status
    assert ("Traceback" in capsys.readouterr().err) == (status in (1, 2) and not isinstance(error, MemoryError))


def test_reader_that_leaves_early(tmp_path: Path) -> None:
    code = "import sys; from vitgraph.tools.cli import main; sys.exit(main(['targets', '--json']))"
    done = subprocess.run(
        f'{sys.executable} -c "{code}" | head -c 1',
        shell=True,
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.stdout == "{"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.parametrize(("old", "new"), COMMAND_OPTIONS.items())
def test_an_option_is_answered_with_its_name_of_today(old: str, new: str, cli: Cli) -> None:
    ran = cli("compile", "digits-vit", "--target", "cpu", "--recipe", "fp16", old, "1", "-o", "out")
    assert (ran.status, f"the option {old} is called {new} now" in ran.err) == (2, True)
    assert new in cli("compile", "--help").out
