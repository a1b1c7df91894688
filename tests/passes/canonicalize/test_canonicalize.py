import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import check, hold_to_effect, hold_to_text, run
from vitgraph.errors import InputError
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.ir.verify import verify
from vitgraph.passes.canonicalize.canonicalize import Canonicalize
from vitgraph.passes.fold_constants import FoldConstants

CASES: dict[str, tuple[str, str]] = {
    "what does nothing is dropped": (
        """
        a: f32[1, 16, 8] = aten.dropout.default(x, 0.1, False)
        b: f32[1, 16, 8] = aten.clone.default(a)
        c: f32[1, 16, 8] = aten.expand.default(b, [-1, -1, -1])
        d: f32[1, 16, 8] = aten.slice.Tensor(c, 1, 0, 9223372036854775807)
        e: f32[1, 16, 8] = aten.pad.default(d, [0, 0])
        f: f32[1, 16, 8] = aten.mul.Tensor(e, 1.0)
        return_(f)
        """,
        "return_(x)",
    ),
    "views are one reshape": (
        """
        a: f32[1, 4, 4, 8] = aten.view.default(x, [-1, 4, 4, 8])
        b: f32[1, 1, 4, 4, 8] = aten.unsqueeze.default(a, 0)
        c: f32[1, 1, 16, 8] = aten.flatten.using_ints(b, -3, -2)
        d: f32[16, 8] = aten.squeeze.default(c)
        return_(d)
        """,
        """
        a: f32[16, 8] = aten.reshape.default(x, [16, 8])
        return_(a)
        """,
    ),
    "transposes are one permute": (
        """
        a: f32[1, 8, 16] = aten.transpose.int(x, -1, -2)
        b: f32[8, 1, 16] = aten.movedim.int(a, 1, 0)
        return_(b)
        """,
        """
        a: f32[8, 1, 16] = aten.permute.default(x, [2, 0, 1])
        return_(a)
        """,
    ),
    "transposes that undo each other are gone": (
        """
        a: f32[1, 8, 16] = aten.transpose.int(x, 1, 2)
        b: f32[1, 16, 8] = aten.permute.default(a, [0, 2, 1])
        return_(b)
        """,
        "return_(x)",
    ),
    "unbind is select": (
        """
        a: (f32[1, 8], f32[1, 8]) = aten.unbind.int(y, 1)
        b: f32[1, 8] = operator.getitem(a, 1)
        return_(b)
        """,
        """
        b: f32[1, 8] = aten.select.int(y, 1, 1)
        return_(b)
        """,
    ),
    "chunk is slice": (
        """
        a: (f32[1, 16, 4], f32[1, 16, 4]) = aten.chunk.default(x, 2, -1)
        b: f32[1, 16, 4] = operator.getitem(a, 1)
        c: f32[1, 16, 4] = operator.getitem(a, 0)
        d: f32[1, 16, 4] = aten.mul.Tensor(b, c)
        return_(d)
        """,
        """
        b: f32[1, 16, 4] = aten.slice.Tensor(x, 2, 4, 8, 1)
        c: f32[1, 16, 4] = aten.slice.Tensor(x, 2, 0, 4, 1)
        d: f32[1, 16, 4] = aten.mul.Tensor(b, c)
        return_(d)
        """,
    ),
    "stack is cat": (
        """
        a: f32[1, 16, 2, 8] = aten.stack.default([x, x], -2)
        return_(a)
        """,
        """
        a: f32[1, 16, 1, 8] = aten.reshape.default(x, [1, 16, 1, 8])
        b: f32[1, 16, 1, 8] = aten.reshape.default(x, [1, 16, 1, 8])
        c: f32[1, 16, 2, 8] = aten.cat.default([a, b], 2)
        return_(c)
        """,
    ),
    "a part written over is cat": (
        """
        a: f32[1, 2, 8] = aten.relu.default(y)
        b: f32[1, 16, 8] = aten.slice_scatter.default(x, a, 1, 3, 5)
        return_(b)
        """,
        """
        a: f32[1, 2, 8] = aten.relu.default(y)
        b: f32[1, 3, 8] = aten.slice.Tensor(x, 1, 0, 3, 1)
        c: f32[1, 11, 8] = aten.slice.Tensor(x, 1, 5, 16, 1)
        d: f32[1, 16, 8] = aten.cat.default([b, a, c], 1)
        return_(d)
        """,
    ),
    "a part of another type is cast before it is written over": (
        """
        h: f16[1, 2, 8] = aten.to.dtype(y, f16)
        a: f32[1, 16, 8] = aten.slice_scatter.default(x, h, 1, 0, 2)
        b: f32[1, 2, 8] = aten.copy.default(y, h)
        return_([a, b])
        """,
        """
        h: f16[1, 2, 8] = aten.to.dtype(y, f16)
        a: f32[1, 2, 8] = aten.to.dtype(h, f32)
        b: f32[1, 14, 8] = aten.slice.Tensor(x, 1, 2, 16, 1)
        c: f32[1, 16, 8] = aten.cat.default([a, b], 1)
        d: f32[1, 2, 8] = aten.to.dtype(h, f32)
        return_([c, d])
        """,
    ),
    "a product with weights is linear": (
        """
        w: f32[8, 3] = weight("w")
        a: f32[1, 16, 3] = aten.matmul.default(x, w)
        return_(a)
        """,
        """
        w: f32[8, 3] = weight("w")
        a: f32[3, 8] = aten.permute.default(w, [1, 0])
        b: f32[1, 16, 3] = aten.linear.default(x, a, None)
        return_(b)
        """,
    ),
    "addmm is linear": (
        """
        v: f32[16, 8] = aten.view.default(x, [16, 8])
        w: f32[3, 8] = weight("w")
        t: f32[8, 3] = aten.t.default(w)
        b: f32[3] = weight("b")
        a: f32[16, 3] = aten.addmm.default(b, v, t)
        return_(a)
        """,
        """
        v: f32[16, 8] = aten.reshape.default(x, [16, 8])
        w: f32[3, 8] = weight("w")
        b: f32[3] = weight("b")
        a: f32[16, 3] = aten.linear.default(v, w, b)
        return_(a)
        """,
    ),
    "patches are put together by a transposed convolution": (
        """
        a: f32[1, 8, 16] = aten.transpose.int(x, 1, 2)
        b: f32[1, 2, 5, 5] = aten.col2im.default(a, [5, 5], [2, 2], [1, 1], [0, 0], [1, 1])
        return_(b)
        """,
        """
        a: f32[1, 8, 16] = aten.permute.default(x, [0, 2, 1])
        b: f32[1, 8, 4, 4] = aten.reshape.default(a, [1, 8, 4, 4])
        w: f32[8, 1, 2, 2] = constant("places")
        c: f32[1, 2, 5, 5] = aten.conv_transpose2d.input(b, w, None, [1, 1], [0, 0], [0, 0], 2, [1, 1])
        return_(c)
        """,
    ),
    "each element several times is an expand": (
        """
        a: f32[1, 32, 8] = aten.repeat_interleave.self_int(x, 2, 1)
        return_(a)
        """,
        """
        a: f32[1, 16, 1, 8] = aten.reshape.default(x, [1, 16, 1, 8])
        b: f32[1, 16, 2, 8] = aten.expand.default(a, [1, 16, 2, 8])
        c: f32[1, 32, 8] = aten.reshape.default(b, [1, 32, 8])
        return_(c)
        """,
    ),
    "layer norm takes five": (
        """
        w: f32[8] = weight("w")
        a: f32[1, 16, 8] = aten.layer_norm.default(x, [8], w, w, 1e-05, False)
        return_(a)
        """,
        """
        w: f32[8] = weight("w")
        a: f32[1, 16, 8] = aten.layer_norm.default(x, [8], w, w, 1e-05)
        return_(a)
        """,
    ),
    "softmax and attention": (
        """
        a: f32[1, 16, 8] = aten.softmax.int(x, -1, f32)
        b: f32[1, 16, 8] = aten.scaled_dot_product_attention.default(a, x, x)
        return_(b)
        """,
        """
        a: f32[1, 16, 8] = aten.softmax.int(x, 2)
        b: f32[1, 16, 8] = aten.scaled_dot_product_attention.default(a, x, x, None, 0.0, False, scale=0.35355339059327373)
        return_(b)
        """,
    ),
    "pooling to a point is a mean": (
        """
        a: f32[1, 4, 4, 8] = aten.view.default(x, [1, 4, 4, 8])
        b: f32[1, 4, 1, 1] = aten.adaptive_avg_pool2d.default(a, [1, 1])
        return_(b)
        """,
        """
        a: f32[1, 4, 4, 8] = aten.reshape.default(x, [1, 4, 4, 8])
        b: f32[1, 4, 1, 1] = aten.mean.dim(a, [2, 3], True)
        return_(b)
        """,
    ),
    "numbers stand on the right": (
        """
        a: f32[1, 16, 8] = aten.add.Scalar(x, 2)
        b: f32[1, 16, 8] = aten.sub.Tensor(a, 3.0)
        c: f32[1, 16, 8] = aten.rsub.Scalar(b, 1.0)
        g: f32[8] = weight("g")
        d: f32[1, 16, 8] = aten.mul.Tensor(g, c)
        e: f32[1, 16, 8] = aten.add.Tensor(d, x, alpha=2)
        f: f32[1, 16, 8] = aten.clamp_min.default(e, 0)
        return_(f)
        """,
        """
        a: f32[1, 16, 8] = aten.add.Tensor(x, 2)
        b: f32[1, 16, 8] = aten.add.Tensor(a, -3.0)
        c: f32[1, 16, 8] = aten.neg.default(b)
        d: f32[1, 16, 8] = aten.add.Tensor(c, 1.0)
        g: f32[8] = weight("g")
        e: f32[1, 16, 8] = aten.mul.Tensor(d, g)
        f: f32[1, 16, 8] = aten.mul.Tensor(x, 2)
        h: f32[1, 16, 8] = aten.add.Tensor(e, f)
        i: f32[1, 16, 8] = aten.relu.default(h)
        return_(i)
        """,
    ),
    "addcmul scales the product, not what it is added to": (
        """
        a: f32[1, 2, 8] = aten.addcmul.default(y, y, y, value=0.25)
        b: f32[1, 2, 8] = aten.addcmul.default(a, y, y)
        return_(b)
        """,
        """
        a: f32[1, 2, 8] = aten.mul.Tensor(y, 0.25)
        b: f32[1, 2, 8] = aten.mul.Tensor(a, y)
        c: f32[1, 2, 8] = aten.add.Tensor(b, y)
        d: f32[1, 2, 8] = aten.mul.Tensor(y, y)
        e: f32[1, 2, 8] = aten.add.Tensor(d, c)
        return_(e)
        """,
    ),
    "what the dialect lacks and is known is computed": (
        """
        a: i64[8] = aten.arange.default(8, device=device('cpu'), pin_memory=False)
        b: f32[8] = aten.to.dtype(a, f32)
        c: f32[1, 16, 8] = aten.add.Tensor(x, b)
        return_(c)
        """,
        """
        a: i64[8] = constant("arange")
        b: f32[8] = aten.to.dtype(a, f32)
        c: f32[1, 16, 8] = aten.add.Tensor(x, b)
        return_(c)
        """,
    ),
}
HEADER = "# form: captured\nx: f32[1, 16, 8] = input()\ny: f32[1, 2, 8] = input()\n"


def text_of(case: str) -> str:
    return HEADER + "\n".join(line.strip() for line in case.strip().splitlines())


@pytest.mark.parametrize("name", CASES)
def test_one_spelling(name: str) -> None:
    before, after = CASES[name]
    check(Canonicalize(), text_of(before), text_of(after))


def test_an_unknown_batch_becomes_minus_one() -> None:
    before = """# form: captured
x: f32[N, 49, 8] = input()
n: int[N] = aten.sym_size.int(x, 0)
m: int[4*N] = operator.mul(n, 4)
a: f32[N, 49, 2, 4] = aten.view.default(x, [n, 49, 2, 4])
b: f32[49*N, 8] = aten.flatten.using_ints(x, 0, 1)
cls: f32[1, 1, 8] = weight("cls")
c: f32[N, 1, 8] = aten.expand.default(cls, [n, -1, -1])
d: f32[N, 50, 8] = aten.cat.default([c, x], 1)
return_([a, b, d])
"""
    after = """
x: f32[N, 49, 8] = input()
n: int[N] = aten.sym_size.int(x, 0)
a: f32[N, 49, 2, 4] = aten.reshape.default(x, [-1, 49, 2, 4])
b: f32[49*N, 8] = aten.reshape.default(x, [-1, 8])
cls: f32[1, 1, 8] = weight("cls")
c: f32[N, 1, 8] = aten.expand.default(cls, [n, 1, 8])
d: f32[N, 50, 8] = aten.cat.default([c, x], 1)
return_([a, b, d])
"""
    check(Canonicalize(), before, after)


def test_dropout_in_training_is_not_dropped() -> None:
    text = text_of("a: f32[1, 16, 8] = aten.dropout.default(x, 0.5, True)\nreturn_(a)")
    with pytest.raises(InputError, match=r"aten\.dropout\.default \(in model\).*training=self\.training"):
        run(Canonicalize(), parse(text))


def test_every_node_keeps_its_path() -> None:
    program = parse(text_of(CASES["views are one reshape"][0]).replace("(b, -3, -2)", "(b, -3, -2)  # stem.flatten"))
    result = run(Canonicalize(), program)
    assert {node.meta["path"] for node in result.calls()} <= {"stem.flatten", ""}
    assert all("type" in node.meta for node in result.graph.nodes if node.op == "call_function")


@st.composite
def chains(draw: st.DrawFn) -> str:
    """Random chains of operators that move data, and arithmetic between them."""
    lines = ["x: f32[2, 6, 8] = input()", 'c: f32[1] = constant("c")']
    shape = [2, 6, 8]
    last = "x"
    for step in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["view", "permute", "transpose", "slice", "unary", "scalar", "weight", "squeeze"]))
        call, shape = _link(draw, kind, shape)
        name = f"v{step}"
        lines.append(f"{name}: f32[{', '.join(map(str, shape))}] = {call.replace('@', last)}")
        last = name
    return "# form: captured\n" + "\n".join([*lines, f"return_({last})"])


def _link(draw: st.DrawFn, kind: str, shape: list[int]) -> tuple[str, list[int]]:
    rank = len(shape)
    if kind == "view":
        total = int(torch.tensor(shape).prod())
        head = draw(st.sampled_from([size for size in range(1, total + 1) if total % size == 0]))
        return f"aten.reshape.default(@, [{head}, {total // head}])", [head, total // head]
    if kind == "permute":
        order = draw(st.permutations(range(rank)))
        return f"aten.permute.default(@, {list(order)})", [shape[dim] for dim in order]
    if kind == "transpose":
        a, b = draw(st.integers(-rank, rank - 1)), draw(st.integers(-rank, rank - 1))
        turned = list(shape)
        turned[a], turned[b] = turned[b], turned[a]
        return f"aten.transpose.int(@, {a}, {b})", turned
    if kind == "slice":
        dim = draw(st.integers(0, rank - 1))
        start = draw(st.integers(0, shape[dim] - 1))
        end = draw(st.integers(start + 1, shape[dim]))
        return f"aten.slice.Tensor(@, {dim}, {start}, {end})", [*shape[:dim], end - start, *shape[dim + 1 :]]
    if kind == "squeeze":
        return "aten.unsqueeze.default(@, 0)", [1, *shape]
    if kind == "scalar":
        return f"aten.add.Scalar(@, {draw(st.sampled_from([0, 1, 2]))})", shape
    if kind == "weight":
        return "aten.mul.Tensor(c, @)", shape
    return "aten.relu.default(@)", shape


@settings(max_examples=60, deadline=None)
@given(chains())
def test_random_chains_keep_their_numbers(text: str) -> None:
    program = parse(text)
    assert verify(program) == {}
    result: Program = run(Canonicalize(), program)
    hold_to_effect(Canonicalize(), program, result)
    hold_to_text(result)
    assert show(run(Canonicalize(), result)) == show(result)
    folded = run(FoldConstants(), result)
    hold_to_effect(FoldConstants(), result, folded)
    hold_to_text(folded)
