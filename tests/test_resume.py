"""Long work that is killed at any moment: the same command then ends in the same bytes, and nothing is left of the first."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import IO

import pytest

from tests.conftest import ROOT
from vitgraph.compile import compiler
from vitgraph.searching import runner

pytestmark = pytest.mark.slow

STEPS = (
    "canonicalize,fold-constants,fold-batch-norm,fuse-layer-norm,fuse-attention,fold-constants,softmax-check,"
    "balance-attention,smooth-quant,quantize,reconstruct{iterations=20},absorb-shifts,assign-precision,materialize,legalize"
)
IMAGES = ("--calibration-data", "digits:train", "--calibration-images", "8")
TARGET = ("--target", "orin-agx")
COMMANDS = {
    "int8": ("compile", "digits-vit", *TARGET, "--recipe", "int8", *IMAGES),
    "int8-best": ("compile", "digits-vit", *TARGET, "--recipe", "int8-best", "--pipeline", STEPS, *IMAGES),
    "search": ("search", "digits-vit", "--target", "vegeta", "--budget", "1.7x", "--train-data", "digits:train", "--train-images", "60",
               "--epochs", "2", "--rounds", "2", "--judged", "2", "--pool", "2", "--population", "4", "--generations", "2", "--held-out", "20"),
    "opt": ("opt", "digits-vit", "--pipeline", STEPS, *TARGET, *IMAGES),
}  # fmt: skip
TIMED = {*compiler.TIMED, *runner.TIMED}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
KILLS = 5
"""Of each command, spread over its whole length."""


@dataclass(frozen=True)
class Server:
    """See `tests/forked_commands.py`."""

    jobs: IO[str]
    answers: IO[str]

    def start(self, words: tuple[str, ...], folder: Path) -> int:
        """Start a command, and return its process's number."""
        job = {"words": [*words, "-o", "out", "--force"], "folder": str(folder), "told": str(folder.parent / "told")}
        print(json.dumps(job), file=self.jobs, flush=True)
        return int(self.answers.readline())

    def wait(self) -> int:
        return int(self.answers.readline())


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    words = [sys.executable, "-m", "tests.forked_commands"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Server(process.stdin, process.stdout)
        process.stdin.close()


def content(out: Path) -> dict[str, str]:
    """The digest of each file; of those that hold times, as the manifest has it."""
    files = [out] if out.is_file() else sorted(each for each in out.rglob("*") if each.is_file())
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in files if each.name not in TIMED}


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_and_started_again_it_writes_the_same_bytes(command: str, server: Server, tmp_path: Path) -> None:
    random = Random(command)
    (tmp_path / "here").mkdir()
    start = time.monotonic()
    server.start(COMMANDS[command], tmp_path / "here")
    assert server.wait() == 0, (tmp_path / "told").read_text()
    length, whole = time.monotonic() - start, content(tmp_path / "here/out")
    for number in range(KILLS):
        folder = tmp_path / str(number) / "here"
        folder.mkdir(parents=True)
        moment, number_of_signal = length * (number + random.random()) / KILLS, SIGNALS[number % len(SIGNALS)]
        while kill(server, command, folder, moment, number_of_signal) == 0:  # it had ended: it was quicker this time
            shutil.rmtree(folder)
            folder.mkdir()
            moment *= 0.6
        left = (
            {each.name for each in folder.glob(".out.unfinished/*")}
            if (folder / ".out.unfinished").is_dir()
            else set[str]()
        )
        server.start(COMMANDS[command], folder)
        assert server.wait() == 0, (folder.parent / "told").read_text()
        told = (folder.parent / "told").read_text()
        assert "an earlier run did not end" in told or not left & {"folder", "parts"}
        assert content(folder / "out") == whole, f"{number_of_signal} at {moment:.2f} of {length:.2f} s"
        assert [each.name for each in folder.iterdir()] == ["out"]


def kill(server: Server, command: str, folder: Path, moment: float, number: signal.Signals) -> int:
    """Start the command and kill it at this moment; its status, which is 0 where it had ended."""
    process = server.start(COMMANDS[command], folder)
    time.sleep(moment)
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return server.wait()
    status, told = server.wait(), (folder.parent / "told").read_text()
    assert "Traceback" not in told
    if number is signal.SIGKILL:
        return status
    assert status in (0, 128 + number), told
    assert status == 0 or "interrupted; nothing half-written was left" in told
    assert not (folder / ".out.unfinished/folder").exists()
    return status
