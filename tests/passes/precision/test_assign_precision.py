"""Types in the graph: half everywhere but around quantized products, and at the program's own borders."""

import pytest
import torch

from tests.harness import body, check, random_inputs, run
from vitgraph.errors import InputError
from vitgraph.ir import dialect
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.pass_manager.numerics import measure
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes.precision.assign_precision import AssignPrecision
from vitgraph.targets.target import get_target

PLAIN = """
x: f32[N, 8] = input()
w: f32[8, 8] = weight("fc.weight")
b: f32[8] = constant("fc.bias")
y: f32[N, 8] = aten.linear.default(x, w, b)
g: f32[N, 8] = aten.gelu.default(y)
z: f32[N, 8] = aten.linear.default(g, w, None)
return_(z)
"""
HALF = """
x: f32[N, 8] = input()
c: {t}[N, 8] = aten.to.dtype(x, {t})
w: {t}[8, 8] = weight("fc.weight_{t}")
b: {t}[8] = constant("fc.bias_{t}")
y: {t}[N, 8] = aten.linear.default(c, w, b)
g: {t}[N, 8] = aten.gelu.default(y)
z: {t}[N, 8] = aten.linear.default(g, w, None)
d: f32[N, 8] = aten.to.dtype(z, f32)
return_(d)
"""
QUANTIZED = """
x: f32[N, 8] = input()
t: f32[N, 8] = aten.tanh.default(x)
xs: f32[] = constant("x_scale")
xq: f32[N, 8] = vitgraph.fake_quantize.default(t, xs, None)
w: f32[8, 8] = weight("fc.weight")
ws: f32[8] = constant("w_scale")
wq: f32[8, 8] = vitgraph.fake_quantize.default(w, ws, 0)
b: f32[8] = weight("fc.bias")
y: f32[N, 8] = aten.linear.default(xq, wq, b)
g: f32[N, 8] = aten.gelu.default(y)
return_(g)
"""
WIDE = """
x: f32[N, 8] = input()
c: f16[N, 8] = aten.to.dtype(x, f16)
t: f16[N, 8] = aten.tanh.default(c)
t32: f32[N, 8] = aten.to.dtype(t, f32)
xs: f32[] = constant("x_scale")
xq: f32[N, 8] = vitgraph.fake_quantize.default(t32, xs, None)
w: f32[8, 8] = weight("fc.weight")
ws: f32[8] = constant("w_scale")
wq: f32[8, 8] = vitgraph.fake_quantize.default(w, ws, 0)
b: f32[8] = weight("fc.bias")
y: f32[N, 8] = aten.linear.default(xq, wq, b)
y16: f16[N, 8] = aten.to.dtype(y, f16)
g: f16[N, 8] = aten.gelu.default(y16)
d: f32[N, 8] = aten.to.dtype(g, f32)
return_(d)
"""
NARROW = """
x: f32[N, 8] = input()
c: f16[N, 8] = aten.to.dtype(x, f16)
t: f16[N, 8] = aten.tanh.default(c)
xs: f16[] = constant("x_scale_f16")
xq: f16[N, 8] = vitgraph.fake_quantize.default(t, xs, None)
w: f16[8, 8] = weight("fc.weight_f16")
ws: f16[8] = constant("w_scale_f16")
wq: f16[8, 8] = vitgraph.fake_quantize.default(w, ws, 0)
b: f16[8] = weight("fc.bias_f16")
y: f16[N, 8] = aten.linear.default(xq, wq, b)
g: f16[N, 8] = aten.gelu.default(y)
d: f32[N, 8] = aten.to.dtype(g, f32)
return_(d)
"""
TENSORS = {
    "x_scale": torch.tensor(1 / 127),
    "w_scale": torch.full((8,), 0.005),
    "fc.weight": torch.linspace(-0.6, 0.6, 64).reshape(8, 8),
    "fc.bias": torch.linspace(-1, 1, 8),
}


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_types_a_plain_graph(kind: str) -> None:
    step = AssignPrecision(to=kind)  # type: ignore[arg-type]
    context = Context(get_target("a100"))
    check(step, PLAIN, HALF.format(t=kind), context)
    program = parse(PLAIN)
    result = run(step, program)
    drift = measure(program.run(*(x := random_inputs(program))), result.run(*x)).relative_l2
    assert 0 < drift < (0.02 if kind == "bf16" else 0.002)  # the types differ, and little


def test_f32_changes_nothing() -> None:
    check(AssignPrecision(to="f32"), PLAIN, PLAIN)


@pytest.mark.parametrize(
    ("target", "linears", "after"),
    [
        ("a100", "auto", WIDE),
        ("rtx-turing", "auto", NARROW),  # compiles no FP32 product
        ("rtx-turing", "f32", WIDE),
        ("a100", "half", NARROW),
        (None, "auto", WIDE),
    ],
)
def test_quantized_products_are_wide_where_the_target_multiplies_fp32(
    target: str | None, linears: str, after: str
) -> None:
    step = AssignPrecision(linears=linears)  # type: ignore[arg-type]
    program = parse(QUANTIZED, TENSORS)
    result = run(step, program, Context(get_target(target) if target else None))
    assert show(result) == show(parse(after))
    inputs = random_inputs(program)
    assert measure(program.run(*inputs), result.run(*inputs)).relative_l2 < 0.02
    again = Context()
    assert show(run(step, result, again)) == show(result)
    assert "already" in again.refusals[0].why


def test_a_mask_too_large_for_the_type_is_brought_to_its_limit() -> None:
    text = """
x: f32[2, 4] = input()
m: f32[4] = constant("m")
y: f32[2, 4] = aten.add.Tensor(x, m)
return_(y)
"""
    program = parse(text, {"m": torch.tensor([0.0, -1e9, 1e9, -torch.inf])})
    result = run(AssignPrecision(), program)
    assert torch.equal(result.tensor("m_f16"), torch.tensor([0.0, -65504.0, 65504.0, -torch.inf]).half())


def test_a_cast_to_fp32_in_the_model_becomes_one_to_half() -> None:
    text = """
x: f32[2, 4] = input()
k: bool[2, 4] = input()
f: f32[2, 4] = aten.to.dtype(k, f32)
y: f32[2, 4] = aten.mul.Tensor(x, f)
return_(y)
"""
    result = run(AssignPrecision(), parse(text))
    (product,) = result.calls(aten.mul.Tensor)
    assert product.meta["type"].dtype == torch.float16


def test_what_trains_still_trains_and_whole_numbers_stay() -> None:
    text = """
i: i64[2, 4] = input()
w: f32[8, 4] = weight("w")
y: f32[2, 4, 4] = aten.embedding.default(w, i)
s: i64[2, 4] = aten.add.Tensor(i, 1)
return_([y, s])
"""
    result = run(AssignPrecision(), parse(text))
    assert isinstance(result.tensor("w_f16"), torch.nn.Parameter)
    assert [str(node.meta["type"]) for node in result.output.args[0]] == ["f32[2, 4, 4]", "i64[2, 4]"]  # type: ignore[union-attr]


def test_an_attention_with_quantizers_around_it_reads_half() -> None:
    text = """
x: f32[2, 5, 16] = input()
s: f32[] = constant("s")
q: f32[2, 5, 16] = vitgraph.fake_quantize.default(x, s, None)
p: f32[] = constant("p")
y: f32[2, 5, 16] = vitgraph.attention.default(q, q, q, None, 0.25, p)
return_(y)
"""
    tensors = {"s": torch.tensor(0.02), "p": torch.tensor(1 / 127)}
    result = run(AssignPrecision(), parse(text, tensors))
    (site,) = result.calls(dialect.attention)
    assert site.meta["type"].dtype == torch.float16


def test_a_type_that_the_target_lacks() -> None:
    with pytest.raises(InputError, match="rtx-turing has no bf16 arithmetic; write to=auto, which is f16 there"):
        run(AssignPrecision(to="bf16"), parse(PLAIN), Context(get_target("rtx-turing")))
    with pytest.raises(InputError, match="cpu has no f16 arithmetic; write to=auto, which is f32 there"):
        run(AssignPrecision(to="f16"), parse(PLAIN), Context(get_target("cpu")))


@pytest.mark.parametrize(("target", "half"), [("cpu", False), ("rtx-turing", True), (None, True)])
def test_auto_is_fp16_where_the_target_has_it(target: str | None, half: bool) -> None:
    result = run(AssignPrecision(), parse(PLAIN), Context(None if target is None else get_target(target)))
    assert ("f16" in show(result)) is half


def test_stops_when_the_fuel_is_used_up() -> None:
    program = parse(PLAIN)
    assert show(run(AssignPrecision(), program, Context(fuel=1))) == show(program)


def test_a_quantized_product_that_is_the_output_stays_f32() -> None:
    text = QUANTIZED.replace("return_(g)", "return_(y)").replace("g: f32[N, 8] = aten.gelu.default(y)\n", "")
    after = WIDE.split("y16:")[0] + "return_(y)\n"
    result = run(AssignPrecision(), parse(text, TENSORS), Context(get_target("a100")))
    assert body(show(result)) == body(show(parse(after)))
