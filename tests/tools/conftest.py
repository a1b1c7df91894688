"""The command line, called in this process: quick, and its output at hand."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.planted import MLP
from vitgraph.tools.cli import main


@dataclass(frozen=True)
class Ran:
    """What one command line did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON object and nothing else."""
        return json.loads(self.out)


Cli = Callable[..., Ran]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`cli("opt", "digits-vit", …)` in an empty folder of its own."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments: str | Path) -> Ran:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        told = capfd.readouterr()
        return Ran(status, told.out, told.err)

    return run


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    """A program of three linears as text."""
    file = tmp_path / "mlp.txt"
    file.write_text(MLP)
    return file
