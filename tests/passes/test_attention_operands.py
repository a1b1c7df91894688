"""What goes into the fused attention: factors in its scale, k as rows, keys for every head, four dimensions."""

from tests.harness import check, run
from tests.passes.test_fuse_attention import BY_HAND, QKV
from vitgraph.ir import dialect
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes.fuse_attention import FuseAttention


def test_takes_a_factor_ahead_of_a_permute() -> None:
    text = f"""{QKV.replace("q: f32[N, 2, 5, 4]", "q: f32[N, 5, 2, 4]")}
f: f32[N, 5, 2, 4] = aten.mul.Tensor(q, 0.25)
qt: f32[N, 2, 5, 4] = aten.permute.default(f, [0, 2, 1, 3])
kt: f32[N, 2, 4, 5] = aten.permute.default(k, [0, 1, 3, 2])
s: f32[N, 2, 5, 5] = aten.matmul.default(qt, kt)
p: f32[N, 2, 5, 5] = aten.softmax.int(s, 3)
y: f32[N, 2, 5, 4] = aten.matmul.default(p, v)
return_(y)
"""
    after = f"""{QKV.replace("q: f32[N, 2, 5, 4]", "q: f32[N, 5, 2, 4]")}
permute: f32[N, 2, 5, 4] = aten.permute.default(q, [0, 2, 1, 3])
attention: f32[N, 2, 5, 4] = vitgraph.attention.default(permute, k, v, None, 0.25)
return_(attention)
"""
    assert check(FuseAttention(), text, after) == []


def test_leaves_a_factor_that_another_reads() -> None:
    text = BY_HAND.replace("aten.matmul.default(q, kt)", "aten.matmul.default(qt, kt)").replace(
        "kt: f32",
        "f: f32[N, 2, 5, 4] = aten.mul.Tensor(q, 3.0)\nr: f32[N, 2, 4, 5] = aten.reshape.default(f, [-1, 2, 4, 5])\n"
        "qt: f32[N, 2, 5, 4] = aten.permute.default(r, [0, 1, 3, 2])\nkt: f32",
    )
    after = run(FuseAttention(), parse(text.replace("return_(y)", "return_([y, f])")), Context())
    assert [node.args[4] for node in after.calls(dialect.attention)] == [0.25]


def test_gives_heads_that_share_keys_their_own() -> None:
    shared = QKV.replace("k: f32[N, 2", "k: f32[N, 1").replace("v: f32[N, 2", "v: f32[N, 1")
    text = BY_HAND.replace(QKV, shared).replace("kt: f32[N, 2", "kt: f32[N, 1")
    after = f"""{shared}
n: int[N] = aten.sym_size.int(q, 0)
expand: f32[N, 2, 5, 4] = aten.expand.default(k, [n, 2, 5, 4])
m: int[N] = aten.sym_size.int(q, 0)
expand_1: f32[N, 2, 5, 4] = aten.expand.default(v, [m, 2, 5, 4])
attention: f32[N, 2, 5, 4] = vitgraph.attention.default(q, expand, expand_1, None, 0.25)
return_(attention)
"""
    assert check(FuseAttention(), text, after) == []


def test_stacks_matrices_without_heads() -> None:
    text, flat = (each.replace("[N, 2, ", "[N, ") for each in (BY_HAND, QKV))
    text = text.replace("[0, 1, 3, 2]", "[0, 2, 1]").replace("int(m, 3)", "int(m, 2)")
    after = f"""{flat}
a: f32[1, N, 5, 4] = aten.reshape.default(q, [1, -1, 5, 4])
b: f32[1, N, 5, 4] = aten.reshape.default(k, [1, -1, 5, 4])
c: f32[1, N, 5, 4] = aten.reshape.default(v, [1, -1, 5, 4])
attention: f32[1, N, 5, 4] = vitgraph.attention.default(a, b, c, None, 0.25)
y: f32[N, 5, 4] = aten.reshape.default(attention, [-1, 5, 4])
return_(y)
"""
    assert check(FuseAttention(), text, after) == []


def test_leaves_keys_with_heads_that_queries_lack() -> None:
    text = """
q: f32[N, 5, 4] = input()
k: f32[3, 1, 7, 4] = input()
v: f32[3, 1, 7, 4] = input()
kt: f32[3, 1, 4, 7] = aten.permute.default(k, [0, 1, 3, 2])
s: f32[3, N, 5, 7] = aten.matmul.default(q, kt)
p: f32[3, N, 5, 7] = aten.softmax.int(s, 3)
y: f32[3, N, 5, 4] = aten.matmul.default(p, v)
return_(y)
"""
    after = run(FuseAttention(), parse(text), Context())
    assert [node.target for node in after.calls()].count(aten.reshape.default) == 0


def test_undoes_the_permute_that_made_k_transposed() -> None:
    text = BY_HAND.replace("k: f32[N, 2, 5, 4]", "k: f32[N, 5, 2, 4]").replace("[0, 1, 3, 2]", "[0, 2, 3, 1]")
    after = f"""{QKV.replace("k: f32[N, 2, 5, 4]", "k: f32[N, 5, 2, 4]")}
permute: f32[N, 2, 5, 4] = aten.permute.default(k, [0, 2, 1, 3])
y: f32[N, 2, 5, 4] = vitgraph.attention.default(q, permute, v, None, 0.25)
return_(y)
"""
    assert check(FuseAttention(), text, after) == []


def test_transposes_a_k_that_comes_transposed() -> None:
    text = BY_HAND.replace("k: f32[N, 2, 5, 4] = input()", "kt: f32[N, 2, 4, 5] = input()")
    text = text.replace("kt: f32[N, 2, 4, 5] = aten.permute.default(k, [0, 1, 3, 2])\n", "")
    after = f"""{QKV.replace("k: f32[N, 2, 5, 4]", "kt: f32[N, 2, 4, 5]")}
permute: f32[N, 2, 5, 4] = aten.permute.default(kt, [0, 1, 3, 2])
y: f32[N, 2, 5, 4] = vitgraph.attention.default(q, permute, v, None, 0.25)
return_(y)
"""
    assert check(FuseAttention(), text, after) == []
