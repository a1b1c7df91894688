"""Roles of linears that stand next to neither an attention nor an activation: each rule, and what it must not take."""

import pytest

from vitgraph.analysis.sites import find_sites
from vitgraph.ir.parser import parse

HEADER = """
# form: canonical
i: f32[1, 16, 8] = input()
x: f32[1, 16, 8] = aten.cumsum.default(i, 1)
w: f32[8, 8] = weight("w")
u: f32[8, 8] = weight("u")
c: f32[16, 8] = constant("c")
d: f32[8, 1, 3, 3] = weight("d")
f: f32[8, 8, 3, 3] = weight("f")
"""
END = """
z: f32[1, 16, 8] = aten.cumsum.default(y, 1)
o: f32[1, 16, 8] = aten.linear.default(z, u, None)  # end
return_(o)
"""
LINEAR = "l: f32[1, 16, 8] = aten.linear.default(x, w, None)  # here\n"
IMAGE = """
p: f32[1, 8, 16] = aten.permute.default(l, [0, 2, 1])
q: f32[1, 8, 4, 4] = aten.reshape.default(p, [1, 8, 4, 4])
"""
FILTERED = "r: f32[1, 8, 4, 4] = aten.conv2d.default(q, {}, None, [1, 1], [1, 1], [1, 1], {})\n"
ACTIVE = """
g: f32[1, 8, 4, 4] = aten.gelu.default(r)
h: f32[1, 8, 16] = aten.reshape.default(g, [1, 8, 16])
y: f32[1, 16, 8] = aten.permute.default(h, [0, 2, 1])
"""
HALF = "m: f32[1, 16, 8] = aten.linear.default(x, u, None)  # other half\n"
ROTARY = """
a: f32[1, 16, 8] = aten.mul.Tensor(l, c)
b: f32[1, 16, 4] = aten.slice.Tensor(l, 2, 0, 4, 1)
e: f32[1, 16, 4] = aten.slice.Tensor(l, 2, 4, 8, 1)
n: f32[1, 16, 4] = aten.neg.default(e)
t: f32[1, 16, 8] = aten.cat.default([n, b], 2)
r: f32[1, 16, 8] = aten.mul.Tensor(t, c)
s: f32[1, 16, 8] = aten.add.Tensor(a, {})
y: f32[1, 16, 8] = vitgraph.attention.default(s, x, x, None, 0.5)
"""


def role(body: str, path: str = "here") -> str:
    """The role of the linear at a path."""
    found = {site.path: site.role for site in find_sites(parse(HEADER + body + END)).linears}
    assert found["end"] == "head"
    return found[path]


@pytest.mark.parametrize(("weight", "groups", "expected"), [("d", 8, "fc1"), ("f", 1, "linear")])
def test_hidden_units_pass_a_depthwise_convolution_and_no_other(weight: str, groups: int, expected: str) -> None:
    assert role(LINEAR + IMAGE + FILTERED.format(weight, groups) + ACTIVE) == expected


@pytest.mark.parametrize(
    ("bent", "expected"), [("aten.silu.default(m)", "fc1"), ("aten.cumsum.default(m, 1)", "linear")]
)
def test_both_halves_of_a_gated_mlp_are_fc1(bent: str, expected: str) -> None:
    body = f"{LINEAR}{HALF}a: f32[1, 16, 8] = {bent}\n"
    for factors in ("l, a", "a, l"):
        assert role(f"{body}y: f32[1, 16, 8] = aten.mul.Tensor({factors})\n") == expected


@pytest.mark.parametrize(
    ("square", "expected"),
    [
        ("aten.pow.Tensor_Scalar(r, 2)", "fc2"),
        ("aten.mul.Tensor(r, r)", "fc2"),
        ("aten.cumsum.default(r, 1)", "linear"),
    ],
)
def test_what_reads_a_squared_activation_is_fc2(square: str, expected: str) -> None:
    body = f"""
r: f32[1, 16, 8] = aten.relu.default(x)
s: f32[1, 16, 8] = {square}
m: f32[1, 16, 8] = aten.mul.Tensor(s, c)
a: f32[1, 16, 8] = aten.add.Tensor(m, c)
y: f32[1, 16, 8] = aten.linear.default(a, w, None)  # here
"""
    assert role(body) == expected


@pytest.mark.parametrize(("term", "expected"), [("r", "q"), ("x", "linear")])
def test_a_rotary_embedding_lies_between_a_linear_and_its_attention(term: str, expected: str) -> None:
    """Another value in the sum makes it a residual stream."""
    assert role(LINEAR + ROTARY.format(term)) == expected


@pytest.mark.parametrize(("pooled", "expected"), [("a", "proj"), ("x", "linear")])
def test_what_reads_an_attention_with_something_added_is_proj(pooled: str, expected: str) -> None:
    body = f"""
a: f32[1, 16, 8] = vitgraph.attention.default(x, x, x, None, 0.5)
s: f32[1, 16, 8] = aten.add.Tensor({pooled}, x)
y: f32[1, 16, 8] = aten.linear.default(s, w, None)  # here
"""
    assert role(body) == expected


MIXED = """
k: f32[1, 8, 16] = aten.permute.default(x, [0, 2, 1])
s: f32[1, 8, 8] = {}
t: f32[1, 8, 8] = aten.linear.default(s, w, None)  # here
p: f32[1, 8, 8] = aten.softmax.int(t, 2)
y: f32[1, 16, 8] = aten.matmul.default(x, p)
"""


@pytest.mark.parametrize(
    ("scores", "expected"),
    [("aten.matmul.default(k, x)", "head-mix"), ("aten.slice.Tensor(x, 1, 0, 8, 1)", "linear")],
    ids=["of two tokens", "of one, as in outlook attention"],
)
def test_what_reads_scores_mixes_heads(scores: str, expected: str) -> None:
    assert role(MIXED.format(scores)) == expected


POINTS = f"""{LINEAR}
p: f32[1, 16, 8] = aten.softmax.int(l, 2)
q: f32[1, 16, 8, 1] = aten.reshape.default(x, [1, 16, 8, 1])
g: f32[1, 8, 8, 2] = aten.reshape.default(x, [1, 8, 8, 2])
s: f32[1, 16, 8, 8] = aten.grid_sampler.default(q, g, 0, 0, False)
m: f32[1, 16, 8] = aten.mean.dim(s, [3], False)
v: f32[1, 8, 8] = aten.slice.Tensor(x, 1, 0, 8, 1)
b: f32[1, 16, 8] = {{}}
y: f32[1, 16, 8] = aten.cumsum.default(b, 1)
"""


@pytest.mark.parametrize(
    ("summed", "expected"), [("aten.mul.Tensor(p, m)", "weights"), ("aten.matmul.default(p, v)", "linear")]
)
def test_what_weighs_sampled_points_is_no_linear_of_a_block(summed: str, expected: str) -> None:
    """But what weighs tokens in a product of two matrices is."""
    assert role(POINTS.format(summed)) == expected


BOXES = """
# form: canonical
i: f32[1, 16, 8] = input()
x: f32[1, 16, 8] = aten.cumsum.default(i, 1)
h: f32[1, 16, 8] = aten.relu.default(x)
w: f32[8, 8] = weight("w")
l: f32[1, 16, 8] = aten.linear.default(h, w, None)  # here
r: f32[1, 16, 8] = aten.add.Tensor(l, x)
y: f32[1, 16, 8] = {}
return_(y)
"""


@pytest.mark.parametrize(
    ("last", "expected"),
    [("aten.sigmoid.default(r)", "head"), ("aten.mul.Tensor(r, 2.0)", "fc2"), ("aten.relu.default(r)", "fc2")],
    ids=["a refined box", "the last branch of a stream", "features"],
)
def test_a_box_ends_in_a_bound_and_a_branch_in_a_sum(last: str, expected: str) -> None:
    (site,) = find_sites(parse(BOXES.format(last))).linears
    assert site.role == expected


@pytest.mark.parametrize(("argument", "expected"), [("grid", "positions"), ("image", "linear")])
def test_what_an_image_is_sampled_at_is_no_linear_of_a_block(argument: str, expected: str) -> None:
    grid = "v" if argument == "grid" else "j"
    image = "i2" if argument == "grid" else "v2"
    body = f"""{LINEAR}
v: f32[1, 8, 8, 2] = aten.reshape.default(l, [1, 8, 8, 2])
v2: f32[1, 2, 8, 8] = aten.reshape.default(l, [1, 2, 8, 8])
j: f32[1, 8, 8, 2] = aten.reshape.default(x, [1, 8, 8, 2])
i2: f32[1, 2, 8, 8] = aten.reshape.default(x, [1, 2, 8, 8])
s: f32[1, 2, 8, 8] = aten.grid_sampler.default({image}, {grid}, 0, 0, False)
y: f32[1, 16, 8] = aten.reshape.default(s, [1, 16, 8])
"""
    assert role(body) == expected


OFFSETS = f"""{LINEAR}
s: f32[1, 16, 8] = aten.sigmoid.default(x)
a: f32[1, 16, 8] = aten.mul.Tensor(l, s)
b: f32[1, 16, 8] = aten.add.Tensor(a, x)
j: f32[1, 8, 8, 2] = aten.reshape.default({{}}, [1, 8, 8, 2])
k: f32[1, 2, 8, 8] = aten.reshape.default(x, [1, 2, 8, 8])
t: f32[1, 2, 8, 8] = aten.grid_sampler.default(k, j, 0, 0, False)
v: f32[1, 16, 8] = aten.reshape.default(t, [1, 16, 8])
y: f32[1, 16, 8] = aten.add.Tensor(v, b)
"""


@pytest.mark.parametrize(("sampled", "expected"), [("b", "positions"), ("x", "fc1")])
def test_offsets_scaled_by_a_box_are_positions_and_no_gated_half(sampled: str, expected: str) -> None:
    assert role(OFFSETS.format(sampled)) == expected


CHOICE = f"""{LINEAR}
a: f32[1, 16] = aten.amax.default(l, [2], False)
t: (f32[1, 16], i64[1, 16]) = aten.topk.default(a, 16)
n: i64[1, 16] = operator.getitem(t, 1)
m: i64[1, 16, 1] = aten.reshape.default(n, [1, 16, 1])
e: i64[1, 16, 8] = aten.expand.default(m, [1, 16, 8])
y: f32[1, 16, 8] = aten.gather.default({{}}, 1, e)
"""


@pytest.mark.parametrize(("gathered", "expected"), [("x", "head"), ("l", "linear")])
def test_scores_of_a_choice_are_a_head(gathered: str, expected: str) -> None:
    """But not where they are what is gathered too."""
    assert role(CHOICE.format(gathered)) == expected


MERGE = """
a: f32[1, 16, 4] = aten.slice.Tensor(x, 2, 0, 4, 1)
b: f32[1, 16, 4] = aten.slice.Tensor(x, 2, 4, 8, 1)
g: f32[1, 16, 8] = aten.cat.default([a, b], 2)
v: f32[4, 8] = weight("v")
{}
m: f32[1, 16, 4] = aten.linear.default({}, v, None)  # here
y: f32[1, 16, 8] = aten.cat.default([m, m], 2)
"""


@pytest.mark.parametrize(
    ("between", "read", "expected"),
    [
        ("", "g", "merge"),
        ("s: f32[1, 16, 8] = aten.mul.Tensor(g, c)", "s", "merge"),
        ("s: f32[1, 16, 8] = aten.sub.Tensor(g, c)", "s", "merge"),
        ("s: f32[1, 16, 8] = aten.mul.Tensor(g, x)", "s", "linear"),
    ],
    ids=["bare", "smoothed", "shifted", "gated"],
)
def test_a_merge_is_one_past_what_smoothing_inserts(between: str, read: str, expected: str) -> None:
    assert role(MERGE.format(between, read)) == expected
