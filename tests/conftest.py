"""What every test shares: seeds, and where the real data lies."""

import os
import random
import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine is no fault
settings.load_profile("untimed")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Same numbers in every run and in any order of tests; torch is seeded only where a test has loaded it."""
    random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real weights and images: $VITGRAPH_DATA, or shared/data beside the project."""
    folder = Path(os.environ.get("VITGRAPH_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set VITGRAPH_DATA")
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line on the coverage table, where its tests ran."""
    passed: list[pytest.TestReport] = terminalreporter.getreports("passed")
    names = [each.nodeid for each in passed if each.when == "call" and "coverage/test_coverage.py::" in each.nodeid]
    if any("accounted_for[" in name for name in names):
        from tests.coverage.summary import summary_of

        terminalreporter.write_line(summary_of(names))
