"""The program as a whole: help, start-up, wrong command lines, and where errors end."""

import json
import os
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
    "compile", "opt", "inspect", "evaluate", "bench", "tune", "search", "train", "bisect", "passes", "targets", "recipes", "doctor", "demo",
)  # fmt: skip


def test_help_lists_every_command(cli: Cli) -> None:
    ran = cli("--help")
    assert ran.status == 0
    rows = [line for line in ran.out.partition("Commands:")[2].splitlines() if line[2:3].strip()]
    listed = [line.split()[0] for line in rows]
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, cli: Cli) -> None:
    ran = cli(name, "--help")
    assert (ran.status, ran.err) == (0, "")
    assert [option for option in ("--json", "--debug", "--verbose", "--quiet") if option not in ran.out] == []


@pytest.mark.parametrize("name", ["compile", "opt", "inspect", "search", "train", "bisect"])
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


def test_alone_it_prints_its_help_in_full(cli: Cli) -> None:
    ran = cli()
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == cli("--help").out
    assert "..." not in ran.out.partition("Commands:")[2], "a sentence is cut"


def test_python_runs_it_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vitgraph", "targets"], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "orin-agx" in done.stdout


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("vitgraph pass", "passes"),
        ("vitgraph passes nm", "nm-mask"),
        ("vitgraph compile m --target orin", "orin-agx"),
        ("vitgraph compile m --recipe w4a", "w4a4 w4a8"),
    ],
)
def test_the_shell_completes_commands_and_names(words: str, found: str, tmp_path: Path) -> None:
    asked = {"_VITGRAPH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from vitgraph.tools.cli import main; sys.exit(main())"],
        check=False, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **asked},
    )  # fmt: skip
    assert done.stdout.split() == found.split()


def logged(cli: Cli, *options: str) -> str:
    """What standard error has of three passes."""
    ran = cli("opt", "digits-vit", "--pipeline", "canonicalize,fold-constants,nm-mask{n=2 m=128}", *options)
    assert ran.status == 0, ran.err
    return ran.err


def test_it_tells_as_much_as_it_is_asked_to(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "INFO" not in logged(cli)
    assert logged(cli, "-q") == ""
    told = logged(cli, "-v")
    assert told.count("INFO") == 3
    assert "pass 'nm-mask' (3 of 3) changed the graph" in told
    monkeypatch.setenv("VITGRAPH_LOG", "debug")
    told = logged(cli)
    assert "DEBUG: pass 'nm-mask' (3 of 3) left blocks.0.mlp.fc1 alone: K = 64 is no multiple of 128" in told
    assert "DEBUG" not in logged(cli, "-v"), "what the command line says comes first"
    assert logged(cli, "--quiet") == ""


def test_contradictions_in_what_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (cli("targets", "-v", "-q").status, "contradict" in cli("targets", "-v", "-q").err) == (2, True)
    monkeypatch.setenv("VITGRAPH_LOG", "loud")
    ran = cli("targets")
    assert (ran.status, ran.out) == (2, "")
    assert "VITGRAPH_LOG=loud: it is one of debug, info, warning, error" in ran.err


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
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "out of memory"),
        (ImportError("libtorch.so: failed to map segment from shared object"), 1, "out of memory"),
        (RecursionError("maximum recursion depth exceeded"), 2, "nests too deep"),
        (SystemExit(7), 2, "the model's own code ended the program (exit status 7)"),
        (PermissionError(13, "Permission denied", "a/secret"), 2, "a/secret: Permission denied; check the path"),
        (
            OSError(24, "Too many open files"),
            1,
            "Too many open files; raise the limit on open files (`ulimit -n`), and run",
        ),
        (
            OSError(28, "No space left on device", "a/file"),
            1,
            "a/file: No space left on device; make room on that disk",
        ),
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
    assert ("Traceback" in capsys.readouterr().err) == (status in (1, 2))


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


def test_alone_it_prints_its_help_whole(cli: Cli) -> None:
    alone, asked = cli(), cli("--help")
    assert (alone.status, alone.err) == (0, "")
    assert alone.out.strip() == asked.out.strip()
    assert all(f"  {name}" in alone.out for name in ("compile", "opt", "demo"))
