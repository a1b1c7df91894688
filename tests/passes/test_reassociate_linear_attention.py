"""(Q Kᵀ) V against Q (Kᵀ V): which one costs less, which may be turned, and that the numbers stay."""

from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import check, hold_to_effect, ledger_findings, run
from vitgraph.cost import counts
from vitgraph.errors import InputError
from vitgraph.ir.parser import parse
from vitgraph.pass_manager.pass_contract import Context, Effect
from vitgraph.passes import pipeline
from vitgraph.passes.reassociate_linear_attention import ReassociateLinearAttention

INPUTS = """
q: f32[{b}, 2, {n}, {d}] = input()
kt: f32[{b}, 2, {d}, {m}] = input()
v: f32[{b}, 2, {m}, {e}] = input()
"""
LEFT = (
    INPUTS
    + """
s: f32[{b}, 2, {n}, {m}] = aten.matmul.default(q, kt)  # attn
y: f32[{b}, 2, {n}, {e}] = aten.matmul.default(s, v)  # attn
return_(y)
"""
)
RIGHT = (
    INPUTS
    + """
s: f32[{b}, 2, {d}, {e}] = aten.matmul.default(kt, v)  # attn
y: f32[{b}, 2, {n}, {e}] = aten.matmul.default(q, s)  # attn
return_(y)
"""
)
MANY_TOKENS: dict[str, Any] = {"b": "N", "n": 30, "m": 20, "d": 4, "e": 5}
FEW_TOKENS: dict[str, Any] = {"b": "N", "n": 3, "m": 4, "d": 16, "e": 17}


def test_many_tokens_start_at_the_keys() -> None:
    refused = check(ReassociateLinearAttention(), LEFT.format(**MANY_TOKENS), RIGHT.format(**MANY_TOKENS))
    assert refused == []


def test_few_tokens_start_at_the_queries() -> None:
    check(ReassociateLinearAttention(), RIGHT.format(**FEW_TOKENS), LEFT.format(**FEW_TOKENS))


@pytest.mark.parametrize(("text", "sizes"), [(RIGHT, MANY_TOKENS), (LEFT, FEW_TOKENS)])
def test_the_cheaper_order_stays(text: str, sizes: dict[str, Any]) -> None:
    check(ReassociateLinearAttention(), text.format(**sizes), text.format(**sizes))


@pytest.mark.parametrize("text", [LEFT, RIGHT])
def test_equal_costs_are_no_reason(text: str) -> None:
    same = text.format(b=2, n=4, m=4, d=4, e=4)
    check(ReassociateLinearAttention(), same, same)


def test_an_order_may_be_asked_for() -> None:
    check(ReassociateLinearAttention(order="left"), RIGHT.format(**MANY_TOKENS), LEFT.format(**MANY_TOKENS))
    check(ReassociateLinearAttention(order="right"), LEFT.format(**FEW_TOKENS), RIGHT.format(**FEW_TOKENS))
    with pytest.raises(InputError, match="order"):
        pipeline("reassociate-linear-attention{order=tokens}")


def test_records_what_each_order_costs() -> None:
    context = Context()
    run(ReassociateLinearAttention(), parse(LEFT.format(**MANY_TOKENS)), context)
    assert ledger_findings(context) == [{"attention": "attn", "order": "right", "macs_left": 5400, "macs_right": 1000}]


def test_scales_between_the_products_go_along() -> None:
    scaled = "t: {kind} = aten.mul.Tensor(s, 0.5)\nu: {kind} = aten.div.Tensor(t, c)\n"
    constant = 'c: f32[] = weight("c")\n'

    def with_scales(text: str, kind: str, old: str, new: str) -> str:
        text = text.format(**MANY_TOKENS).replace("s: ", constant + "s: ", 1).replace(old, new)
        return text.replace("y: ", scaled.format(kind=kind) + "y: ")

    before = with_scales(LEFT, "f32[N, 2, 30, 20]", "(s, v)", "(u, v)")
    after = with_scales(RIGHT, "f32[N, 2, 4, 5]", "(q, s)", "(q, u)")
    check(ReassociateLinearAttention(), before, after)


NORMALIZED = """
q: f32[2, 8, {n}, 16] = input()
kt: f32[2, 8, 16, {n}] = input()
v: f32[2, 8, {n}, 16] = input()
a: f32[2, 8, {n}, 16] = aten.relu.default(q)
b: f32[2, 8, 16, {n}] = aten.relu.default(kt)
ones: f32[2, 8, {n}, 17] = aten.pad.default(v, [0, 1], 'constant', 1.0)
{first}
y: f32[2, 8, {n}, 17] = aten.matmul.default({second})  # main
top: f32[2, 8, {n}, 16] = aten.slice.Tensor(y, 3, 0, 16, 1)
bottom: f32[2, 8, {n}, 1] = aten.slice.Tensor(y, 3, 16, 17, 1)
more: f32[2, 8, {n}, 1] = aten.add.Tensor(bottom, 1e-05)
z: f32[2, 8, {n}, 16] = aten.div.Tensor(top, more)
return_(z)
"""


def test_a_normalizer_that_is_a_column_of_v_is_carried() -> None:
    linear = {"first": "kv: f32[2, 8, 16, 17] = aten.matmul.default(b, ones)  # main", "second": "a, kv"}
    before = NORMALIZED.format(n=9, **linear)
    after = NORMALIZED.format(n=9, first="s: f32[2, 8, 9, 9] = aten.matmul.default(a, b)  # main", second="s, ones")
    check(ReassociateLinearAttention(), before, after)
    check(ReassociateLinearAttention(), NORMALIZED.format(n=64, **linear), NORMALIZED.format(n=64, **linear))


BETWEEN = "more than a scale stands between its two products"


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("aten.relu.default(s)", "an activation stands between its two products"),
        ("aten.add.Tensor(s, 1.0)", BETWEEN),
        ("aten.mul.Tensor(s, row)", BETWEEN),
        ("vitgraph.fake_quantize.default(s, step, None)", BETWEEN),
    ],
)
def test_says_what_stands_between(call: str, why: str) -> None:
    text = LEFT.format(**MANY_TOKENS).replace("(s, v)", "(r, v)")
    text = text.replace("s: ", 'row: f32[N, 2, 30, 1] = input()\nstep: f32[] = constant("step")\ns: ', 1)
    text = text.replace("\ny: ", f"\nr: f32[N, 2, 30, 20] = {call}\ny: ")
    tensors = {"step": torch.tensor(0.1)}
    context = Context()
    program = parse(text, tensors)
    assert str(run(ReassociateLinearAttention(), program, context)) == str(program)
    assert [(refusal.site, refusal.why) for refusal in context.refusals] == [("attn", why)]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("return_(y)", "return_([y, s])", "its first product is used elsewhere too"),
        ("kt: f32[N,", "kt: f32[1,", "its three factors are not of one batch and as many heads"),
    ],
)
def test_says_why_an_order_is_not_free(old: str, new: str, why: str) -> None:
    text = LEFT.format(**MANY_TOKENS).replace(old, new)
    refusals = check(ReassociateLinearAttention(), text, text)
    assert [(refusal.site, refusal.why) for refusal in refusals] == [("attn", why)]


def test_leaves_tokens_that_depend_on_the_batch() -> None:
    text = LEFT.format(b=1, n="N", m="N", d=4, e=5)
    (refusal,) = check(ReassociateLinearAttention(), text, text)
    assert refusal.why == "its tokens depend on the batch size, and so does what it costs"


def test_leaves_a_product_of_two_products() -> None:
    text = LEFT.format(b=1, n=30, m=20, d=4, e=5).replace(
        "y: f32[1, 2, 30, 5] = aten.matmul.default(s, v)",
        "w: f32[1, 2, 5, 6] = input()\nt: f32[1, 2, 20, 6] = aten.matmul.default(v, w)\n"
        "y: f32[1, 2, 30, 6] = aten.matmul.default(s, t)",
    )
    (refusal,) = check(ReassociateLinearAttention(), text, text)
    assert refusal.why == "both its factors are products"


def test_leaves_vectors() -> None:
    text = """
q: f32[4, 4] = input()
kt: f32[4, 30] = input()
v: f32[30] = input()
s: f32[4, 30] = aten.matmul.default(q, kt)
y: f32[4] = aten.matmul.default(s, v)  # attn
return_(y)
"""
    (refusal,) = check(ReassociateLinearAttention(), text, text)
    assert refusal.why == "one of its factors is a vector"


def test_a_softmax_is_none_of_its_business() -> None:
    text = (
        LEFT.format(**MANY_TOKENS)
        .replace("\ny: ", "\np: f32[N, 2, 30, 20] = aten.softmax.int(s, 3)\ny: ")
        .replace("(s, v)", "(p, v)")
    )
    assert check(ReassociateLinearAttention(), text, text) == []


def test_fuel_stops_it() -> None:
    program = parse(LEFT.format(**MANY_TOKENS))
    assert str(run(ReassociateLinearAttention(), program, Context(fuel=0))) == str(program)


SIZE = st.integers(1, 40)


@settings(deadline=None, max_examples=40)
@given(n=SIZE, d=SIZE, m=SIZE, e=SIZE, text=st.sampled_from([LEFT, RIGHT]))
def test_never_costs_more_and_computes_the_same(n: int, d: int, m: int, e: int, text: str) -> None:
    program = parse(text.format(b=1, n=n, d=d, m=m, e=e))
    result = run(ReassociateLinearAttention(), program)
    hold_to_effect(ReassociateLinearAttention(), program, result)
    both = [counts.count(parse(each.format(b=1, n=n, d=d, m=m, e=e))).macs for each in (LEFT, RIGHT)]
    assert counts.count(result).macs == min(both)


def test_a_wrong_chain_would_be_noticed() -> None:
    """The control: with two factors swapped, a square chain still has valid types, and other numbers."""
    text = LEFT.format(b=1, n=4, m=4, d=4, e=4)
    wrong = parse(RIGHT.format(b=1, n=4, m=4, d=4, e=4).replace("(q, s)", "(s, q)"))
    with pytest.raises(AssertionError, match="relative"):
        hold_to_effect(ReassociateLinearAttention(), parse(text), wrong)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["cheaper", "left", "right"])
def test_efficientvit_b0_keeps_its_outputs(order: Literal["cheaper", "left", "right"]) -> None:
    from vitgraph.frontend.capture import capture
    from vitgraph.frontend.models import load_model

    model = load_model("efficientvit_b0", weights="random")
    images = torch.randn(2, *model.input_shape)
    before = pipeline("canonicalize,fold-constants,fold-batch-norm").run(capture(model.module, images))
    context = Context()
    after = run(ReassociateLinearAttention(order=order), before, context)
    hold_to_effect(ReassociateLinearAttention(), before, after)
    assert len(ledger_findings(context)) == 4
    assert context.refusals == []
    assert ReassociateLinearAttention().declares() is Effect.REORDERS
    assert (str(after) != str(before)) is (order == "left")  # 196 and 49 tokens against 16 channels
