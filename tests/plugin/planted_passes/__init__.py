"""Three passes that are wrong at one site and do no harm elsewhere: what the instruments and `bisect` have to find."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import torch
from torch import fx

from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass

aten = torch.ops.aten


@dataclass(frozen=True)
class Planted(Pass):
    """Rewrites every linear; `at` is where it does so wrongly."""

    at: str = "*fc2"

    def run(self, program: Program, context: Context) -> None:
        for node in program.calls(aten.linear.default):
            path = str(node.meta["path"])
            if context.take(self.name, path):
                self.rewrite(program, node, fnmatchcase(path, self.at))

    def rewrite(self, program: Program, node: fx.Node, wrongly: bool) -> None:
        scale_linear(program, node, 1.0)


@dataclass(frozen=True)
class PlantedInvalid(Planted):
    """Leaves an operator in the graph that the dialect does not have."""

    name: ClassVar[str] = "planted-invalid"
    effect: ClassVar[Effect] = Effect.EXACT

    def rewrite(self, program: Program, node: fx.Node, wrongly: bool) -> None:
        if wrongly:
            node.update_arg(0, program.insert(node, aten.clone.default, node.args[0]))


@dataclass(frozen=True)
class PlantedOff(Planted):
    """Valid, and wrong by one percent, although it declares another order of rounding and no more."""

    name: ClassVar[str] = "planted-off"
    effect: ClassVar[Effect] = Effect.REORDERS

    def rewrite(self, program: Program, node: fx.Node, wrongly: bool) -> None:
        scale_linear(program, node, 1.01 if wrongly else 1.0)


@dataclass(frozen=True)
class PlantedLoud(Planted):
    """Declared lossy, and doubles an output: a signal-to-noise ratio of 0 dB."""

    name: ClassVar[str] = "planted-loud"
    effect: ClassVar[Effect] = Effect.LOSSY

    def rewrite(self, program: Program, node: fx.Node, wrongly: bool) -> None:
        scale_linear(program, node, 2.0 if wrongly else 1.001)


def scale_linear(program: Program, node: fx.Node, factor: float) -> None:
    """Multiply a linear's weight and bias, in new tensors."""
    for place, argument in enumerate(list(node.args)[1:], start=1):
        tensor = program.constant(argument)
        if tensor is not None:
            source: Any = argument
            node.update_arg(place, program.constant_node(node, f"{source.target}_scaled", tensor * factor))
