"""N:M masks: valid for any shape and pattern, the largest stay, and what can't take the pattern is named."""

import re
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import body, hold_to_text, ledger_findings, run
from tests.passes.quantization.test_quantize import Noise, block
from vitgraph.errors import InputError
from vitgraph.ir.nm_keep import nm_keep
from vitgraph.ir.packing import Packing
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import pipeline
from vitgraph.passes.sparsity import layerwise, nm_scores
from vitgraph.passes.sparsity.nm_mask import NmMask
from vitgraph.passes.sparsity.nm_selection import damped, refit
from vitgraph.passes.sparsity.weight_fisher import weight_fisher
from vitgraph.targets.target import get_target

MLP = """
x: f32[N, 8] = input()
w1: f32[12, 8] = weight("fc1.weight")
b1: f32[12] = weight("fc1.bias")
h: f32[N, 12] = aten.linear.default(x, w1, b1)  # blocks.0.fc1
g: f32[N, 12] = aten.gelu.default(h)
w2: f32[8, 12] = weight("fc2.weight")
y: f32[N, 8] = aten.linear.default(g, w2, None)  # blocks.0.fc2
z: f32[N, 8] = aten.add.Tensor(x, y)
head: f32[3, 8] = weight("head.weight")
r: f32[N, 3] = aten.linear.default(z, head, None)  # head
return_(r)
"""
MASKED = """
x: f32[N, 8] = input()
w1: f32[12, 8] = weight("fc1.weight")
k1: bool[12, 8] = constant("fc1.weight_keep")
m1: f32[12, 8] = vitgraph.mask.default(w1, k1)
b1: f32[12] = weight("fc1.bias")
h: f32[N, 12] = aten.linear.default(x, m1, b1)
g: f32[N, 12] = aten.gelu.default(h)
w2: f32[8, 12] = weight("fc2.weight")
k2: bool[8, 12] = constant("fc2.weight_keep")
m2: f32[8, 12] = vitgraph.mask.default(w2, k2)
y: f32[N, 8] = aten.linear.default(g, m2, None)
z: f32[N, 8] = aten.add.Tensor(x, y)
head: f32[3, 8] = weight("head.weight")
r: f32[N, 3] = aten.linear.default(z, head, None)
return_(r)
"""


def sized(text: str, inputs: int, hidden: int) -> str:
    """The MLP with other widths than 8 and 12."""
    return re.sub(r"\b(8|12)\b", lambda found: str({"8": inputs, "12": hidden}[found[0]]), text)


def test_masks_the_linears_of_the_blocks() -> None:
    context = Context()
    result = run(NmMask(), parse(MLP), context)
    assert body(show(result)) == body(show(parse(MASKED)))
    assert [entry["masked"] for entry in ledger_findings(context)] == ["blocks.0.fc1", "blocks.0.fc2"]
    hold_to_text(result)
    again = Context()
    assert show(run(NmMask(), result, again)) == show(result)
    assert ["mask already" in refusal.why for refusal in again.refusals] == [True, True]


def test_the_masked_program_trains() -> None:
    result = run(NmMask(), parse(MLP))
    result.module(torch.randn(2, 8)).sum().backward()
    weight, keep = result.tensor("fc1.weight"), result.tensor("fc1.weight_keep")
    assert isinstance(weight, torch.nn.Parameter)
    assert weight.grad is not None
    assert bool((weight.grad[~keep] == 0).all())
    assert bool((weight.grad[keep] != 0).any())


@st.composite
def weights(draw: st.DrawFn) -> tuple[torch.Tensor, int, int]:
    m = draw(st.integers(2, 9))
    n = draw(st.integers(1, m - 1))
    shape = [draw(st.integers(1, 6)), m * draw(st.integers(1, 4)), *draw(st.lists(st.integers(1, 3), max_size=2))]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    values = torch.randn(shape, generator=generator)
    return (values if draw(st.booleans()) else values.round()), n, m  # rounded: many ties


@settings(max_examples=100, deadline=None)
@given(weights())
def test_every_mask_keeps_the_largest_n_of_each_m(case: tuple[torch.Tensor, int, int]) -> None:
    weight, n, m = case
    keep = nm_keep(weight.abs(), Packing(n, m))
    assert keep.shape == weight.shape
    assert keep.dtype == torch.bool
    groups = keep.movedim(1, -1).reshape(-1, m)
    sizes = weight.abs().movedim(1, -1).reshape(-1, m)
    assert bool((groups.sum(1) == n).all())
    least_kept = sizes.masked_fill(~groups, torch.inf).amin(1)
    most_dropped = sizes.masked_fill(groups, -1.0).amax(1)
    assert bool((least_kept >= most_dropped).all())


def test_of_equal_magnitudes_the_first_stays() -> None:
    weight = torch.tensor([[1.0, -1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]])
    assert torch.equal(
        nm_keep(weight.abs(), Packing(2, 4)), torch.tensor([[True, True, False, False, True, True, False, False]])
    )


def test_groups_run_along_the_input_channels_of_a_convolution() -> None:
    weight = torch.tensor([1.0, 4.0, 3.0, 2.0]).reshape(1, 4, 1, 1).expand(1, 4, 3, 3)
    assert torch.equal(nm_keep(weight.abs(), Packing(2, 4))[0, :, 1, 2], torch.tensor([False, True, True, False]))


@pytest.mark.parametrize(("n", "m"), [(4, 4), (5, 4)])
def test_a_pattern_that_is_none(n: int, m: int) -> None:
    with pytest.raises(InputError, match="0 < n < m"):
        run(NmMask(n=n, m=m), parse(MLP))


def test_no_site_can_take_it() -> None:
    with pytest.raises(InputError, match=r"no site .* can take 3:7.*K = 8 is no multiple of 7"):
        run(NmMask(n=3, m=7), parse(MLP))


def test_a_target_without_the_pattern() -> None:
    with pytest.raises(InputError, match="a100 runs no 1:4"):
        run(NmMask(n=1, m=4), parse(MLP), Context(get_target("a100")))


def test_records_the_sites_that_it_leaves() -> None:
    context = Context()
    result = run(NmMask(n=2, m=8), parse(MLP), context)  # K is 8 and 12
    assert [(refusal.site, refusal.why) for refusal in context.refusals] == [
        ("blocks.0.fc2", "K = 12 is no multiple of 8")
    ]
    assert "fc1.weight_keep" in result.tensors()
    assert "fc2.weight_keep" not in result.tensors()


def test_sites_of_one_path_are_judged_one_by_one() -> None:
    text = MLP.replace("blocks.0.fc2", "blocks.0.fc1")
    context = Context()
    result = run(NmMask(n=2, m=8), parse(text), context)
    assert len(context.refusals) == 1
    assert "fc1.weight_keep" in result.tensors()
    assert "fc2.weight_keep" not in result.tensors()


@pytest.mark.parametrize(
    ("options", "masked"),
    [
        (NmMask(only=("fc1",)), ["fc1"]),
        (NmMask(skip=("fc1",)), ["fc2"]),
        (NmMask(only=("head",)), ["head"]),
        (NmMask(only=("blocks.*",), skip=("k>8",)), ["fc1"]),
    ],
)
def test_selectors(options: NmMask, masked: list[str]) -> None:
    tensors = run(options, parse(MLP)).tensors()
    assert [name.split(".")[0] for name in tensors if name.endswith("_keep")] == masked


def test_a_selector_that_matches_nothing() -> None:
    with pytest.raises(InputError, match="matches no site"):
        run(NmMask(only=("blocks.7.*",)), parse(MLP))


def test_a_computed_weight_takes_no_mask() -> None:
    text = MLP.replace("linear.default(x, w1, b1)", "linear.default(x, c1, b1)")
    text = text.replace("b1: f32[12]", "c1: f32[12, 8] = aten.tanh.default(w1)\nb1: f32[12]")
    context = Context()
    result = run(NmMask(), parse(text), context)
    (refusal,) = context.refusals
    assert "computed" in refusal.why
    assert "fc1.weight_keep" not in result.tensors()


def test_stops_when_the_fuel_is_used_up() -> None:
    result = run(NmMask(), parse(MLP), Context(fuel=2))  # one unit is the pipeline's
    assert "fc1.weight_keep" in result.tensors()
    assert "fc2.weight_keep" not in result.tensors()


def test_pairs_for_a_target_with_sparse_int4() -> None:
    text = MLP.replace("12", "16")
    keep = run(NmMask(group_size=2), parse(text), Context(get_target("a100"))).tensor("fc2.weight_keep")
    pairs = keep.reshape(8, -1, 4, 2)
    assert bool((pairs.all(-1) == pairs.any(-1)).all())
    assert bool((pairs.any(-1).sum(-1) == 2).all())
    with pytest.raises(InputError, match="h200 runs no 4:8 in pairs"):
        run(NmMask(group_size=2), parse(text), Context(get_target("h200")))
    with pytest.raises(InputError, match="K = 12 is no multiple of 8"):
        run(NmMask(group_size=2, only=("fc2",)), parse(MLP))


WIDE = sized(MLP, 16, 32)


def test_rows_of_a_tile_share_their_columns() -> None:
    context = Context(get_target("a100"))
    result = run(NmMask(v=16, n=2, m=8), parse(WIDE), context)
    assert body(show(result)) == body(show(parse(sized(MASKED, 16, 32))))
    hold_to_text(result)
    for entry, fc in zip(ledger_findings(context), ("fc1", "fc2"), strict=True):
        assert entry == {"masked": f"blocks.0.{fc}", "n": 2, "m": 8, "v": 16, "weights_lost": entry["weights_lost"]}
    keep = result.tensor("fc1.weight_keep").reshape(2, 16, 2, 8)
    assert bool((keep.sum(-1) == 2).all())
    assert bool((keep.any(1).sum(-1) == 4).all())
    plain = run(NmMask(n=2, m=8), parse(WIDE)).tensor("fc1.weight_keep").reshape(2, 16, 2, 8)
    assert bool((plain.any(1).sum(-1) > 4).any()), "without v the rows choose for themselves"


def test_a_target_that_multiplies_2_of_4_takes_tiles_of_it_and_no_other() -> None:
    with pytest.raises(InputError, match="rtx-turing runs no 16:2:8 pattern"):
        run(NmMask(v=16, n=2, m=8), parse(WIDE), Context(get_target("rtx-turing")))
    with pytest.raises(InputError, match="a100 runs no 16:1:8 pattern"):
        run(NmMask(v=16, n=1, m=8), parse(WIDE), Context(get_target("a100")))
    with pytest.raises(InputError, match="a100 runs no 2:8 pattern"):
        run(NmMask(n=2, m=8), parse(WIDE), Context(get_target("a100")))


def test_rows_that_are_no_whole_tiles_are_named() -> None:
    context = Context()
    run(NmMask(v=32, n=2, m=8), parse(WIDE), context)
    assert [(refusal.site, refusal.why) for refusal in context.refusals] == [
        ("blocks.0.fc2", "N = 16 is no multiple of 32")
    ]


@pytest.mark.parametrize("options", [NmMask(v=16), NmMask(v=16, n=4, m=8)])
def test_a_tile_that_is_none(options: NmMask) -> None:
    with pytest.raises(InputError, match=r"v=\d+ n=\d m=\d: .*write v=64 n=2 m=8"):
        run(options, parse(WIDE))


Score = Literal["magnitude", "wanda", "sparsegpt", "cap"]
SCORES: tuple[Score, ...] = ("magnitude", "wanda", "sparsegpt", "cap")
UPDATED = (
    MASKED.replace("fc1.weight\"", "fc1.weight_updated\"").replace("fc2.weight\"", "fc2.weight_updated\"")
)  # fmt: skip


class Mixed(Noise):
    """Channels that depend on one another and differ in size, so that there is something to learn from images."""

    def __init__(self, *shape: int, **options: Any) -> None:
        super().__init__(shape, **options)
        mixing = torch.randn(shape[-1], shape[-1], generator=torch.Generator().manual_seed(4))
        self.pixels = self.pixels @ (mixing * torch.logspace(-1, 1, shape[-1]))


def seen(count: int = 64, scratch: Path | None = None, **options: Any) -> Context:
    return Context(calibration=Mixed(8, count=count, **options), scratch=scratch)


@pytest.mark.parametrize("score", ["sparsegpt", "cap"])
def test_updated_weights_stand_after_the_mask(score: Score) -> None:
    context = seen()
    result = run(NmMask(score=score), parse(MLP), context)
    assert body(show(result)) == body(show(parse(UPDATED)))
    hold_to_text(result)
    assert all(0 < entry["output_lost"] < 1 for entry in ledger_findings(context))
    assert isinstance(result.tensor("fc1.weight_updated"), torch.nn.Parameter)


@pytest.mark.parametrize("score", ["magnitude", "wanda"])
def test_without_an_update_the_weights_stay_and_only_the_mask_is_new(score: Score) -> None:
    assert body(show(run(NmMask(score=score), parse(MLP), seen()))) == body(show(parse(MASKED)))


def error(masked: Program, dense: Program) -> float:
    """Of the output, on images that were not seen."""
    x = Mixed(8, count=512).pixels[256:]
    return float((masked.run(x) - dense.run(x)).norm() / dense.run(x).norm())


def test_what_it_knows_of_the_inputs_makes_it_better() -> None:
    dense = parse(MLP.replace("12", "32"))
    errors = {
        (score, fitted): error(run(NmMask(score=score, refit=fitted), dense, seen(256)), dense)
        for score in SCORES
        for fitted in (False, True)
    }
    assert errors["wanda", False] < errors["magnitude", False]
    assert errors["sparsegpt", False] < 0.8 * errors["wanda", False]
    for score in SCORES:
        assert errors[score, True] < errors[score, False]


def test_wanda_keeps_a_small_weight_on_a_large_input() -> None:
    dense = parse(MLP)
    images = Noise((8,), count=16)
    images.pixels[:, 3] *= 1e4
    masked = run(NmMask(score="wanda", only=("fc1",)), dense, Context(calibration=images))
    assert bool(masked.tensor("fc1.weight_keep")[:, 3].all())
    assert not bool(run(NmMask(only=("fc1",)), dense).tensor("fc1.weight_keep")[:, 3].all())


def test_a_layer_is_judged_by_what_masked_layers_give_it() -> None:
    """fc2 again by hand, on the output of the masked fc1; on that of the dense one it comes out otherwise."""
    dense, images = parse(MLP), Mixed(8, count=64)
    masked = run(NmMask(refit=True), dense, Context(calibration=images))
    x, weight = images.pixels, dense.tensor("fc2.weight").detach().double()
    bias = dense.tensor("fc1.bias")
    before = masked.tensor("fc1.weight_updated") * masked.tensor("fc1.weight_keep")
    fitted = list[torch.Tensor]()
    for w1 in (before, dense.tensor("fc1.weight")):
        hidden = torch.nn.functional.gelu(x @ w1.T + bias).double()
        gram = damped(hidden.T @ hidden, NmMask().percdamp)
        fitted.append(refit(masked.tensor("fc2.weight_keep"), gram, weight @ gram).float())
    torch.testing.assert_close(masked.tensor("fc2.weight_updated"), fitted[0], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(masked.tensor("fc2.weight_updated"), fitted[1], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("score", SCORES)
def test_the_ledger_says_what_is_lost_on_the_inputs_that_a_linear_gets(score: Score) -> None:
    dense, context = parse(MLP), seen()
    masked = run(NmMask(score=score, refit=True), dense, context)
    x, bias = Mixed(8, count=64).pixels, dense.tensor("fc1.bias").detach()
    now = {
        name: masked.tensor(f"{name}_updated") * masked.tensor(f"{name}_keep") for name in ("fc1.weight", "fc2.weight")
    }
    inputs = (x, torch.nn.functional.gelu(x @ now["fc1.weight"].detach().T + bias))
    for rows, (name, weight), entry in zip(inputs, now.items(), ledger_findings(context), strict=True):
        wanted = rows @ dense.tensor(name).detach().T
        lost = (rows @ weight.detach().T - wanted).square().sum() / wanted.square().sum()
        assert entry["output_lost"] == pytest.approx(float(lost), rel=1e-3)


@pytest.mark.parametrize("score", SCORES[:3])  # cap draws noise batch by batch
def test_the_same_however_the_images_come(score: Score) -> None:
    """In chunks of any size; one at a time or in a fixed batch, whose last is filled up."""
    step = NmMask(score=score, refit=True)
    wanted = run(step, parse(MLP), seen(10))
    for chunk in (1, 3):
        other = run(step, parse(MLP), seen(10, chunk=chunk))
        for name, tensor in wanted.tensors().items():
            assert torch.equal(tensor, other.tensor(name)), (chunk, name)
    fixed = run(step, parse(MLP.replace("[N", "[4")), seen(10))
    for name, tensor in wanted.tensors().items():
        torch.testing.assert_close(tensor, fixed.tensor(name), rtol=1e-4, atol=1e-5, msg=name)


def test_an_attention_and_its_reshapes_run_in_parts() -> None:
    images = Mixed(5, 32, count=24)
    images.pixels /= images.pixels.std((0, 1))
    text = block()
    result = run(NmMask(score="sparsegpt", refit=True), parse(text), Context(calibration=images))
    assert [name for name in result.tensors() if name.endswith("_keep")] == ["qkv.weight_keep", "proj.weight_keep"]
    magnitude = run(NmMask(), parse(text))
    x, dense = images.pixels, parse(text)
    assert (result.run(x) - dense.run(x)).norm() < 0.7 * (magnitude.run(x) - dense.run(x)).norm()


def test_started_again_it_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, whole = NmMask(score="sparsegpt"), run(NmMask(score="sparsegpt"), parse(TWO_BRANCHES), seen())
    chosen = list[str]()
    before = layerwise._chosen  # pyright: ignore[reportPrivateUsage]

    def stops(stream: Any, segment: Any, *rest: Any) -> Any:
        if chosen:
            raise KeyboardInterrupt
        chosen.append(segment.end.name)
        return before(stream, segment, *rest)

    monkeypatch.setattr(layerwise, "_chosen", stops)
    with pytest.raises(KeyboardInterrupt):
        run(step, parse(TWO_BRANCHES), seen(scratch=tmp_path))
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(KeyboardInterrupt):  # other options are other work: nothing of it is there
        run(NmMask(score="sparsegpt", percdamp=0.1), parse(TWO_BRANCHES), seen(scratch=tmp_path))
    chosen.clear()
    resumed = run(step, parse(TWO_BRANCHES), seen(scratch=tmp_path))
    assert len(chosen) == 1
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, resumed.tensor(name)), name


TWO_BRANCHES = """
x: f32[N, 8] = input()
w1: f32[8, 8] = weight("a.proj.weight")
h1: f32[N, 8] = aten.gelu.default(x)
y1: f32[N, 8] = aten.linear.default(h1, w1, None)  # a.proj
r1: f32[N, 8] = aten.add.Tensor(x, y1)
w2: f32[8, 8] = weight("b.proj.weight")
h2: f32[N, 8] = aten.gelu.default(r1)
y2: f32[N, 8] = aten.linear.default(h2, w2, None)  # b.proj
r2: f32[N, 8] = aten.add.Tensor(r1, y2)
return_(r2)
"""


def test_without_images() -> None:
    for options in (NmMask(score="wanda"), NmMask(refit=True)):
        assert options.needs_images
        with pytest.raises(InputError, match=r"no calibration images.*--calibration-data"):
            run(options, parse(MLP))
    assert not NmMask().needs_images


CONV = """
x: f32[N, 8, 4, 4] = input()
w: f32[8, 8, 1, 1] = weight("pw.weight")
a: f32[N, 8, 4, 4] = aten.relu.default(x)
y: f32[N, 8, 4, 4] = aten.conv2d.default(a, w, None, [1, 1], [0, 0], [1, 1], 1)  # pw
z: f32[N, 8, 4, 4] = aten.relu.default(y)
return_(z)
"""


def test_a_convolution_takes_a_mask_by_magnitude_alone() -> None:
    with pytest.raises(InputError, match="it is a convolution"):
        run(NmMask(score="sparsegpt", only=("pointwise",)), parse(CONV), Context(calibration=Noise((8, 4, 4))))
    assert "pw.weight_keep" in run(NmMask(only=("pointwise",)), parse(CONV)).tensors()


def test_several_inputs() -> None:
    text = MLP.replace("return_(r)", "u: f32[N, 3] = input()\ns: f32[N, 3] = aten.add.Tensor(r, u)\nreturn_(s)")
    with pytest.raises(InputError, match="several inputs"):
        run(NmMask(score="wanda"), parse(text), seen())


def test_a_linear_beside_a_second_value() -> None:
    """Two outputs: both are alive to the end, so images can't be cut off after the first."""
    text = MLP.replace("return_(r)", "return_([r, g])")
    context = seen()
    result = run(NmMask(score="wanda"), parse(text), context)
    assert {refusal.site for refusal in context.refusals} == {"blocks.0.fc1", "blocks.0.fc2"}
    assert all("not on a single-tensor cut" in refusal.why for refusal in context.refusals)
    assert not [name for name in result.tensors() if name.endswith("_keep")]


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(SCORES), st.booleans(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.data())
def test_every_score_gives_a_valid_pattern(
    score: Score, fitted: bool, tiles: int, groups: int, group_size: int, data: st.DataObject
) -> None:
    m = data.draw(st.sampled_from([2, 4, 6, 8]))
    v = data.draw(st.sampled_from([1, 2, 4])) if m > 4 else 1
    pattern = Packing(data.draw(st.integers(1, m - 1 if v == 1 else 3)), m, group_size, v)
    text = sized(MLP, groups * pattern.width, v * tiles)
    options = NmMask(n=pattern.n, m=m, group_size=group_size, v=v, score=score, refit=fitted, only=("fc1",))
    images = Context(calibration=Mixed(groups * pattern.width, count=16))
    result = run(options, parse(text), images)
    keep = result.tensor("fc1.weight_keep")
    assert pattern.holds(keep)
    assert bool((keep.sum(1) == groups * group_size * pattern.n).all()), "no fewer either"
    again = run(options, parse(text), images)
    assert all(torch.equal(each, again.tensor(name)) for name, each in result.tensors().items())


def test_killed_between_fisher_and_masks_it_need_not_look_at_the_loss_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, whole = NmMask(score="cap"), run(NmMask(score="cap"), parse(MLP), seen())
    asked = list[int]()
    before = weight_fisher

    def counted(program: Program, sites: Any, *rest: Any) -> Any:
        asked.append(len(sites))
        for position, found in enumerate(before(program, sites, *rest)):
            yield found
            if len(asked) == 1 and position == 0:
                raise KeyboardInterrupt

    monkeypatch.setattr(nm_scores, "weight_fisher", counted)
    with pytest.raises(KeyboardInterrupt):
        run(step, parse(MLP), seen(scratch=tmp_path))
    resumed = run(step, parse(MLP), seen(scratch=tmp_path))
    assert asked == [2, 1]
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, resumed.tensor(name)), name


@pytest.mark.parametrize("score", SCORES)
def test_the_pattern_holds_in_the_codes(score: Score) -> None:
    """From the mask through INT8 rounding to the constants of the engine."""
    steps = f"nm-mask{{score={score} refit=true}},quantize{{attention=false}},materialize"
    result = pipeline(steps).run(parse(MLP), seen())
    codes = [tensor for tensor in result.tensors().values() if tensor.dtype == torch.int8]
    assert [list(each.shape) for each in codes] == [[12, 8], [8, 12]]
    for each in codes:
        assert bool(((each != 0).reshape(-1, 4).sum(1) <= 2).all())
        assert bool(((each != 0).reshape(-1, 4).sum(1) == 2).any())
