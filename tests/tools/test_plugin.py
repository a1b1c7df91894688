"""A package of somebody else's adds a pass, a target and a backend: all three from the command line, without touching the tree."""

import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.targets.test_target_file import BOARD
from tests.tools.conftest import Cli
from vitgraph.backends import all_backends
from vitgraph.passes import all_passes
from vitgraph.targets.target import offered_targets

MODULE = """
from dataclasses import dataclass
from importlib.resources import files
from typing import ClassVar

import torch

from vitgraph.backends.eager import Eager
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass

BOARD = files(__name__) / "board.yaml"


@dataclass(frozen=True)
class HalfHead(Pass):
    '''Halve the head's weight.'''

    name: ClassVar[str] = "half-head"
    effect: ClassVar[Effect] = Effect.LOSSY

    def run(self, program, context):
        for node in program.calls(torch.ops.aten.linear.default):
            if node.meta["path"] == "head" and context.take(self.name, "head"):
                for place in (1, 2):
                    node.update_arg(place, program.constant_node(node, f"half{place}", program.constant(node.args[place]) / 2))


class Own(Eager):
    name: ClassVar[str] = "own"
"""
POINTS = """
[vitgraph.passes]
half-head = our_package:HalfHead

[vitgraph.targets]
board = our_package:BOARD

[vitgraph.backends]
own = our_package:Own
"""


@pytest.fixture
def our_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Installed inside the test, forgotten after it."""
    package, metadata = tmp_path / "our_package", tmp_path / "our_package-1.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    (package / "__init__.py").write_text(MODULE)
    (package / "board.yaml").write_text(BOARD)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: our-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(POINTS)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    forget()
    yield
    sys.modules.pop("our_package", None)
    forget()


def forget() -> None:
    for known in (all_passes, offered_targets, all_backends):
        known.cache_clear()


WORDS = ("--target", "board", "--recipe", "fp16", "--pipeline", "canonicalize,half-head,fold-constants")


@pytest.mark.usefixtures("our_package")
def test_a_pass_a_target_and_a_backend_of_one_package(cli: Cli) -> None:
    words = ("--evaluate-data", "digits:test", "--evaluate-images", "16", "--batch", "8")
    ran = cli("compile", "digits-vit", *WORDS, *words, "--backend", "own", "-o", "out", "--json")
    assert ran.status == 0, ran.err
    report = ran.json
    assert (report["target"], report["accuracy"]["measured_on"]) == ("board", "own program")
    assert [step["changed"] for step in report["passes"] if step["name"] == "half-head"] == [True]
    assert report["accuracy"]["agreement"] == 100, "half of every logit: the same class"
    assert cli("bench", "out", "--backend", "own", "--rounds", "1").status == 0
    assert cli("evaluate", "out", "--data", "digits:test", "--images", "8", "--backend", "own").status == 0


def test_all_three_are_gone_without_the_package(cli: Cli) -> None:
    plain = ("compile", "digits-vit", "--recipe", "fp16", "-o", "out")
    assert "there is no pass 'half-head'" in cli(*plain, "--target", "a100", "--pipeline", "half-head").err
    assert "unknown target 'board'" in cli(*plain, "--target", "board").err
    assert "there is no backend 'own'" in cli(*plain, "--target", "a100", "--backend", "own").err
