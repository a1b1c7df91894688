"""A canonical Program as an ONNX file, whose nodes are named after the modules they came from.

`lower` also says what it made of the places an engine is judged by: which node computes which linear layer, in which
number formats and where its weight lies, and which node is the softmax of which attention.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from torch import fx

from vitgraph.analysis.attention import find_attentions
from vitgraph.backends.onnx.file_writer import EXTERNAL_BYTES, write_model
from vitgraph.backends.onnx.graph_builder import (
    Call,
    Lowering,
    NoLowering,
    Result,
    Table,
    onnx_shape,
    onnx_type,
    tensor_type,
    types_of_results,
)
from vitgraph.backends.onnx.image_forms import IMAGE
from vitgraph.backends.onnx.layout_forms import LAYOUT
from vitgraph.backends.onnx.math_forms import MATH
from vitgraph.backends.onnx.model import LINEAR, describe_attention, describe_linear
from vitgraph.backends.onnx.reduce_forms import REDUCE
from vitgraph.backends.onnx.resize_forms import RESIZE
from vitgraph.backends.onnx.weight_forms import WEIGHTS, quantized_weight
from vitgraph.errors import InputError
from vitgraph.ir.call_arguments import name_of
from vitgraph.ir.calls import PairCall
from vitgraph.ir.operator_classes import PAIRS
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import TensorType
from vitgraph.runtime.onnx_model import OnnxModel

RULES: Table = {**LAYOUT, **MATH, **REDUCE, **IMAGE, **RESIZE, **WEIGHTS}
"""Every operator that has an ONNX form, and the function that makes it."""

OPSETS = range(20, 24)
"""Opset 20 has Gelu and the rest of what is used; TensorRT makes the same engine of 13 to 25. INT4 and scales for groups
of weights came with opset 21."""


def lower(program: Program, path: Path, *, opset: int | None = None, external_bytes: int = EXTERNAL_BYTES) -> OnnxModel:
    """Write a canonical program to `path` as ONNX; the same program gives the same bytes.

    `opset` None is the first that has what the program uses: 20, or 21 for INT4 and for groups of weights.
    Constants of `external_bytes` and more in all go to `<path>.data`. Raises `InputError` for a captured program, and
    for operators without an ONNX form: all of them at once, each with its module path.
    """
    if program.form != "canonical":
        raise InputError(f"{program.name}: is as captured; run the canonicalize pass before lowering it to ONNX")
    opset = _opset(program, opset)
    g = Lowering(program)
    inputs = [_input(g, node) for node in program.inputs]
    refused = dict[fx.Node, str]()
    for node in program.calls():
        if not _is_weight(g, node):
            _lower_node(g, node, refused)
    if refused:
        raise InputError(_refusal(program, refused))
    outputs = _outputs(g, program)
    files = write_model(_model(g, inputs, list(outputs), opset), list(g.initializers.values()), path, external_bytes)
    linears = tuple(describe_linear(g, node) for node in program.calls(*LINEAR))
    names = [linear.weight for linear in linears if linear.weight]
    return OnnxModel(
        path=path,
        files=tuple(files),
        inputs={str(value.name): tensor_type(node) for value, node in zip(inputs, program.inputs, strict=True)},
        outputs={str(value.name): kind for value, kind in outputs.items()},
        linears=linears,
        attentions=tuple(
            describe_attention(g, site.node) for site in find_attentions(program) if site.kind == "softmax"
        ),
        weights={name: g.initializers[name].read() for name in names},
        operators=dict(sorted(Counter(node.op_type for node in g.nodes).items())),
        values=_values(g),
    )


def _values(g: Lowering) -> dict[str, tuple[str, ...]]:
    """The names of what calls give in the file; a call that only moves a constant gives the constant, and has none."""
    found = {node.name: _names(g.values[node]) for node in g.program.calls() if node in g.values}
    return {node: names for node, names in found.items() if not g.initializers.keys() & set(names)}


def _names(result: Result) -> tuple[str, ...]:
    return tuple(str(value.name) for value in (result if isinstance(result, tuple) else (result,)))


def _opset(program: Program, asked: int | None) -> int:
    """The opset asked for, if vitgraph writes it and the program fits in; else the first that will do."""
    pairs = map(PairCall, program.calls(*PAIRS))
    needed = 21 if any(pair.format.name == "int4" or tensor_type(pair.scale).rank > 1 for pair in pairs) else 20
    if asked is not None and (asked not in OPSETS or asked < needed):
        raise InputError(
            f"opset {asked}: vitgraph writes opsets {OPSETS.start} to {OPSETS.stop - 1}, INT4 and groups of weights from 21 "
            f"on; use {needed}"
        )
    return needed if asked is None else asked


def _input(g: Lowering, node: fx.Node) -> ir.Value:
    kind = tensor_type(node)
    name = str(node.target)
    g.taken.add(name)
    value = g.values[node] = ir.Value(name=name, type=onnx_type(kind.dtype), shape=onnx_shape(kind.shape))
    return value


def _is_weight(g: Lowering, node: fx.Node) -> bool:
    """Whether a call is a constant, or only ever the weight of a linear layer: such are lowered where they are used."""
    if g.is_constant(node):
        return True
    operand_only = all(user.target in LINEAR and name_of(user, node) == "weight" for user in node.users)
    return operand_only and quantized_weight(g, node) is not None


def _lower_node(g: Lowering, node: fx.Node, refused: dict[fx.Node, str]) -> None:
    """Give a call its value; one without a lowering is noted and stands in for itself, so that all are found."""
    g.path = str(node.meta.get("path") or "")
    start, kinds = len(g.nodes), types_of_results(node)
    try:
        g.values[node] = _apply(g, node)
    except NoLowering as error:
        refused[node] = str(error)
        stand_ins = [ir.Value(name=f"refused/{node.name}") for _ in kinds]
        g.values[node] = tuple(stand_ins) if len(kinds) > 1 else stand_ins[0]
    g.made[node] = g.nodes[start:]
    _annotate(g.values[node], kinds)


def _apply(g: Lowering, node: fx.Node) -> Result:
    rule = RULES.get(node.target)
    if rule is None:
        raise NoLowering(
            "has no ONNX form in vitgraph; add one to vitgraph/backends/_onnx_*.py, or run the eager backend"
        )
    return rule(g, Call(node))


def _annotate(result: Result, kinds: list[TensorType | None]) -> None:
    """Write the types known to the program into the file."""
    for value, kind in zip(result if isinstance(result, tuple) else (result,), kinds, strict=True):
        if kind is not None and value.producer() is not None:
            value.type, value.shape = onnx_type(kind.dtype), onnx_shape(kind.shape)


def _refusal(program: Program, refused: dict[fx.Node, str]) -> str:
    lines = [
        f"  {node.target} at {node.meta.get('path') or 'the model itself'}: {why}" for node, why in refused.items()
    ]
    return f"{program.name}: {len(refused)} call(s) can't be lowered to ONNX:\n" + "\n".join(lines)


def _outputs(g: Lowering, program: Program) -> dict[ir.Value, TensorType]:
    """The outputs in order, under names of their own."""
    results = [pair for node in _flat(program.output.args[0]) for pair in _tensors_of(g, program, node)]
    found = dict[ir.Value, TensorType]()
    for position, (value, kind) in enumerate(results):
        if value.producer() is None or value in found:  # an input, a constant, or an output twice
            value = g.emit("Identity", value, path="output")
            _annotate(value, [kind])
        name = "output" if len(results) == 1 else f"output_{position}"
        while name in g.taken or name in g.initializers:
            name += "_"
        value.name = name
        found[value] = kind
    return found


def _flat(result: Any) -> list[Any]:
    if isinstance(result, list | tuple):
        return [node for item in result for node in _flat(item)]  # pyright: ignore[reportUnknownVariableType]
    return [result]


def _tensors_of(g: Lowering, program: Program, node: Any) -> list[tuple[ir.Value, TensorType]]:
    kinds = types_of_results(node) if isinstance(node, fx.Node) else [None]
    if any(kind is None for kind in kinds):
        raise InputError(f"{program.name}: gives {node!r}, which is no tensor; wrap the model to give tensors only")
    held = g.values.get(node)
    values = held if isinstance(held, tuple) else (g.value(node),)
    return [(value, kind) for value, kind in zip(values, kinds, strict=True) if kind is not None]


def _model(g: Lowering, inputs: list[ir.Value], outputs: list[ir.Value], opset: int) -> onnx.ModelProto:
    """The protobuf of everything but the constants."""
    graph = ir.Graph(inputs, outputs, nodes=g.nodes, opset_imports={"": opset}, name=g.program.name)
    version = 9 if opset <= 20 else 10
    return ir.to_proto(ir.Model(graph, ir_version=version, producer_name="vitgraph"))
