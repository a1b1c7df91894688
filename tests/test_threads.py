"""Threads that sleep while they wait: OpenMP itself is asked what it was told."""

import os
import re
import subprocess
import sys

import pytest

from vitgraph.threads import POLICY, SHORT, SPINS, wait_briefly, waiting


def _turns(code: str, **variables: str) -> int:
    """How often a thread looks before it sleeps, as GNU's OpenMP prints it when it is loaded."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, "OMP_DISPLAY_ENV": "verbose", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)
    if found is None:
        pytest.skip("this torch's OpenMP does not print how long it spins")
    return int(found[1])


@pytest.mark.parametrize(
    ("code", "variables", "sleeps"),
    [
        ("import vitgraph, torch", {}, True),
        ("import vitgraph, torch", {"OMP_WAIT_POLICY": "active"}, False),
        ("import torch, vitgraph", {}, False),
    ],
    ids=["vitgraph first", "the user's own", "torch first, too late"],
)
def test_openmp_sleeps_as_told(code: str, variables: dict[str, str], sleeps: bool) -> None:
    assert (_turns(code, **variables) <= SHORT) is sleeps


def test_torch_that_is_loaded_already_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (SPINS, POLICY):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "torch", sys)
    wait_briefly()
    assert waiting() == "as OpenMP likes"
    monkeypatch.delitem(sys.modules, "torch")
    wait_briefly()
    assert waiting() == f"{SPINS}={SHORT}"
    monkeypatch.delenv(SPINS)
    monkeypatch.setenv(POLICY, "passive")
    wait_briefly()
    assert waiting() == f"{POLICY}=passive"
