"""SDPA calls and hand-written softmax(q kᵀ) v become one node; what only looks like it stays, with a reason."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import check, random_inputs, run
from vitgraph.ir import dialect
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes.fuse_attention import FuseAttention

QKV = """
q: f32[N, 2, 5, 4] = input()
k: f32[N, 2, 5, 4] = input()
v: f32[N, 2, 5, 4] = input()
"""
BY_HAND = f"""{QKV}
kt: f32[N, 2, 4, 5] = aten.permute.default(k, [0, 1, 3, 2])
s: f32[N, 2, 5, 5] = aten.matmul.default(q, kt)
m: f32[N, 2, 5, 5] = aten.mul.Tensor(s, 0.25)
p: f32[N, 2, 5, 5] = aten.softmax.int(m, 3)
y: f32[N, 2, 5, 4] = aten.matmul.default(p, v)
return_(y)
"""
PLAIN = f"""{QKV}
y: f32[N, 2, 5, 4] = vitgraph.attention.default(q, k, v, None, 0.25)
return_(y)
"""


def sdpa(arguments: str, mask: str = "") -> str:
    return f"""{QKV}{mask}
y: f32[N, 2, 5, 4] = aten.scaled_dot_product_attention.default(q, k, v{arguments})
return_(y)
"""


@pytest.mark.parametrize(("arguments", "scale"), [("", 0.5), (", scale=0.25", 0.25), (", scale=1", 1.0)])
def test_takes_the_scale_of_a_call(arguments: str, scale: float) -> None:
    assert check(FuseAttention(), sdpa(arguments), PLAIN.replace("0.25", str(scale))) == []


def test_takes_a_float_mask_as_it_is() -> None:
    mask = 'b: f32[2, 5, 5] = weight("b")'
    after = PLAIN.replace("None, 0.25", "b, 0.5").replace("y:", f"{mask}\ny:")
    assert check(FuseAttention(), sdpa(", b", mask), after) == []


def test_turns_a_bool_mask_into_numbers() -> None:
    mask = 'b: bool[2, 1, 5] = constant("b")'
    after = f"""{QKV}{mask}
to: f32[2, 1, 5] = aten.to.dtype(b, f32)
mul: f32[2, 1, 5] = aten.mul.Tensor(to, 0.0)
logical_not: bool[2, 1, 5] = aten.logical_not.default(b)
masked_fill: f32[2, 1, 5] = aten.masked_fill.Scalar(mul, logical_not, -inf)
attention: f32[N, 2, 5, 4] = vitgraph.attention.default(q, k, v, masked_fill, 0.5)
return_(attention)
"""
    assert check(FuseAttention(), sdpa(", b", mask), after) == []


def test_turns_causality_into_a_mask() -> None:
    after = f"""{QKV}
model_causal_mask: f32[5, 5] = constant("model.causal_mask")
attention: f32[N, 2, 5, 4] = vitgraph.attention.default(q, k, v, model_causal_mask, 0.5)
return_(attention)
"""
    program = run(FuseAttention(), parse(sdpa(", None, 0.0, True")))
    assert program.tensor("model.causal_mask").isinf().sum() == 10
    q, k, v = random_inputs(program)
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(program.run(q, k, v), wanted)
    assert [node.target for node in program.calls()] == [dialect.attention]
    assert len(parse(after).calls()) == 1


def test_refuses_grouped_queries() -> None:
    text = """
q: f32[N, 4, 5, 4] = input()
k: f32[N, 2, 5, 4] = input()
v: f32[N, 2, 5, 4] = input()
y: f32[N, 4, 5, 4] = aten.scaled_dot_product_attention.default(q, k, v, enable_gqa=True)
return_(y)
"""
    (refusal,) = check(FuseAttention(), text, text)
    assert "grouped-query" in refusal.why


@pytest.mark.parametrize(("q", "k"), [("N", "N"), ("N", "5"), ("5", "N")])
def test_refuses_a_causal_mask_as_large_as_the_batch(q: str, k: str) -> None:
    text = f"""
q: f32[{q}, 8] = input()
k: f32[{k}, 8] = input()
v: f32[{k}, 8] = input()
y: f32[{q}, 8] = aten.scaled_dot_product_attention.default(q, k, v, None, 0.0, True)
return_(y)
"""
    (refusal,) = check(FuseAttention(), text, text)
    assert "causal mask is as large as the batch" in refusal.why


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("aten.mul.Tensor(s, 0.25)", "aten.div.Tensor(s, 4.0)"),
        ("aten.softmax.int(m, 3)", "aten.softmax.int(m, -1)"),
    ],
)
def test_fuses_what_is_written_by_hand(old: str, new: str) -> None:
    assert check(FuseAttention(), BY_HAND.replace(old, new) if old else BY_HAND, PLAIN) == []


@pytest.mark.parametrize("operator", ["mul.Tensor({}, 0.25)", "div.Tensor({}, 4.0)"])
@pytest.mark.parametrize("operand", ["q", "k"])
def test_takes_a_factor_of_q_or_k_into_the_scale(operator: str, operand: str) -> None:
    text = BY_HAND.replace("m: f32[N, 2, 5, 5] = aten.mul.Tensor(s, 0.25)\n", "").replace("int(m,", "int(s,")
    scaled = f"{operand}s: f32[N, 2, 5, 4] = aten.{operator.format(operand)}\nkt:"
    text = text.replace("kt:", scaled).replace("permute.default(k," if operand == "k" else "matmul.default(q,", "{}")
    text = text.format("permute.default(ks," if operand == "k" else "matmul.default(qs,")
    assert check(FuseAttention(), text, PLAIN) == []


def test_a_scaled_q_that_is_read_elsewhere_stays() -> None:
    text = f"""{QKV}
qs: f32[N, 2, 5, 4] = aten.mul.Tensor(q, 0.25)
y: f32[N, 2, 5, 4] = aten.scaled_dot_product_attention.default(qs, k, v)
return_([y, qs])
"""
    after = text.replace(
        "aten.scaled_dot_product_attention.default(qs, k, v)", "vitgraph.attention.default(qs, k, v, None, 0.5)"
    )
    assert check(FuseAttention(), text, after) == []


def test_takes_several_biases_each_with_the_factor_after_it() -> None:
    text = f"""{QKV}
a: f32[2, 5, 5] = weight("a")
b: f32[N, 1, 1, 5] = input()
kt: f32[N, 2, 4, 5] = aten.permute.default(k, [0, 1, 3, 2])
s: f32[N, 2, 5, 5] = aten.matmul.default(q, kt)
s1: f32[N, 2, 5, 5] = aten.add.Tensor(s, a)
s2: f32[N, 2, 5, 5] = aten.mul.Tensor(s1, 0.25)
s3: f32[N, 2, 5, 5] = aten.add.Tensor(b, s2)
p: f32[N, 2, 5, 5] = aten.softmax.int(s3, 3)
y: f32[N, 2, 5, 4] = aten.matmul.default(p, v)
return_(y)
"""
    after = f"""{QKV}
b: f32[N, 1, 1, 5] = input()
a: f32[2, 5, 5] = weight("a")
mul: f32[2, 5, 5] = aten.mul.Tensor(a, 0.25)
add: f32[N, 2, 5, 5] = aten.add.Tensor(mul, b)
y: f32[N, 2, 5, 4] = vitgraph.attention.default(q, k, v, add, 0.25)
return_(y)
"""
    assert check(FuseAttention(), text, after) == []


WINDOWS = """
q: f32[{w}, 2, 5, 4] = input()
k: f32[{w}, 2, 5, 4] = input()
v: f32[{w}, 2, 5, 4] = input()
kt: f32[{w}, 2, 4, 5] = aten.permute.default(k, [0, 1, 3, 2])
s: f32[{w}, 2, 5, 5] = aten.matmul.default(q, kt)
b: f32[2, 5, 5] = weight("b")
s1: f32[{w}, 2, 5, 5] = aten.add.Tensor(s, b)
s2: f32[{n}, 3, 2, 5, 5] = aten.reshape.default(s1, [-1, 3, 2, 5, 5])
mask: f32[1, 3, 1, 5, 5] = constant("mask")
s3: f32[{n}, 3, 2, 5, 5] = aten.add.Tensor(s2, mask)
s4: f32[{w}, 2, 5, 5] = aten.reshape.default(s3, [-1, 2, 5, 5])
p: f32[{w}, 2, 5, 5] = aten.softmax.int(s4, 3)
y: f32[{w}, 2, 5, 4] = aten.matmul.default(p, v)
return_(y)
"""
WINDOWS_FUSED = """
q: f32[{w}, 2, 5, 4] = input()
k: f32[{w}, 2, 5, 4] = input()
v: f32[{w}, 2, 5, 4] = input()
{size}mask: f32[1, 3, 1, 5, 5] = constant("mask")
expand: f32[{n}, 3, 2, 5, 5] = aten.expand.default(mask, [{times}, 3, 2, 5, 5])
reshape: f32[{w}, 2, 5, 5] = aten.reshape.default(expand, [{rows}, 2, 5, 5])
b: f32[2, 5, 5] = weight("b")
add: f32[{w}, 2, 5, 5] = aten.add.Tensor(b, reshape)
y: f32[{w}, 2, 5, 4] = vitgraph.attention.default(q, k, v, add, 1.0)
return_(y)
"""


def test_brings_the_mask_of_shifted_windows_to_the_scores_shape() -> None:
    after = WINDOWS_FUSED.format(w=6, n=2, times=2, rows=6, size="")
    assert check(FuseAttention(), WINDOWS.format(w=6, n=2), after) == []


def test_the_same_with_a_batch_that_is_not_known() -> None:
    image = "x: f32[N, 4] = input()\n"
    text = image + WINDOWS.format(w="3*N", n="N")
    size = "size: int[N] = aten.sym_size.int(x, 0)\n"
    after = image + WINDOWS_FUSED.format(w="3*N", n="N", times="size", rows=-1, size=size)
    assert check(FuseAttention(), text, after) == []


COSINE = f"""{QKV}
g: f32[2, 1, 1] = weight("g")
b: f32[2, 5, 5] = weight("b")
kt: f32[N, 2, 4, 5] = aten.permute.default(k, [0, 1, 3, 2])
s: f32[N, 2, 5, 5] = aten.matmul.default(q, kt)
s1: f32[N, 2, 5, 5] = aten.mul.Tensor(s, g)
s2: f32[N, 2, 5, 5] = aten.add.Tensor(s1, b)
p: f32[N, 2, 5, 5] = aten.softmax.int(s2, 3)
y: f32[N, 2, 5, 4] = aten.matmul.default(p, v)
return_(y)
"""


def test_moves_a_factor_per_head_into_q() -> None:
    after = f"""{QKV}
g: f32[2, 1, 1] = weight("g")
mul: f32[N, 2, 5, 4] = aten.mul.Tensor(q, g)
b: f32[2, 5, 5] = weight("b")
y: f32[N, 2, 5, 4] = vitgraph.attention.default(mul, k, v, b, 1.0)
return_(y)
"""
    assert check(FuseAttention(), COSINE, after) == []


def test_refuses_a_factor_per_head_on_the_bias_too() -> None:
    text = COSINE.replace("mul.Tensor(s, g)", "add.Tensor(s, b)").replace("add.Tensor(s1, b)", "mul.Tensor(s1, g)")
    (refusal,) = check(FuseAttention(), text, text)
    assert "bias too" in refusal.why


def test_looks_through_casts_around_the_softmax() -> None:
    text = BY_HAND.replace("int(m, 3)", "int(c, 3)").replace(
        "p: f32", "c: f32[N, 2, 5, 5] = aten.to.dtype(m, f32)\np: f32"
    )
    text = text.replace("default(p, v)", "default(d, v)").replace(
        "y: f32", "d: f32[N, 2, 5, 5] = aten.to.dtype(p, f32)\ny: f32"
    )
    assert check(FuseAttention(), text, PLAIN) == []


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("return_(y)", "return_([y, p])", "read more than once"),
        ("aten.softmax.int(m, 3)", "aten.softmax.int(m, 2)", "last dimension"),
        ("default(p, v)", "default(r, v)", "goes into aten.relu"),
        ("aten.mul.Tensor(s, 0.25)", "aten.mul.Tensor(s, s)", "other than a number"),
        ("aten.mul.Tensor(s, 0.25)", "aten.relu.default(s)", "aten.relu.default stands between"),
        ("aten.softmax.int(m, 3)", "aten.softmax.int(z, 3)", "no product of two values"),
        ("aten.mul.Tensor(s, 0.25)", "aten.mul.Tensor(s, h)", "other than a number"),
    ],
)
def test_refuses_and_says_why(old: str, new: str, why: str) -> None:
    extra = """
z: f32[N, 2, 5, 5] = input()
h: f32[5, 1] = weight("h")
kt:"""
    passed = "r: f32[N, 2, 5, 5] = aten.relu.default(p)\ny: f32" if "(r," in new else "y: f32"
    text = BY_HAND.replace(old, new).replace("\nkt:", extra).replace("y: f32", passed)
    program, context = parse(text), Context()
    result = run(FuseAttention(), program, context)
    assert result.calls(dialect.attention) == []
    assert len(result.calls(aten.softmax.int)) == 1
    (refusal,) = context.refusals
    assert why in refusal.why


POSITIONS = """
q: f32[N, 2, 6, 4] = input()
kt: f32[N, 2, 4, 15] = input()
v: f32[N, 2, 15, 4] = input()
h: f32[N, 2, 2, 3, 3, 1] = input()
w: f32[2, 3, 1, 5] = weight("w")
"""


def test_takes_positions_that_are_added_by_height_and_width() -> None:
    text = f"""{POSITIONS}
s: f32[N, 2, 6, 15] = aten.matmul.default(q, kt)
r: f32[N, 2, 2, 3, 3, 5] = aten.reshape.default(s, [-1, 2, 2, 3, 3, 5])
a: f32[N, 2, 2, 3, 3, 5] = aten.add.Tensor(r, h)
b: f32[N, 2, 2, 3, 3, 5] = aten.add.Tensor(a, w)
t: f32[N, 2, 6, 15] = aten.reshape.default(b, [-1, 2, 6, 15])
p: f32[N, 2, 6, 15] = aten.softmax.int(t, 3)
y: f32[N, 2, 6, 4] = aten.matmul.default(p, v)
return_(y)
"""
    after = f"""{POSITIONS}
add: f32[N, 2, 2, 3, 3, 5] = aten.add.Tensor(h, w)
reshape: f32[N, 2, 6, 15] = aten.reshape.default(add, [-1, 2, 6, 15])
permute: f32[N, 2, 15, 4] = aten.permute.default(kt, [0, 1, 3, 2])
attention: f32[N, 2, 6, 4] = vitgraph.attention.default(q, permute, v, reshape, 1.0)
return_(attention)
"""
    assert check(FuseAttention(), text, after) == []


SWAPPED = BY_HAND.replace(
    "y: f32[N, 2, 5, 4] = aten.matmul.default(p, v)",
    """vt: f32[N, 2, 4, 5] = aten.permute.default(v, [0, 1, 3, 2])
pt: f32[N, 2, 5, 5] = aten.permute.default(p, [0, 1, 3, 2])
y: f32[N, 2, 4, 5] = aten.matmul.default(vt, pt)""",
)


def test_takes_a_product_with_rows_and_columns_swapped() -> None:
    after = f"""{QKV}
attention: f32[N, 2, 5, 4] = vitgraph.attention.default(q, k, v, None, 0.25)
permute: f32[N, 2, 4, 5] = aten.permute.default(attention, [0, 1, 3, 2])
return_(permute)
"""
    assert check(FuseAttention(), SWAPPED, after) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [("default(vt, pt)", "default(pt, vt)"), ("default(p, [0, 1, 3, 2])", "default(p, [0, 2, 1, 3])")],
)
def test_refuses_other_swapped_products(old: str, new: str) -> None:
    text = SWAPPED.replace(old, new).replace("4]", "5]").replace("4, 5]", "5, 5]").replace("N, 2, 5", "N, 5, 5")
    text = text.replace("[N, 2,", "[N, 5,")
    (refusal,) = check(FuseAttention(), text, text)
    assert "product with v" in refusal.why


def test_refuses_scores_under_another_shape() -> None:
    text = """
q: f32[6, 2, 5, 4] = input()
kt: f32[6, 2, 4, 5] = input()
v: f32[2, 3, 2, 5, 4] = input()
s: f32[6, 2, 5, 5] = aten.matmul.default(q, kt)
r: f32[2, 3, 2, 5, 5] = aten.reshape.default(s, [2, 3, 2, 5, 5])
p: f32[2, 3, 2, 5, 5] = aten.softmax.int(r, 4)
y: f32[2, 3, 2, 5, 4] = aten.matmul.default(p, v)
return_(y)
"""
    (refusal,) = check(FuseAttention(), text, text)
    assert "another shape" in refusal.why


def test_refuses_a_factor_under_another_shape() -> None:
    text = """
q: f32[6, 2, 5, 4] = input()
kt: f32[6, 2, 4, 5] = input()
v: f32[6, 2, 5, 4] = input()
s: f32[6, 2, 5, 5] = aten.matmul.default(q, kt)
r: f32[2, 3, 2, 5, 5] = aten.reshape.default(s, [2, 3, 2, 5, 5])
g: f32[3, 1, 1, 1] = weight("g")
m: f32[2, 3, 2, 5, 5] = aten.mul.Tensor(r, g)
r2: f32[6, 2, 5, 5] = aten.reshape.default(m, [6, 2, 5, 5])
p: f32[6, 2, 5, 5] = aten.softmax.int(r2, 3)
y: f32[6, 2, 5, 4] = aten.matmul.default(p, v)
return_(y)
"""
    (refusal,) = check(FuseAttention(), text, text)
    assert "factor per head" in refusal.why


def test_stops_when_the_fuel_is_used_up() -> None:
    for text in (BY_HAND, sdpa("")):
        program = parse(text)
        assert str(run(FuseAttention(), program, Context(fuel=1))) == str(program)  # the one unit is the pipeline's


@st.composite
def hand_written(draw: st.DrawFn) -> str:
    """An attention with scale, biases, casts and k in any of the places where models put them."""
    lines = [QKV.strip()]
    for operand in "qk":
        how = draw(st.sampled_from(["mul.Tensor({}, 0.7)", "div.Tensor({}, 1.5)", None]))
        lines.append(
            f"{operand}s: f32[N, 2, 5, 4] = aten.{how.format(operand) if how else f'to.dtype({operand}, f32)'}"
        )
    lines.append("kt: f32[N, 2, 4, 5] = aten.permute.default(ks, [0, 1, 3, 2])")
    lines.append("s0: f32[N, 2, 5, 5] = aten.matmul.default(qs, kt)")
    shapes = ["2, 5, 5", "5, 5", "1, 1, 1, 5", "2, 1, 5", "2, 5, 1"]
    steps = draw(st.lists(st.sampled_from(["mul", "div", "to", "add", "swapped add", "head"]), max_size=5))
    for number, step in enumerate(steps):
        old, new = f"s{number}", f"s{number + 1}: f32[N, 2, 5, 5] = aten."
        if "add" in step:
            lines.append(f'b{number}: f32[{draw(st.sampled_from(shapes))}] = weight("b{number}")')
            arguments = f"b{number}, {old}" if step == "swapped add" else f"{old}, b{number}"
            lines.append(f"{new}add.Tensor({arguments})")
        elif step == "head":
            lines.append(f'g{number}: f32[2, 1, 1] = weight("g{number}")')
            lines.append(f"{new}mul.Tensor({old}, g{number})")
        else:
            call = {"mul": "mul.Tensor({}, 0.5)", "div": "div.Tensor({}, 0.8)", "to": "to.dtype({}, f32)"}[step]
            lines.append(new + call.format(old))
    lines.append(f"p: f32[N, 2, 5, 5] = aten.softmax.int(s{len(steps)}, 3)")
    lines += ["y: f32[N, 2, 5, 4] = aten.matmul.default(p, v)", "return_(y)"]
    return "\n".join(lines)


@settings(max_examples=40, deadline=None)
@given(hand_written())
def test_every_variant_fuses_or_is_refused_and_computes_the_same(text: str) -> None:
    program, context = parse(text), Context()
    result = run(FuseAttention(), program, context)
    inputs = random_inputs(program)
    torch.testing.assert_close(result.run(*inputs), program.run(*inputs), rtol=1e-4, atol=1e-5)
    adds = [position for position, line in enumerate(text.splitlines()) if "aten.add" in line]
    heads = [position for position, line in enumerate(text.splitlines()) if 'weight("g' in line]
    refused = bool(adds and heads and max(heads) > min(adds))
    assert len(result.calls(dialect.attention)) == (0 if refused else 1)
    assert len(context.refusals) == int(refused)


def joined_by(*lines: str) -> list[str]:
    """What is said of two products with these lines between `s`, the scores, and `p`."""
    text = "\n".join(
        (BY_HAND.split("m:")[0].strip(), *lines, "y: f32[N, 2, 5, 4] = aten.matmul.default(p, v)", "return_(y)")
    )
    context = Context()
    run(FuseAttention(), parse(text), context)
    return [refusal.why for refusal in context.refusals]


def test_says_what_joins_the_products_of_an_attention_without_a_softmax() -> None:
    assert joined_by("p: f32[N, 2, 5, 5] = aten.hardswish.default(s)") == [
        "its products are joined by hardswish, not by a softmax"
    ]
    assert joined_by(
        "e: f32[N, 2, 5, 5] = aten.exp.default(s)",
        "t: f32[N, 2, 5, 1] = aten.sum.dim_IntList(e, [3], True)",
        "u: f32[N, 2, 5, 1] = aten.add.Tensor(t, 1e-06)",
        "p: f32[N, 2, 5, 5] = aten.div.Tensor(e, u)",
    ) == ["its products are joined by exp, not by a softmax"]


def test_says_what_it_does_not_know_between_two_products() -> None:
    line = "p: f32[N, 2, 5, 5] = aten.layer_norm.default(s, [5], None, None, 1e-05)"
    assert joined_by(line) == ["its products are joined by layer_norm: no attention that is known"]


def test_says_nothing_of_a_linear_attention() -> None:
    assert joined_by("p: f32[N, 2, 5, 5] = aten.mul.Tensor(s, 0.2)") == []


def test_says_that_heads_are_mixed() -> None:
    mixed = joined_by(
        'w: f32[2, 2] = weight("w")',
        "a: f32[N, 5, 5, 2] = aten.permute.default(s, [0, 2, 3, 1])",
        "b: f32[N, 5, 5, 2] = aten.linear.default(a, w, None)",
        "c: f32[N, 2, 5, 5] = aten.permute.default(b, [0, 3, 1, 2])",
        "p: f32[N, 2, 5, 5] = aten.softmax.int(c, 3)",
    )
    assert len(mixed) == 1
    assert "talking heads" in mixed[0]
