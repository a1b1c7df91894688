"""Nothing from a file runs: no code, no writing, no process; and every answer is exit 2, soon and small."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.case import CANARY
from tests.hostile.child import BYTES, CONTROLS, SECONDS
from tests.hostile.corpus import corpus
from tests.test_imports import ROOT

Outcomes = dict[str, dict[str, Any]]


def outcomes(which: str, folder: Path) -> Outcomes:
    """What became of these cases."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.child", which, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    found: Outcomes = {}
    for line in done.stdout.splitlines():
        found |= json.loads(line)
    return found


def faults(found: Outcomes) -> list[str]:
    """Everything that should not be, as `case: what`."""
    said = list[str]()
    for name, outcome in found.items():
        statuses = outcome["statuses"]
        said += [f"{name}: exit {statuses}: {outcome['said'][-600:]}"] if set(statuses) != {2} else []
        said += [f"{name}: {event}" for event in outcome["events"]]
        said += [f"{name}: made {path}" for path in outcome["made"]]
        said += [f"{name}: {outcome['seconds']:.1f} s"] if outcome["seconds"] > SECONDS else []
        said += [f"{name}: {outcome['bytes'] >> 20} MiB"] if outcome["bytes"] > BYTES else []
        said += [f"{name}: says {word}" for word in ("internal error", "Traceback") if word in outcome["said"]]
    return said


def test_a_slice_of_the_corpus_is_refused(tmp_path: Path) -> None:
    found = outcomes("quick", tmp_path / "cases")
    assert len(found) >= 20
    assert faults(found) == []


@pytest.mark.slow
def test_the_corpus_is_refused(tmp_path: Path) -> None:
    found = outcomes("whole", tmp_path / "cases")
    assert faults(found) == []
    assert len(found) == len(corpus()) >= 60


@pytest.mark.slow
def test_exploits_that_work_are_seen(tmp_path: Path) -> None:
    """The control: run unchecked, each payload makes the canary, and the hook sees it."""
    found = outcomes("controls", tmp_path / "cases")
    assert list(found) == list(CONTROLS)
    for name in ("system", "exec", "unpickle", "fx", "operator"):
        assert CANARY in found[name]["made"], found[name]
        assert found[name]["events"], name
    assert "MemoryError" in found["memory"]["said"]
    assert {line.partition(":")[0] for line in faults(found)} == set(CONTROLS)


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in corpus()]
    assert len(names) == len(set(names))
