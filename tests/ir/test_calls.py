"""Typed views give the arguments of the dialect's calls, defaults too, write them, and refuse other operators."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import fx

from vitgraph.ir import calls, dialect
from vitgraph.ir.call_arguments import parameters
from vitgraph.ir.call_view import Argument, CallView
from vitgraph.ir.calls import (
    AttentionCall,
    BatchNormCall,
    BinaryCall,
    ConvCall,
    DequantizeCall,
    LinearCall,
    MaskCall,
    PairCall,
    QuantizeCall,
    SliceCall,
    VarianceCall,
    WeightedCall,
)
from vitgraph.ir.dialect import aten
from vitgraph.ir.formats import FORMATS
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program

VIEWS = [
    each
    for _, each in inspect.getmembers(calls, inspect.isclass)
    if issubclass(each, CallView) and each is not CallView
]
ATTENTION = """
q: f32[2, 3, 5, 4] = input()
k: f32[2, 3, 5, 4] = input()
s: f32[] = constant("scale")
b: f32[3, 5, 5] = constant("bias")
y: f32[2, 3, 5, 4] = vitgraph.attention.default(q, k, k, {rest})
return_(y)
"""


def node_of(text: str, target: object, **tensors: torch.Tensor) -> tuple[Program, fx.Node]:
    program = parse(text, tensors)
    (node,) = program.calls(target)  # type: ignore[arg-type]
    return program, node


def attention(rest: str) -> tuple[Program, fx.Node]:
    tensors = {"scale": torch.ones(()), "bias": torch.zeros(3, 5, 5)}
    return node_of(ATTENTION.format(rest=rest), dialect.attention, **tensors)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_every_argument_is_one_of_the_schema(view: type[CallView]) -> None:
    named = {each.name for _, each in inspect.getmembers(view) if isinstance(each, Argument)}
    assert view.operators
    assert named
    assert all(named <= set(parameters(target)) for target in view.operators)


def test_a_misspelt_argument_would_be_noticed() -> None:
    assert "wieght" not in parameters(aten.linear.default)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_another_operator_is_refused(view: type[CallView]) -> None:
    graph = fx.Graph()
    value = graph.placeholder("x")
    node = graph.call_function(aten.cumsum.default, (value, 0))
    assert view.of(node) is view.of(value) is view.of(3) is None
    for each in (node, value):
        with pytest.raises(TypeError, match=f"{view.__name__} is a view of"):
            view(each)


@pytest.mark.parametrize(
    ("rest", "scale", "bias", "form"),
    [
        ("None, 0.5", False, False, None),
        ("b, 0.5, None", False, True, None),
        ("b, 0.5, s", True, True, "int8"),
        ("None, 0.5, s, 'fp8'", True, False, "fp8"),
        ("None, 0.5, probability_scale=s, probability_format='fp8'", True, False, "fp8"),
    ],
)
def test_attention(rest: str, scale: bool, bias: bool, form: str | None) -> None:
    _, node = attention(rest)
    call = AttentionCall(node)
    assert (call.probability_scale is not None) == call.is_rounded == scale
    assert (call.bias is not None) == bias
    assert call.scale == 0.5
    assert [each.name for each in call.operands] == ["q", "k", "k"]
    assert (call.probability_format and call.probability_format.name) == form


def test_probabilities_are_rounded_and_left() -> None:
    program, node = attention("None, 0.5")
    plain, call = str(program), AttentionCall(node)
    scale = program.constant_node(node, "p", torch.ones(()))
    for name, trailing in (("int8", ()), ("fp8", ("fp8",))):
        call.round_probabilities(scale, FORMATS[name])
        assert node.args[5:] == (scale, *trailing)
        assert call.probability_format is FORMATS[name]
    call.leave_probabilities()
    program.clean()
    assert str(program) == plain


def test_quantizers() -> None:
    text = """
x: f32[2, 4] = input()
s: f32[] = constant("scale")
c: i8[4] = constant("codes")
z: f32[4] = constant("z")
y: f32[2, 4] = vitgraph.fake_quantize.default(x, s{rest})
w: f32[4] = vitgraph.dequantize.default(c, s)
return_([y, w])
"""
    tensors = {"scale": torch.ones(()), "codes": torch.zeros(4, dtype=torch.int8), "z": torch.zeros(4)}
    program, node = node_of(text.format(rest=""), dialect.fake_quantize, **tensors)
    call = QuantizeCall(node)
    assert (call.data.name, call.scale.target) == ("x", "scale")
    assert (call.axis, call.format.name, call.shift) == (None, "int8", None)
    (other,) = program.calls(dialect.dequantize)
    codes = DequantizeCall(other)
    assert (codes.codes.target, codes.scale.target, codes.axis, codes.format.name) == ("codes", "scale", None, "int8")
    for each in ("int8", "fp8"):
        _, node = node_of(text.format(rest=f", None, '{each}', z"), dialect.fake_quantize, **tensors)
        call = QuantizeCall(node)
        assert call.shift is not None
        assert PairCall(node).format.name == call.format.name == each
        assert QuantizeCall.written(call.data, call.scale, call.axis, call.format, call.shift) == node.args


def test_what_is_the_default_is_not_written_out() -> None:
    graph = fx.Graph()
    x, s, z = (graph.placeholder(name) for name in "xsz")
    assert QuantizeCall.written(x, s, None, FORMATS["int8"]) == (x, s, None)
    assert QuantizeCall.written(x, s, 0, FORMATS["int4"]) == (x, s, 0, "int4")
    assert QuantizeCall.written(x, s, None, FORMATS["int8"], z) == (x, s, None, "int8", z)
    assert DequantizeCall.written(x, s, 1, FORMATS["int8"]) == (x, s, 1)


def test_layers_share_a_view() -> None:
    graph = fx.Graph()
    x, w, b = (graph.placeholder(name) for name in "xwb")
    linear = graph.call_function(aten.linear.default, (x, w))
    conv = graph.call_function(aten.conv2d.default, (x, w, b, [2, 2], [1, 1], [1, 1], 4))
    for node, bias, groups, pads in ((linear, None, 1, False), (conv, b, 4, True)):
        call = WeightedCall(node)
        assert (call.data, call.weight, call.bias, call.groups, call.pads) == (x, w, bias, groups, pads)
    assert ConvCall(conv).stride == [2, 2]
    assert LinearCall.of(conv) is None
    assert ConvCall.of(linear) is None


def test_assigning_writes_into_the_call() -> None:
    graph = fx.Graph()
    x, w, b = (graph.placeholder(name) for name in "xwb")
    linear = graph.call_function(aten.linear.default, (x, w))
    call = LinearCall(linear)
    call.weight = b
    call.bias = w
    assert linear.args == (x, b, w)
    part = graph.call_function(aten.slice.Tensor, (x, 1, 0, 4, 1))
    SliceCall(part).end = 2
    assert part.args == (x, 1, 0, 2, 1)


def test_numbers_and_nodes_on_the_right() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    half = BinaryCall(graph.call_function(aten.div.Tensor, (x, 2)))
    assert (half.left, half.right, half.divides) == (x, 2, True)
    twice = BinaryCall(graph.call_function(aten.add.Tensor, (x, x)))
    assert (twice.right, twice.divides) == (x, False)


def test_the_others() -> None:
    graph = fx.Graph()
    x, w, b, m, v = (graph.placeholder(name) for name in "xwbmv")
    norm = BatchNormCall(graph.call_function(aten.batch_norm.default, (x, w, b, m, v, False, 0.1, 1e-5, False)))
    assert norm.constants == (w, b, m, v)
    assert norm.eps == 1e-5
    mask = MaskCall(graph.call_function(dialect.mask, (w, m)))
    assert (mask.weight, mask.keep) == (w, m)
    spread = VarianceCall(graph.call_function(aten.var.correction, (x, [1]), {"correction": 0, "keepdim": True}))
    assert (spread.dims, spread.correction, spread.keeps_dims) == ([1], 0, True)
