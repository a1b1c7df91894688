"""Activations that are written out in arithmetic, as one operator each: GELU, its tanh form, SiLU, Mish and the like.

Exporters spell them in many ways, so they are told by their values: where a few steps of arithmetic on one value and
numbers agree with an activation over a grid of values in double precision, they are that activation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph.ir.dialect import aten
from vitgraph.ir.program import Program

_STEPS = frozenset(
    {
        aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.pow.Tensor_Scalar, aten.neg.default,
        aten.exp.default, aten.log.default, aten.erf.default, aten.tanh.default, aten.sigmoid.default,
        aten.softplus.default, aten.clamp.default, aten.relu.default, aten.hardsigmoid.default, aten.reciprocal.default,
    }
)  # fmt: skip
_MOST = 14
"""Steps of the longest spelling."""
_GRID = torch.cat([torch.linspace(-8, 8, 257), torch.linspace(-0.1, 0.1, 21)]).double()
_NEAR = 1e-6
"""Constants of a file are float32; GELU and its tanh form lie 4e-4 apart."""
_ENDS = (aten.mul.Tensor, aten.div.Tensor)
"""What the last step of each is."""
_ACTIVATIONS: tuple[tuple[Any, dict[str, str]], ...] = (
    (aten.gelu.default, {}),
    (aten.gelu.default, {"approximate": "tanh"}),
    (aten.silu.default, {}),
    (aten.hardswish.default, {}),
    (aten.mish.default, {}),
)


def roll_activations(program: Program) -> None:
    """Put one operator in the place of each activation that is written out."""
    for node in reversed(program.calls(*_ENDS)):
        if node.users:
            found = next((each for cone in _cones(node) if (each := _activation(node, *cone)) is not None), None)
            if found is not None:
                source, target, named = found
                node.replace_all_uses_with(program.insert(node, target, source, **named))


def _cones(end: fx.Node) -> Iterator[tuple[fx.Node, list[fx.Node]]]:
    """One value and the steps from it to `end`, which nothing else reads; the fewest steps first."""
    cone, leaves = [end], list(dict.fromkeys(end.all_input_nodes))
    while len(cone) <= _MOST:
        if len(leaves) == 1:
            yield leaves[0], cone
        taken = next((leaf for leaf in leaves if leaf.target in _STEPS and set(leaf.users) <= set(cone)), None)
        if taken is None:
            return
        cone.append(taken)
        leaves = list(dict.fromkeys([each for each in leaves if each is not taken] + taken.all_input_nodes))


def _activation(
    end: fx.Node, source: fx.Node, cone: list[fx.Node]
) -> tuple[fx.Node, Callable[..., Tensor], dict[str, str]] | None:
    """The activation that the steps are, and of what."""
    if len(cone) < 2 or end.meta["type"] != source.meta["type"]:
        return None
    values = dict[fx.Node, Tensor]({source: _GRID})

    def value(node: fx.Node) -> Tensor:
        if node not in values:
            given: Any = fx.map_arg((node.args, node.kwargs), value)
            step: Any = node.target
            values[node] = step(*given[0], **given[1])
        return values[node]

    found = value(end)
    for activation, named in _ACTIVATIONS:
        if bool(((activation(_GRID, **named) - found).abs() < _NEAR).all()):
            return source, activation, named
    return None
