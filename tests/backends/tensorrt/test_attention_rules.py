"""What a target's file says of attention, against the builder: each case at the edge of a rule, on either side of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vitgraph.backends.onnx.lowering import lower
from vitgraph.backends.tensorrt.backend import build_engine, unbuildable_why
from vitgraph.backends.tensorrt.builder import EngineBuildError
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import pipeline
from vitgraph.targets.capability import AttentionKernel
from vitgraph.targets.target import Target, get_target

A100 = get_target("a100")
KEYS, WIDTH = 16, 64
STEPS = {"int8": "quantize{method=minmax},assign-precision,materialize", "fp16": "assign-precision"}
CROSS = """
# form: canonical
x: f32[{b}, 16, {c}] = input()
g: f32[{c}] = weight("norm.weight")
n: f32[{b}, 16, {c}] = aten.layer_norm.default(x, [{c}], g, None, 1e-05)
s: f32[{b}, {t}, {c}] = aten.slice.Tensor(n, 1, 0, {t}, 1)
wq: f32[{c}, {c}] = weight("q.weight")
q: f32[{b}, {t}, {c}] = aten.linear.default(s, wq, None)  # q
wk: f32[{c}, {c}] = weight("k.weight")
k: f32[{b}, 16, {c}] = aten.linear.default(n, wk, None)  # k
wv: f32[{c}, {c}] = weight("v.weight")
v: f32[{b}, 16, {c}] = aten.linear.default(n, wv, None)  # v
qr: f32[{b}, {t}, {h}, 64] = aten.reshape.default(q, [-1, {t}, {h}, 64])
qh: f32[{b}, {h}, {t}, 64] = aten.permute.default(qr, [0, 2, 1, 3])
kr: f32[{b}, 16, {h}, 64] = aten.reshape.default(k, [-1, 16, {h}, 64])
kh: f32[{b}, {h}, 16, 64] = aten.permute.default(kr, [0, 2, 1, 3])
vr: f32[{b}, 16, {h}, 64] = aten.reshape.default(v, [-1, 16, {h}, 64])
vh: f32[{b}, {h}, 16, 64] = aten.permute.default(vr, [0, 2, 1, 3])
a: f32[{b}, {h}, {t}, 64] = vitgraph.attention.default(qh, kh, vh, None, 0.125)  # attn
m: f32[{b}, {t}, {h}, 64] = aten.permute.default(a, [0, 2, 1, 3])
r: f32[{b}, {t}, {c}] = aten.reshape.default(m, [-1, {t}, {c}])
wo: f32[{c}, {c}] = weight("proj.weight")
o: f32[{b}, {t}, {c}] = aten.linear.default(r, wo, None)  # proj
y: f32[{b}, {t}, {c}] = aten.add.Tensor(s, o)
return_(y)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(unbuildable_why(A100) is not None, reason=f"no engine here: {unbuildable_why(A100)}"),
]


class _Noise:
    """Two inputs of a shape."""

    def __init__(self, *shape: int) -> None:
        self.values = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return 2

    def batches(self, size: int) -> Iterator[tuple[Tensor, None]]:
        yield from ((self.values[first : first + size], None) for first in range(0, 2, size))


def compiled(kind: str, queries: int, heads: int, batch: int, target: Target) -> Program:
    """An attention of these sizes over 16 keys, head dim 64, between its linears."""
    text = CROSS.format(b=batch, t=queries, h=heads, c=WIDTH * heads)
    return pipeline(STEPS[kind]).run(parse(text), Context(target, calibration=_Noise(KEYS, WIDTH * heads)))


def fused_kind(program: Program, folder: Path, target: Target) -> str | None:
    """The type of the one fused kernel that the builder makes of it; None where it makes none, or gives up."""
    lower(program, folder / "m.onnx")
    try:
        fused = build_engine(folder / "m.onnx", target).fused_attentions()
    except EngineBuildError:
        return None
    return next(iter(fused), None)


@pytest.mark.parametrize(
    ("kind", "queries", "heads", "batch", "fuses"),
    [
        ("int8", 1, 4, 1, False),
        ("int8", 2, 4, 1, True),
        ("int8", 16, 1, 1, False),
        ("int8", 16, 1, 2, False),  # ends the builder: mha_fusion.cpp
        ("int8", 16, 2, 1, True),
        ("fp16", 1, 4, 1, True),
        ("fp16", 16, 1, 1, False),
        ("fp16", 16, 1, 2, True),
    ],
)
def test_the_rule_says_what_the_builder_does(
    kind: str, queries: int, heads: int, batch: int, fuses: bool, tmp_path: Path
) -> None:
    free = A100.model_copy(update={"attention_kernels": {kind: AttentionKernel(source="a kernel for every size")}})
    assert (fused_kind(compiled(kind, queries, heads, batch, free), tmp_path, free) == kind) == fuses
    why = A100.attention_refusal(kind, WIDTH, KEYS, WIDTH, queries=queries, heads=heads, matrices=heads * batch)
    assert (why is None) == fuses


@pytest.mark.parametrize(("queries", "heads", "batch"), [(1, 4, 1), (16, 1, 2)])
def test_what_has_no_int8_kernel_is_fused_in_fp16_instead(queries: int, heads: int, batch: int, tmp_path: Path) -> None:
    assert fused_kind(compiled("int8", queries, heads, batch, A100), tmp_path, A100) in ("fp16", "fp32")
