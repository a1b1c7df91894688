"""What a command does with standard output and standard error as it finds them; each in its own process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

VITGRAPH = f"{sys.executable} -m vitgraph"


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a line does, with `vitgraph` in it for this one."""
    return subprocess.run(
        line.replace("vitgraph", VITGRAPH), shell=True, check=False, capture_output=True, text=True, cwd=folder,
        env={**os.environ, **environment}, executable="/bin/bash",
    )  # fmt: skip


STREAMS = {
    "a full disk": ("vitgraph targets >/dev/full", 1, "vitgraph: standard output can't be written to: No space left"),
    "a full disk, for help": ("vitgraph --help >/dev/full", 1, "standard output can't be written to"),
    "closed": ("vitgraph targets >&-", 2, "vitgraph: standard output is closed; send it to a file, or to /dev/null"),
    "nobody reads": ("vitgraph targets --json | head -c 1; exit ${PIPESTATUS[0]}", 0, ""),
    "errors to a full disk": ("vitgraph nosuch 2>/dev/full", 2, ""),
    "errors to nowhere": ("vitgraph nosuch 2>&-", 2, ""),
    "neither": ("vitgraph nosuch >&- 2>&-", 2, ""),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streams_that_take_nothing(name: str, tmp_path: Path) -> None:
    line, status, told = STREAMS[name]
    ran = shell(line, tmp_path)
    assert (ran.returncode, "Traceback" in ran.stderr, "Exception" in ran.stderr) == (status, False, False)
    assert told in ran.stderr
    assert bool(ran.stderr) == bool(told)


def test_an_encoding_without_lines_and_dashes(tmp_path: Path) -> None:
    ran = shell("vitgraph targets", tmp_path, PYTHONIOENCODING="ascii")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.isascii()


def test_python_without_assertions(tmp_path: Path) -> None:
    ran = shell("vitgraph targets".replace("-m", "-O -m"), tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_too_little_address_space_is_told(tmp_path: Path) -> None:
    ran = shell("ulimit -v 600000; vitgraph opt digits-vit --pipeline canonicalize", tmp_path)
    assert ran.returncode == 1
    assert "vitgraph: out of memory" in ran.stderr
    assert "Traceback" not in ran.stderr
