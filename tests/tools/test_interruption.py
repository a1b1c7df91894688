"""Signals at any moment: no traceback, and the status that a shell expects."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vitgraph.tools.interruption import EndingSignals, Interrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
START = "import os, sys, vitgraph.__main__ as program\n"
WHILE_IMPORTING = START + (
    "def load(name): os.kill(os.getpid(), NUMBER); raise RuntimeError('it was heeded by nobody')\n"
    "program.import_module = load\n"
)
"""A signal while modules are loaded, where Python would show a traceback."""
WHILE_READING = START + ("import vitgraph.tools.cli as cli\ncli.make_app = lambda: os.kill(os.getpid(), NUMBER)\n")
"""A signal ahead of any command, outside of what tells a command's errors."""
WHILE_WRITING = START + (
    "import vitgraph.tools.cli, vitgraph.outputs.whole_file as outputs\n"
    "outputs._move = lambda *_: os.kill(os.getpid(), NUMBER)\n"
)  # fmt: skip
"""A signal when a file is half-written."""
SWALLOWED = START + (
    "import vitgraph.tools.optimize as optimize\n"
    "def read(pipeline):\n"
    "    try: os.kill(os.getpid(), NUMBER)\n"
    "    except BaseException: raise RuntimeError('a library made it something else')\n"
    "optimize.read_pipeline = read\n"
)
"""A signal that some library turned into an error of its own."""
WORDS = ("opt", "mlp.txt", "--pipeline", "canonicalize", "-o", "out")


def ended(code: str, number: int, folder: Path) -> "subprocess.CompletedProcess[str]":
    """A command that gets a signal where the code says."""
    whole = f"NUMBER = {int(number)}\n{code}sys.argv = ['vitgraph', *{WORDS}]\nsys.exit(program.run())"
    return subprocess.run([sys.executable, "-c", whole], check=False, capture_output=True, text=True, cwd=folder)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("code", [WHILE_IMPORTING, WHILE_READING])
def test_ahead_of_the_work(code: str, number: signal.Signals, tmp_path: Path) -> None:
    done = ended(code, number, tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        128 + number,
        "vitgraph: interrupted; nothing half-written was left",
    )
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("code", [WHILE_WRITING, SWALLOWED])
def test_in_the_work(code: str, mlp: Path) -> None:
    done = ended(code, signal.SIGTERM, mlp.parent)
    assert done.returncode == 143, done.stderr
    assert "Traceback" not in done.stderr
    assert [each.name for each in mlp.parent.iterdir()] == [mlp.name]


def test_what_is_ignored_stays_so() -> None:
    """As `nohup` has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        signals = EndingSignals()
        signals.interrupt()
        os.kill(os.getpid(), signal.SIGHUP)
        assert signals.status == 0
    finally:
        for number, handler in zip(NUMBERS, (signal.default_int_handler, signal.SIG_DFL, before), strict=True):
            signal.signal(number, handler)


def test_a_signal_is_an_interruption() -> None:
    assert issubclass(Interrupted, KeyboardInterrupt)
    assert Interrupted(signal.SIGTERM).status == 143
