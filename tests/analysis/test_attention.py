"""Softmaxes and attentions are found by what a graph computes, and by nothing that only looks alike."""

from typing import Any

import pytest

from vitgraph.analysis.attention import find_attentions, find_joined_products, find_softmaxes
from vitgraph.analysis.sites import find_sites
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import ACTIVATIONS
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
    return [(site.kind, site.path) for site in find_attentions(parse(text))]


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
        ("p: f32[2, 5, 5] = aten.hardswish.default(s)  # here", ("other", "end")),
        ("p: f32[2, 5, 5] = aten.clamp.default(s, 0, 6)  # here", ("other", "end")),
        ("p: f32[2, 5, 5] = aten.sub.Tensor(s, s)  # here", ("linear", "end")),
        ("p: f32[2, 5, 5] = aten.roll.default(s, [1], [2])  # here", ("linear", "end")),
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


def test_every_activation_makes_an_attention_of_another_kind() -> None:
    """Which activations count is the table's decision alone: matmul, hardswish, matmul is no less one than with relu."""
    for operator in sorted(map(str, {*ACTIVATIONS, aten.exp.default, aten.erf.default} - {aten.clamp.default})):
        text = (
            f"{SCORES}\np: f32[2, 5, 5] = {operator}(s)\ny: f32[2, 5, 4] = aten.matmul.default(p, v)  # end\nreturn_(y)"
        )
        assert attentions(text) == [("other", "end")], operator


def heads_mixed(channels: int) -> str:
    """Scores of three heads, a layer over `channels` on each side of the softmax, and the product with v."""
    return f"""
q: f32[2, 3, 5, 4] = input()
w: f32[{channels}, {channels}] = weight("w")
k: f32[2, 3, 4, 5] = aten.permute.default(q, [0, 1, 3, 2])
s: f32[2, 3, 5, 5] = aten.matmul.default(q, k)
t: f32[2, 5, 5, 3] = aten.permute.default(s, [0, 2, 3, 1])
m: f32[2, 5, 5, 3] = aten.linear.default(t, w, None)
u: f32[2, 3, 5, 5] = aten.permute.default(m, [0, 3, 1, 2])
p: f32[2, 3, 5, 5] = aten.softmax.int(u, 3)
y: f32[2, 3, 5, 4] = aten.matmul.default(p, q)
return_(y)
"""


def test_talking_heads_are_a_softmax_attention_whose_heads_are_mixed() -> None:
    (site,) = find_attentions(parse(heads_mixed(3)))
    assert (site.kind, site.mixes_heads, site.heads) == ("softmax", True, 3)


def test_scores_that_are_joined_again_are_no_single_operator() -> None:
    """MViTv2 with a class token: positions are added to the other tokens' scores alone."""
    text = f"""{SCORES}
a: f32[2, 5, 1] = aten.slice.Tensor(s, 2, 0, 1)
b: f32[2, 5, 4] = aten.slice.Tensor(s, 2, 1, 5)
c: f32[2, 5, 4] = aten.mul.Tensor(b, 2.0)
j: f32[2, 5, 5] = aten.cat.default([a, c], 2)
p: f32[2, 5, 5] = aten.softmax.int(j, 2)
y: f32[2, 5, 4] = aten.matmul.default(p, v)
return_(y)
"""
    (site,) = find_attentions(parse(text))
    assert site.operator_refusal is not None
    assert "joined again" in site.operator_refusal


def test_a_projection_between_two_blocks_mixes_no_heads() -> None:
    text = """
q: f32[2, 3, 5, 4] = input()
w: f32[12, 12] = weight("w")
k: f32[2, 3, 4, 5] = aten.permute.default(q, [0, 1, 3, 2])
s: f32[2, 3, 5, 5] = aten.matmul.default(q, k)
y: f32[2, 3, 5, 4] = aten.matmul.default(s, q)
t: f32[2, 5, 3, 4] = aten.permute.default(y, [0, 2, 1, 3])
r: f32[2, 5, 12] = aten.reshape.default(t, [2, 5, 12])
m: f32[2, 5, 12] = aten.linear.default(r, w, None)
o: f32[2, 12, 5] = aten.permute.default(m, [0, 2, 1])
z: f32[2, 5, 5] = aten.matmul.default(m, o)
return_(z)
"""
    program = parse(text)
    assert [site.product for site in find_attentions(program)] == [program.calls(aten.matmul.default)[1]]


def test_products_joined_by_what_nobody_knows_are_told() -> None:
    text = f"""{SCORES}
n: f32[2, 5, 5] = aten.layer_norm.default(s, [5], None, None, 1e-05)
y: f32[2, 5, 4] = aten.matmul.default(n, v)
return_(y)
"""
    program = parse(text)
    assert find_joined_products(program) == [(program.calls(aten.matmul.default)[1], ("layer_norm",))]
    known = f"{SCORES}\np: f32[2, 5, 5] = aten.relu.default(s)\ny: f32[2, 5, 4] = aten.matmul.default(p, v)\nreturn_(y)"
    assert find_joined_products(parse(known)) == []


def test_an_activation_beside_the_way_changes_nothing() -> None:
    text = f"""{QKV}
r: f32[2, 5, 4] = aten.relu.default(q)
kv: f32[2, 4, 4] = aten.matmul.default(kt, v)
y: f32[2, 5, 4] = aten.matmul.default(r, kv)  # end
return_(y)
"""
    assert attentions(text) == [("linear", "end")]
    turned = text.replace("aten.matmul.default(r, kv)", "aten.matmul.default(kv, rt)").replace(
        "kv:", "rt: f32[2, 4, 5] = aten.permute.default(r, [0, 2, 1])\nkv:"
    )
    assert attentions(turned.replace("y: f32[2, 5, 4]", "y: f32[2, 4, 5]")) == [("linear", "end")]


def test_a_softmax_counts_on_either_side() -> None:
    text = f"""{SCORES}
p: f32[2, 5, 5] = aten.softmax.int(s, 2)  # here
kv: f32[2, 4, 4] = aten.matmul.default(kt, v)
w: f32[2, 5, 4] = aten.matmul.default(q, kv)  # end
y: f32[2, 5, 4] = aten.matmul.default(p, w)
return_(y)
"""
    assert attentions(text) == [("linear", "end"), ("softmax", "here")]


@pytest.mark.parametrize(
    "products",
    [
        "y: f32[2, 3, 5, 6] = vitgraph.attention.default(q, k, v, b, 0.5)",
        "y: f32[2, 3, 5, 6] = aten.scaled_dot_product_attention.default(q, k, v, b)",
        (
            "kt: f32[2, 3, 4, 7] = aten.permute.default(k, [0, 1, 3, 2])\n"
            "s: f32[2, 3, 5, 7] = aten.matmul.default(q, kt)\nt: f32[2, 3, 5, 7] = aten.add.Tensor(s, b)\n"
            "p: f32[2, 3, 5, 7] = aten.softmax.int(t, 3)\ny: f32[2, 3, 5, 6] = aten.matmul.default(p, v)"
        ),
        (
            "kt: f32[2, 3, 4, 7] = aten.permute.default(k, [0, 1, 3, 2])\n"
            "s: f32[2, 3, 4, 6] = aten.matmul.default(kt, v)\ny: f32[2, 3, 5, 6] = aten.matmul.default(q, s)"
        ),
    ],
)
def test_sizes(products: str) -> None:
    text = f"""
q: f32[2, 3, 5, 4] = input()
k: f32[2, 3, 7, 4] = input()
v: f32[2, 3, 7, 6] = input()
b: f32[5, 7] = input()
{products}
return_(y)
"""
    (site,) = find_attentions(parse(text))
    assert (site.heads, site.head_dim, site.value_dim, site.tokens, site.keys) == (3, 4, 6, 5, 7)
    assert site.bias == (site.kind == "softmax")
    assert site.is_fused == products.startswith("y: f32[2, 3, 5, 6] = vitgraph")


def test_the_finder_of_sites_is_the_same() -> None:
    program = parse(f"# form: canonical\n{SCORES}\ny: f32[2, 5, 4] = aten.matmul.default(s, v)  # end\nreturn_(y)")
    assert find_sites(program).attentions == find_attentions(program)
    assert find_sites(program).fused_attentions == ()
