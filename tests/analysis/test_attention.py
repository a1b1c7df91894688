"""Softmaxes and attentions are found by what a graph computes, and by nothing that only looks alike."""

from typing import Any

import pytest

from vitgraph.analysis.attention import find_attentions, find_softmaxes
from vitgraph.ir.parser import parse

QKV = """
q: f32[2, 5, 4] = input()
k: f32[2, 5, 4] = input()
v: f32[2, 5, 4] = input()
kt: f32[2, 4, 5] = aten.permute.default(k, [0, 2, 1])
"""
SCORES = f"""{QKV}
s: f32[2, 5, 5] = aten.matmul.default(q, kt)
"""


def softmaxes(text: str) -> list[Any]:
    return [(spelling, node.meta["path"]) for spelling, node in find_softmaxes(parse(text))]


def attentions(text: str) -> list[Any]:
    return [(kind, node.meta["path"]) for kind, node in find_attentions(parse(text))]


@pytest.mark.parametrize(
    ("call", "spelling"),
    [
        ("vitgraph.attention.default(q, k, v, None, 0.5)", "attention"),
        ("aten.scaled_dot_product_attention.default(q, k, v)", "sdpa"),
        ("aten.softmax.int(q, 2)", "softmax"),
        ("aten.log_softmax.int(q, 2)", "log-softmax"),
    ],
)
def test_each_spelling(call: str, spelling: str) -> None:
    text = f"{QKV}\ny: f32[2, 5, 4] = {call}  # here\nreturn_(y)"
    assert softmaxes(text) == [(spelling, "here")]
    assert attentions(text) == ([("softmax", "here")] if spelling in ("attention", "sdpa") else [])


@pytest.mark.parametrize(
    "quotient",
    [
        "p: f32[2, 5, 5] = aten.div.Tensor(e, z)  # here",
        "i: f32[2, 5, 1] = aten.reciprocal.default(z)\np: f32[2, 5, 5] = aten.mul.Tensor(e, i)  # here",
        "i: f32[2, 5, 1] = aten.reciprocal.default(z)\np: f32[2, 5, 5] = aten.mul.Tensor(i, e)  # here",
        "c: f32[2, 5, 1] = aten.clamp.default(z, 1e-06)\np: f32[2, 5, 5] = aten.div.Tensor(e, c)  # here",
        "c: f32[2, 5, 1] = aten.add.Tensor(z, 1e-06)\np: f32[2, 5, 5] = aten.div.Tensor(e, c)  # here",
    ],
)
def test_exp_over_sum(quotient: str) -> None:
    text = f"""{SCORES}
e: f32[2, 5, 5] = aten.exp.default(s)
z: f32[2, 5, 1] = aten.sum.dim_IntList(e, [2], True)
{quotient}
return_(p)
"""
    assert softmaxes(text) == [("exp/sum", "here")]
    assert softmaxes(text.replace("aten.exp", "aten.relu")) == []


def test_the_sum_may_come_after_the_product_with_v() -> None:
    text = f"""{SCORES}
e: f32[2, 5, 5] = aten.exp.default(s)
z: f32[2, 5, 1] = aten.sum.dim_IntList(e, [2], True)
o: f32[2, 5, 4] = aten.matmul.default(e, v)
y: f32[2, 5, 4] = aten.div.Tensor(o, z)  # here
return_(y)
"""
    assert softmaxes(text) == [("exp/sum", "here")]


def test_an_exponential_over_another_sum_is_none() -> None:
    text = f"""{SCORES}
e: f32[2, 5, 5] = aten.exp.default(s)
f: f32[2, 5, 5] = aten.exp.default(e)
z: f32[2, 5, 1] = aten.sum.dim_IntList(f, [2], True)
w: f32[2, 5, 5] = aten.abs.default(s)
y: f32[2, 5, 5] = aten.div.Tensor(w, z)
return_(y)
"""
    assert softmaxes(text) == []


@pytest.mark.parametrize(
    ("middle", "kind"),
    [
        ("p: f32[2, 5, 5] = aten.softmax.int(s, 2)  # here", ("softmax", "here")),
        ("p: f32[2, 5, 5] = aten.relu.default(s)  # here", ("other", "end")),
        ("p: f32[2, 5, 5] = aten.sigmoid.default(s)  # here", ("other", "end")),
        ("p: f32[2, 5, 5] = aten.mul.Tensor(s, 0.2)  # here", ("linear", "end")),
    ],
)
def test_the_kind_of_two_products(middle: str, kind: tuple[str, str]) -> None:
    text = f"{SCORES}\n{middle}\ny: f32[2, 5, 4] = aten.matmul.default(p, v)  # end\nreturn_(y)"
    assert attentions(text) == [kind]


def test_a_linear_attention() -> None:
    text = f"""{QKV}
kv: f32[2, 4, 4] = aten.matmul.default(kt, v)
y: f32[2, 5, 4] = aten.matmul.default(q, kv)  # end
return_(y)
"""
    assert attentions(text) == [("linear", "end")]
    assert softmaxes(text) == []


def test_one_product_is_no_attention() -> None:
    assert attentions(f"{SCORES}\nreturn_(s)") == []


def test_products_in_two_blocks_are_no_attention() -> None:
    text = f"""{SCORES}
n: f32[2, 5, 5] = aten.layer_norm.default(s, [5], None, None, 1e-05)
y: f32[2, 5, 4] = aten.matmul.default(n, v)
return_(y)
"""
    assert attentions(text) == []
