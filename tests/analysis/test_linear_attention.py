"""What is found of a linear attention, as EfficientViT writes it and in other orders."""

from vitgraph.analysis.linear_attention import find_linear_attentions
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse

TOGETHER = """
x: f32[N, 48, 4, 4] = input()
w: f32[48, 48, 1, 1] = weight("qkv.weight")
c: f32[N, 48, 4, 4] = aten.conv2d.default(x, w, None, [1, 1], [0, 0], [1, 1], 1)  # attn.qkv
r: f32[N, 2, 24, 16] = aten.reshape.default(c, [-1, 2, 24, 16])
t: f32[N, 2, 16, 24] = aten.permute.default(r, [0, 1, 3, 2])
q: f32[N, 2, 16, 8] = aten.slice.Tensor(t, 3, 0, 8, 1)
k: f32[N, 2, 16, 8] = aten.slice.Tensor(t, 3, 8, 16, 1)
v: f32[N, 2, 16, 8] = aten.slice.Tensor(t, 3, 16, 24, 1)
qr: f32[N, 2, 16, 8] = aten.relu.default(q)
kr: f32[N, 2, 16, 8] = aten.relu.default(k)
v1: f32[N, 2, 16, 9] = aten.pad.default(v, [0, 1], 'constant', 1.0)
kt: f32[N, 2, 8, 16] = aten.permute.default(kr, [0, 1, 3, 2])
kv: f32[N, 2, 8, 9] = aten.matmul.default(kt, v1)  # attn
y: f32[N, 2, 16, 9] = aten.matmul.default(qr, kv)  # attn
top: f32[N, 2, 16, 8] = aten.slice.Tensor(y, 3, 0, 8, 1)  # attn
bottom: f32[N, 2, 16, 1] = aten.slice.Tensor(y, 3, 8, 9, 1)  # attn
safe: f32[N, 2, 16, 1] = aten.add.Tensor(bottom, 1e-05)  # attn
out: f32[N, 2, 16, 8] = aten.div.Tensor(top, safe)  # attn
ot: f32[N, 2, 8, 16] = aten.permute.default(out, [0, 1, 3, 2])
o: f32[N, 16, 4, 4] = aten.reshape.default(ot, [-1, 16, 4, 4])
p: f32[16, 16, 1, 1] = weight("proj.weight")
z: f32[N, 16, 4, 4] = aten.conv2d.default(o, p, None, [1, 1], [0, 0], [1, 1], 1)  # attn.proj
return_(z)
"""
"""EfficientViT's: Kᵀ V and ΣK are one product, for V has a column of ones."""

APART = """
q: f32[N, 16, 8] = input()
k: f32[N, 16, 8] = input()
v: f32[N, 16, 8] = input()
kt: f32[N, 8, 16] = aten.permute.default(k, [0, 2, 1])
kv: f32[N, 8, 8] = aten.matmul.default(kt, v)
top: f32[N, 16, 8] = aten.matmul.default(q, kv)  # attn
s: f32[N, 1, 8] = aten.sum.dim_IntList(k, [1], True)
st: f32[N, 8, 1] = aten.permute.default(s, [0, 2, 1])
bottom: f32[N, 16, 1] = aten.matmul.default(q, st)
out: f32[N, 16, 8] = aten.div.Tensor(top, bottom)  # attn
return_(out)
"""


def test_one_product_for_both_sums() -> None:
    program = parse(TOGETHER)
    (site,) = find_linear_attentions(program)
    inner, product = program.calls(aten.matmul.default)
    assert (site.path, site.inner, site.product, site.sums) == ("attn", inner, product, 8)
    assert site.quotient.target is aten.div.Tensor
    assert site.divisor.args[0] is product
    assert [(source.target, reader.target) for source, reader in site.operands()] == [
        (aten.conv2d.default, aten.reshape.default)
    ]


def test_a_product_for_each() -> None:
    (site,) = find_linear_attentions(parse(APART))
    assert site.sums is None
    assert site.divisor.target is aten.matmul.default


def test_other_quotients_are_none() -> None:
    single = APART.replace("aten.matmul.default(q, kv)", "aten.matmul.default(q, v8)").replace(
        "kt: f32", "v8: f32[N, 8, 16] = aten.permute.default(v, [0, 2, 1])\nkt: f32", 1
    )
    single = single.replace("top: f32[N, 16, 8]", "top: f32[N, 16, 16]").replace(
        "out: f32[N, 16, 8]", "out: f32[N, 16, 16]"
    )
    assert find_linear_attentions(parse(single)) == []
    number = "x: f32[2, 4, 4] = input()\nm: f32[2, 4, 4] = aten.matmul.default(x, x)\ny: f32[2, 4, 4] = aten.div.Tensor(m, 3.0)\nreturn_(y)\n"
    assert find_linear_attentions(parse(number)) == []
