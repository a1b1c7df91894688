"""Targets of other packages: found through entry points, listed even where they cannot be loaded."""

import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.targets.test_target_file import BOARD
from tests.tools.conftest import Cli, cli
from vitgraph.errors import InputError
from vitgraph.targets.target import all_targets, get_target, offered_targets, target_names

assert cli  # the fixture

MODULE = """
from importlib.resources import files

from vitgraph.targets.target import get_target

FILE = files(__name__) / "board.yaml"
MADE = get_target("a100").model_copy(update={"name": "made"})
OTHER = FILE
NUMBER = 3
BROKEN = files(__name__) / "broken.yaml"
"""
POINTS = """
[vitgraph.targets]
board = planted_targets:FILE
made = planted_targets:MADE
other = planted_targets:OTHER
number = planted_targets:NUMBER
broken = planted_targets:BROKEN
missing = planted_targets:NO_SUCH_NAME
absent = no_such_module_of_ours:FILE
a100 = planted_targets:FILE
"""
GOOD = ("board", "made")
BAD = [
    ("other", "calls itself 'board'; give the entry point and the device one name"),
    ("number", "is neither a Target nor the path of a YAML file; it is a int"),
    ("broken", "names no capability"),
    ("missing", "cannot be loaded: AttributeError"),
    ("absent", "cannot be loaded: ModuleNotFoundError"),
]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """A package that offers targets, found inside the test and forgotten after it."""
    package, metadata = tmp_path / "planted_targets", tmp_path / "planted_targets-1.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    (package / "__init__.py").write_text(MODULE)
    (package / "board.yaml").write_text(BOARD)
    (package / "broken.yaml").write_text("name: broken\n")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: planted-targets\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(POINTS)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    offered_targets.cache_clear()
    yield
    sys.modules.pop("planted_targets", None)
    offered_targets.cache_clear()


@pytest.mark.usefixtures("installed")
def test_targets_of_other_packages_stand_behind_our_own() -> None:
    assert get_target("board").title == "a board of our own"
    assert get_target("made").sparse == get_target("a100").sparse
    assert tuple(target.name for target in all_targets())[-2:] == GOOD
    assert get_target("a100").title == "NVIDIA A100 80GB SXM", "a packaged name cannot be taken"
    with pytest.raises(InputError, match="did you mean board"):
        get_target("bord")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("name", "why"), BAD)
def test_one_that_cannot_be_loaded_says_why(name: str, why: str) -> None:
    with pytest.raises(InputError, match=f"target {name!r} of entry point .*{why}"):
        get_target(name)
    assert name not in [target.name for target in all_targets()]


@pytest.mark.usefixtures("installed")
def test_they_are_listed_with_what_is_wrong_with_them(cli: Cli) -> None:
    found = {each["name"]: each["error"] for each in cli("targets", "--json").json["targets"]}
    assert tuple(found) == target_names()
    assert [name for name, error in found.items() if error] == [name for name, _ in BAD]
    assert "neither a Target nor" in cli("targets").out


def test_they_are_gone_without_their_package() -> None:
    assert dict(offered_targets()) == {}
    with pytest.raises(InputError, match="unknown target 'board'"):
        get_target("board")
