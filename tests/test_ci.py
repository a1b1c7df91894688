"""`.ci/run` is content only when the checks pass and tests really ran; `make` is played by a script here."""

import os
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parent.parent / ".ci" / "run"


def run_with(folder: Path, answers: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a copy of .ci/run in `folder` with a `make` whose targets do what `answers` says, in shell."""
    (folder / ".ci").mkdir()
    (folder / ".ci" / "run").write_bytes(RUN.read_bytes())
    cases = "".join(f"{target}) {answer} ;;\n" for target, answer in answers.items())
    make = folder / "make"
    make.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}*) exit 9 ;;\nesac\n')
    make.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(["bash", ".ci/run"], cwd=folder, env=environment, check=False, capture_output=True, text=True)


GOOD = {"check": "true", "test": "echo '12 passed, 1 skipped in 3.1s'", "test-slow": "echo '1 passed in 9s'"}


def test_passes_and_repeats_the_closing_lines(tmp_path: Path) -> None:
    done = run_with(tmp_path, GOOD)
    assert done.returncode == 0
    assert done.stdout.endswith("make test: 12 passed, 1 skipped in 3.1s\nmake test-slow: 1 passed in 9s\n")


@pytest.mark.parametrize(
    "bad",
    [
        {"check": "exit 1"},
        {"test": "echo '1 failed, 3 passed in 1s'; exit 2"},
        {"test": "echo 'no tests ran in 0.1s'"},
        {"test": "echo 'no tests ran in 0.1s'; exit 5"},
        {"test-slow": "echo '7 skipped in 0.1s'"},
        {"test-slow": "echo '0 passed in 0.1s'"},
        {"test-slow": "true"},
    ],
)
def test_fails(bad: dict[str, str], tmp_path: Path) -> None:
    assert run_with(tmp_path, GOOD | bad).returncode != 0
