"""Where pairs go, which scales they get, and what stays in floating point and why."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from tests.harness import body, hold_to_text, random_inputs, run
from vitgraph.errors import InputError
from vitgraph.ir import dialect
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.pass_manager.numerics import record, site_snr
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes.quantization.quantize import Quantize
from vitgraph.passes.sparsity.nm_mask import NmMask
from vitgraph.quantizing.scales import METHODS, Method, WeightMethod
from vitgraph.targets.target import get_target

BLOCK = """
x: f32[N, {t}, {c}] = input()
w: f32[{c3}, {c}] = weight("qkv.weight")
b: f32[{c3}] = weight("qkv.bias")
qkv: f32[N, {t}, {c3}] = aten.linear.default(x, w, b)  # attn.qkv
r: f32[N, {t}, 3, 2, {d}] = aten.reshape.default(qkv, [-1, {t}, 3, 2, {d}])
p: f32[3, N, 2, {t}, {d}] = aten.permute.default(r, [2, 0, 3, 1, 4])
q: f32[N, 2, {t}, {d}] = aten.select.int(p, 0, 0)
k: f32[N, 2, {t}, {d}] = aten.select.int(p, 0, 1)
v: f32[N, 2, {t}, {d}] = aten.select.int(p, 0, 2)
a: f32[N, 2, {t}, {d}] = vitgraph.attention.default(q, k, v, None, 0.25)  # attn
s: f32[N, {t}, 2, {d}] = aten.permute.default(a, [0, 2, 1, 3])
m: f32[N, {t}, {c}] = aten.reshape.default(s, [-1, {t}, {c}])
w2: f32[{c}, {c}] = weight("proj.weight")
o: f32[N, {t}, {c}] = aten.linear.default(m, w2, None)  # attn.proj
y: f32[N, {t}, {c}] = aten.add.Tensor(x, o)
return_(y)
"""


def block(tokens: int = 5, head_dim: int = 16) -> str:
    return BLOCK.format(t=tokens, d=head_dim, c=2 * head_dim, c3=6 * head_dim)


def with_pairs(*, attention: bool, outputs: bool = False) -> str:
    """The block after quantizing, from its text before."""
    text = block().replace("linear.default(x, w, b)", "linear.default(xq, wq, b)")
    text = text.replace("linear.default(m, w2, None)", "linear.default(mq, w2q, None)")
    text = text.replace(
        "w: f32",
        'xs: f32[] = constant("attn.qkv.input_scale")\nxq: f32[N, 5, 32] = vitgraph.fake_quantize.default(x, xs, None)\nw: f32',
    )
    text = text.replace(
        "b: f32",
        'ws: f32[96] = constant("qkv.weight_scale")\nwq: f32[96, 32] = vitgraph.fake_quantize.default(w, ws, 0)\nb: f32',
    )
    text = text.replace(
        "w2: f32",
        'ms: f32[] = constant("attn.proj.input_scale")\nmq: f32[N, 5, 32] = vitgraph.fake_quantize.default(m, ms, None)\n'
        "w2: f32",
    )
    text = text.replace(
        "o: f32",
        'w2s: f32[32] = constant("proj.weight_scale")\nw2q: f32[32, 32] = vitgraph.fake_quantize.default(w2, w2s, 0)\no: f32',
    )
    if attention:
        text = text.replace(
            "r: f32",
            'qs: f32[] = constant("attn.qkv.output_scale")\n'
            "qkvq: f32[N, 5, 96] = vitgraph.fake_quantize.default(qkv, qs, None)\nr: f32",
        )
        text = text.replace("reshape.default(qkv,", "reshape.default(qkvq,")
        text = text.replace("a: f32", 'ps: f32[] = constant("attn.probability_scale")\na: f32')
        text = text.replace("None, 0.25)", "None, 0.25, ps)")
    if outputs:
        text = text.replace(
            "y: f32",
            'os: f32[] = constant("attn.proj.output_scale")\noq: f32[N, 5, 32] = vitgraph.fake_quantize.default(o, os, None)\n'
            "y: f32",
        )
        text = text.replace("add.Tensor(x, o)", "add.Tensor(x, oq)")
    return text


class Noise:
    """Seeded images of an input's shape, given out in chunks of any size."""

    def __init__(self, shape: tuple[int, ...], count: int = 9, chunk: int | None = None) -> None:
        self.pixels = torch.randn(count, *shape, generator=torch.Generator().manual_seed(3))
        self.chunk = chunk

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self, size: int) -> Iterator[tuple[Tensor, None]]:
        size = self.chunk or size
        for start in range(0, len(self), size):
            yield self.pixels[start : start + size], None


def context(tokens: int = 5, channels: int = 32, target: str | None = "a100", **images: Any) -> Context:
    return Context(get_target(target) if target else None, calibration=Noise((tokens, channels), **images))


def hold_to_floor(step: Quantize, before: Program, after: Program) -> None:
    inputs = random_inputs(before)
    ratios = site_snr(after, inputs, *record(before, inputs))
    assert min(ratios.values()) >= step.floor_db, ratios


@pytest.mark.parametrize(
    ("step", "after"),
    [
        (Quantize(), with_pairs(attention=True)),
        (Quantize(attention=False), with_pairs(attention=False)),
        (Quantize(outputs=True), with_pairs(attention=True, outputs=True)),
    ],
)
def test_places_pairs(step: Quantize, after: str) -> None:
    before = parse(block())
    result = run(step, before, context())
    assert body(show(result)) == body(show(parse(after))), show(result)
    hold_to_floor(step, before, result)
    hold_to_text(result)
    again = context()
    assert show(run(step, result, again)) == show(result)
    assert all("already" in r.why or "not asked" in r.why for r in again.refusals)


def test_a_flipped_scale_would_fall_under_the_floor() -> None:
    before = parse(block())
    result = run(Quantize(), before, context())
    result.tensor("attn.qkv.output_scale").mul_(1000.0)  # every value rounds to zero
    with pytest.raises(AssertionError):
        hold_to_floor(Quantize(), before, result)


SEPARATE = """
x: f32[N, 5, 16] = input()
wq: f32[16, 16] = weight("q.weight")
q: f32[N, 5, 16] = aten.linear.default(x, wq, None)  # q
wk: f32[16, 16] = weight("k.weight")
k: f32[N, 5, 16] = aten.linear.default(x, wk, None)  # k
wv: f32[16, 16] = weight("v.weight")
v: f32[N, 5, 16] = aten.linear.default(x, wv, None)  # v
a: f32[N, 5, 16] = vitgraph.attention.default(q, k, v, None, 0.25)  # attn
w: f32[16, 16] = weight("proj.weight")
y: f32[N, 5, 16] = aten.linear.default(a, w, None)  # head
return_([y, x])
"""


def test_linears_that_read_one_value_share_its_pair() -> None:
    result = run(Quantize(only=("q", "k", "v", "head")), parse(SEPARATE), context(channels=16, target=None))
    pairs = [n for n in result.calls(dialect.fake_quantize) if n.args[2] is None]
    assert len(pairs) == 5  # x; q, k and v; the attention
    shared = [n for n in pairs if n.args[0] is result.inputs[0]]
    assert len(shared) == 1
    assert [user.meta["path"] for user in shared[0].users] == ["q", "k", "v"]
    assert result.inputs[0] in result.output.args[0]  # type: ignore[operator]  # others read the value itself


@pytest.mark.parametrize(
    ("tokens", "head_dim", "step", "why"),
    [
        (5, 24, Quantize(), "head dim 24"),
        (577, 16, Quantize(), "577 tokens"),
        (5, 16, Quantize(skip=("proj",)), "does not go into a quantized linear"),
        (5, 16, Quantize(attention=False), "not asked for"),
        (5, 16, Quantize(skip=("attention",)), "skip=attention"),
        (5, 16, Quantize(skip=("attn",)), "skip=attn"),
        (5, 16, Quantize(skip=("attn:attention",)), "skip=attn:attention"),
        (1, 16, Quantize(), "1 query, fewer than 2"),
    ],
)
def test_an_attention_that_stays_in_floating_point(tokens: int, head_dim: int, step: Quantize, why: str) -> None:
    recorded = context(tokens, 2 * head_dim, count=1)
    result = run(step, parse(block(tokens, head_dim)), recorded)
    assert [r.site for r in recorded.refusals] == ["attn"]
    assert why in recorded.refusals[0].why
    (site,) = result.calls(dialect.attention)
    assert len(site.args) == 5
    assert not [name for name in result.tensors() if "qkv.output_scale" in name or "probability" in name]
    assert "attn.qkv.input_scale" in result.tensors()  # the linears are quantized all the same


def test_only_names_linears_and_leaves_attentions_to_follow_them() -> None:
    with pytest.raises(InputError, match="'attention' matches no site"):
        run(Quantize(only=("attention",)), parse(block()), context())
    result = run(Quantize(only=("qkv", "proj"), skip=("n>=96",)), parse(block()), context())
    assert "attn.probability_scale" in result.tensors()  # a bound is one on weights
    assert "qkv.weight_scale" not in result.tensors()


def test_q_k_and_v_that_no_linear_gives_are_quantized_where_they_are_read() -> None:
    text = block().replace("vitgraph.attention.default(q,", "vitgraph.attention.default(n,")
    text = text.replace("a: f32", "n: f32[N, 2, 5, 16] = aten.tanh.default(q)\na: f32")
    result = run(Quantize(), parse(text), context())
    (site,) = result.calls(dialect.attention)
    q = site.args[0]
    assert isinstance(q, torch.fx.Node)
    assert q.target is dialect.fake_quantize
    assert q.args[0].target is aten.tanh.default  # type: ignore[union-attr]


def test_a_value_that_linear_and_attention_read_keeps_both_readers() -> None:
    text = SEPARATE.replace("vitgraph.attention.default(q, k, v,", "vitgraph.attention.default(q, k, x,")
    result = run(Quantize(only=("q", "k", "head")), parse(text), context(channels=16, target=None))
    (pair,) = [n for n in result.calls(dialect.fake_quantize) if n.args[0] is result.inputs[0]]
    assert sorted(user.meta["path"] for user in pair.users) == ["attn", "k", "q"]


@pytest.mark.parametrize("weights", ["minmax", "mse", "hessian"])
def test_every_weight_lies_on_its_grid(weights: WeightMethod) -> None:
    result = run(Quantize(weights=weights), parse(block()), context())
    pairs = [n for n in result.calls(dialect.fake_quantize) if n.args[2] == 0]
    assert len(pairs) == 2
    for pair in pairs:
        source, scale = (result.constant(arg) for arg in pair.args[:2])
        assert source is not None
        assert scale is not None
        assert scale.shape == source.shape[:1]
        step = scale.unsqueeze(1)
        value = dialect.fake_quantize(source, scale, 0)
        grid = value / step
        assert torch.equal(grid.round().clamp(-128, 127) * step, value)
        inside = source.abs() <= 127.5 * step
        assert bool(((value - source).abs() <= step * 0.5001)[inside].all())
        assert weights != "minmax" or bool(inside.all())
        assert bool((grid.abs().amax(1) >= 126.5).all())  # and the grid is used to its end


def test_scales_of_masked_weights_are_chosen_for_what_stays() -> None:
    program = parse(block())
    with torch.no_grad():
        program.tensor("qkv.weight")[:, 0] = 0.001  # small, and kept all the same where its neighbours are smaller
    masked = run(NmMask(n=1, m=4), program)
    masked.tensor("qkv.weight_keep")[0] = False
    masked.tensor("qkv.weight_keep")[0, 0] = True
    result = run(Quantize(weights="minmax"), masked, context())
    assert float(result.tensor("qkv.weight_scale")[0]) == pytest.approx(0.001 / 127)


@pytest.mark.parametrize("method", METHODS)
def test_scales_do_not_depend_on_the_batches_the_images_come_in(method: Method) -> None:
    runs = [run(Quantize(method=method), parse(block()), context(chunk=size)).tensors() for size in (1, 3, 8)]
    names = [name for name in runs[0] if name.endswith("_scale")]
    assert len(names) == 6
    for name in names:
        for other in runs[1:]:
            torch.testing.assert_close(other[name], runs[0][name], rtol=1e-6, atol=0.0)


def test_min_max_scales_are_the_largest_magnitudes() -> None:
    given = context()
    result = run(Quantize(method="minmax"), parse(block()), given)
    assert isinstance(given.calibration, Noise)
    assert float(result.tensor("attn.qkv.input_scale")) == pytest.approx(
        float(given.calibration.pixels.abs().max()) / 127
    )
    assert 0 < float(result.tensor("attn.probability_scale")) <= 1 / 127
    assert given.timings["calibration"] > 0


def test_asks_for_images() -> None:
    with pytest.raises(InputError, match="no calibration images"):
        run(Quantize(), parse(block()))
    with pytest.raises(InputError, match="at least one image"):
        run(Quantize(), parse(block()), context(count=0))


def test_one_scale_a_weight() -> None:
    result = run(Quantize(per_tensor=True), parse(block()), context())
    pairs = [n for n in result.calls(dialect.fake_quantize) if str(getattr(n.args[0], "target", "")).endswith("weight")]
    assert len(pairs) == 2
    for pair in pairs:
        source, scale = (result.constant(arg) for arg in pair.args[:2])
        assert source is not None
        assert scale is not None
        assert (scale.shape, pair.args[2]) == ((), None)
        assert float(scale) == pytest.approx(float(source.detach().abs().max()) / 127)
    with pytest.raises(InputError, match="one scale or one a group"):
        run(Quantize(per_tensor=True, group=8), parse(block()), context())


def test_a_weight_is_rounded_for_what_it_multiplies() -> None:
    """Of an input channel that is nearly zero the weights hardly matter, however large: they may be clipped."""
    text = """
x: f32[N, 32] = input()
s: f32[32] = constant("s")
t: f32[N, 32] = aten.mul.Tensor(x, s)
w: f32[8, 32] = weight("fc.weight")
y: f32[N, 8] = aten.linear.default(t, w, None)  # fc
return_(y)
"""
    size, probe = torch.ones(32), torch.randn(64, 32)
    weight = torch.rand(8, 32) - 0.5
    weight[:, 0], size[0] = 0.9, 1e-3
    program = parse(text, {"s": size, "fc.weight": weight})
    errors = dict[str, float]()
    for method in get_args(WeightMethod):
        step = Quantize(weights=method, weight_format="int4", activation_format="float", only=("fc",))
        result = run(step, program, Context(calibration=Noise((32,))))
        errors[method] = float((result.run(probe) - program.run(probe)).square().mean())
    assert errors["hessian"] < 0.8 * errors["mse"]
    with pytest.raises(InputError, match="no calibration images"):
        run(Quantize(weights="hessian", activation_format="float", only=("fc",)), program)


def test_a_computed_weight_is_left_and_named() -> None:
    text = block().replace("linear.default(x, w, b)", "linear.default(x, t, b)")
    text = text.replace("b: f32", "t: f32[96, 32] = aten.tanh.default(w)\nb: f32")
    recorded = context()
    result = run(Quantize(), parse(text), recorded)
    assert [(r.site, r.why) for r in recorded.refusals] == [("attn.qkv", "its weight is computed, not a constant")]
    assert "attn.proj.input_scale" in result.tensors()


def test_an_attention_over_channels_stays_in_floating_point() -> None:
    """XCiT's: its q, k and v are `[B, heads, channels, tokens]`, turned round by the permute of what the linear gave."""
    turned = block(tokens=16).replace("[2, 0, 3, 1, 4]", "[2, 0, 3, 4, 1]").replace("[0, 2, 1, 3]", "[0, 3, 1, 2]")
    recorded = context(tokens=16)
    run(Quantize(), parse(turned), recorded)
    assert [(each.site, each.why.split(",")[0]) for each in recorded.refusals] == [("attn", "it attends to channels")]


def test_stops_when_the_fuel_is_used_up() -> None:
    given = context()
    given.fuel = 2  # one unit is the pipeline's
    result = run(Quantize(), parse(block()), given)
    assert {name for name in result.tensors() if name.endswith("_scale")} == {
        "attn.qkv.input_scale",
        "qkv.weight_scale",
    }


GROUPED = """
x: f32[N, 4, 6, 6] = input()
d: f32[4, 1, 3, 3] = weight("dw.weight")
a: f32[N, 4, 6, 6] = aten.conv2d.default(x, d, None, [1, 1], [1, 1], [1, 1], 4)  # dw
g: f32[4, 2, 1, 1] = weight("gr.weight")
b: f32[N, 4, 6, 6] = aten.conv2d.default(a, g, None, [1, 1], [0, 0], [1, 1], 2)  # gr
p: f32[4, 4, 1, 1] = weight("pw.weight")
c: f32[N, 4, 6, 6] = aten.conv2d.default(b, p, None, [1, 1], [0, 0], [1, 1], 1)  # pw
return_(c)
"""


@pytest.mark.parametrize("dense", [False, True])
def test_convolutions_in_groups(dense: bool) -> None:
    given = Context(calibration=Noise((4, 6, 6)))
    before = parse(GROUPED)
    result = run(Quantize(only=("*",), dense=dense), before, given)
    assert [refusal.site for refusal in given.refusals] == (["dw", "gr"] if dense else [])
    weights = [name for name in result.tensors() if name.endswith("weight_scale")]
    assert weights == [f"{site}.weight_scale" for site in (["pw"] if dense else ["dw", "gr", "pw"])]
    hold_to_floor(Quantize(), before, result)
