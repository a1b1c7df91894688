"""A canonical Program as a plan: every program has one, for what no kernel computes is a step of torch.

Nodes are visited in order. A rule gives a node its steps, or leaves it to torch; one that looks ahead (`epilogue`,
`common_scale`) also gives later nodes theirs, which are passed over then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx

from vitgraph.backends.cuda.attentions import lower_attention
from vitgraph.backends.cuda.building import Building, Held
from vitgraph.backends.cuda.linears import lower_product
from vitgraph.backends.cuda.lowered import Lowered
from vitgraph.backends.cuda.passes_over_memory import (
    lower_cast,
    lower_gelu,
    lower_layout,
    lower_norm,
    lower_quantizer,
    lower_sum,
)
from vitgraph.backends.cuda.plan import Weight
from vitgraph.errors import InputError
from vitgraph.ir.dialect import aten, attention, dequantize, fake_quantize
from vitgraph.ir.operator_classes import LINEARS, MOVES
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import IntType, TensorType

Rule = Callable[[Building, fx.Node], bool]
RULES: dict[Any, Rule] = {
    **dict.fromkeys(MOVES, lower_layout),
    **dict.fromkeys(LINEARS, lower_product),
    aten.to.dtype: lower_cast,
    aten.add.Tensor: lower_sum,
    aten.layer_norm.default: lower_norm,
    aten.gelu.default: lower_gelu,
    fake_quantize: lower_quantizer,
    attention: lower_attention,
}
"""What gives the calls of an operator their steps; False leaves a call to torch."""


def lower_program(program: Program) -> Lowered:
    """Lower a program as `materialize` and `legalize` leave it; the same program gives the same plan.

    `InputError` for a captured program, and for one that gives anything but tensors.
    """
    if program.form != "canonical":
        raise InputError(f"{program.name}: is as captured; run the canonicalize pass before lowering it to kernels")
    b = Building(program)
    for node in program.inputs:
        b.held[node] = Held(b.buffer(str(node.target), node.meta["type"]), node.meta["type"])
    for node in program.calls():
        if node not in b.held and node not in b.absorbed and not _is_constant(node):
            _lower(b, node)
    given: Any = program.output.args[0]
    results: list[Any] = list(given) if isinstance(given, list | tuple) else [given]  # pyright: ignore[reportUnknownArgumentType]
    plan = b.plan([_result(b, each) for each in results])
    return Lowered(plan, b.weights)


def _lower(b: Building, node: fx.Node) -> None:
    rule = RULES.get(node.target)
    if rule is None or not rule(b, node):
        b.torch_step(node)


def _is_constant(node: fx.Node) -> bool:
    """Sizes stand in the steps that read them, and stored weights are read by the kernels: torch asks for what it needs."""
    return isinstance(node.meta["type"], IntType) or node.target is dequantize


def _result(b: Building, node: Any) -> str:
    """The buffer of a result; a constant is copied to one."""
    if not isinstance(node, fx.Node) or not isinstance(node.meta["type"], TensorType):
        raise InputError(f"{b.program.name}: gives {node!r}, which is no tensor; wrap the model to give tensors only")
    found = b.typed(node)
    if isinstance(found, Weight):
        return b.called(node, b.names[node], "aten.clone.default", {"self": found}, node.meta["type"]).name
    return found.name
