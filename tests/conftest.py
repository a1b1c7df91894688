"""What every test shares: seeds, golden texts, and where the real data lies."""

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).resolve().parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden instead of comparing with it")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Same numbers in every run and in any order of tests; torch is seeded only where a test has loaded it."""
    random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)


def hold_to_golden(text: str, file: Path, *, update: bool) -> None:
    """Fail unless `file` holds exactly `text`; with `update`, write it instead."""
    if update:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return
    assert file.is_file(), f"{file.name} is missing: make it with `make golden`"
    assert text == file.read_text(encoding="utf-8"), f"{file.name} differs: if that is wanted, `make golden`"


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(text, "deit_tiny.txt")` compares with tests/golden/deit_tiny.txt; give such a test `golden` in its name."""
    update = bool(request.config.getoption("--update-golden"))

    def compare(text: str, name: str) -> None:
        hold_to_golden(text, GOLDEN / name, update=update)

    return compare


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real weights and images: $VITGRAPH_DATA, or shared/data beside the project."""
    folder = Path(os.environ.get("VITGRAPH_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set VITGRAPH_DATA")
    return folder
