import re

import pytest
import torch

from tests.harness import body, random_inputs, run
from tests.passes.quantization.test_quantize import Noise, block, context
from vitgraph.analysis.channel_flow import channels_at
from vitgraph.analysis.sites import find_sites
from vitgraph.errors import InputError
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import pipeline
from vitgraph.passes.quantization.balance_attention import BalanceAttention
from vitgraph.quantizing.calibration import observe_channels

BLOCK = block().replace("o: f32", 'b2: f32[32] = weight("proj.bias")\no: f32').replace("w2, None)", "w2, b2)")


def uneven() -> Program:
    """A block whose q, k and v have channels of very different ranges, and keys and values far from zero."""
    drawn = parse(BLOCK).tensors()
    generator = torch.Generator().manual_seed(5)
    weight = drawn["qkv.weight"].detach() * torch.exp(2 * torch.randn(96, 1, generator=generator))
    bias = torch.randn(96, generator=generator) * 3
    return parse(BLOCK, {**drawn, "qkv.weight": weight, "qkv.bias": bias})


def operand_ranges(program: Program, images: Noise) -> list[torch.Tensor]:
    """Range and mean of each channel of q, k and v, `[3]` vectors over heads · head_dim."""
    (site,) = find_sites(program).attentions
    (qkv,) = (node for node in program.calls(aten.linear.default) if node.meta["path"] == "attn.qkv")
    (seen,) = observe_channels(program, [qkv], images)
    places = [channels_at(program, qkv, operand)[0, :, 0].flatten() for operand in site.node.args[:3]]  # type: ignore[arg-type]
    return [torch.stack([seen.largest[rows], seen.mean[rows]]) for rows in places]


def test_the_numbers_stay_and_the_graph_too() -> None:
    program, given = uneven(), context()
    balanced = run(BalanceAttention(), program, given)
    assert given.refusals == []
    renamed = re.sub(r'weight\("((qkv|proj)\.\w+)"\)', r'weight("\1_balanced")', BLOCK)
    assert body(show(balanced)) == body(show(parse(renamed)))
    inputs = random_inputs(program)
    torch.testing.assert_close(balanced.run(*inputs), program.run(*inputs), rtol=1e-4, atol=1e-4)


def test_afterwards_the_three_have_one_range_and_no_mean() -> None:
    images = Noise((5, 32))
    balanced = run(BalanceAttention(alpha=1.0), uneven(), Context(calibration=images))
    q, k, v = operand_ranges(balanced, images)
    torch.testing.assert_close(q[0], k[0], rtol=1e-3, atol=1e-4)  # channel by channel
    torch.testing.assert_close(v[0], q[0].amax().expand_as(v[0]), rtol=1e-3, atol=1e-4)  # alpha = 1: all alike
    for mean in (k[1], v[1]):
        assert mean.abs().amax() < 1e-3 * q[0].amax()


def test_one_scale_for_all_then_costs_less() -> None:
    """The point of it; without the pass the same quantizers lose several times as much."""
    program = uneven()
    inputs = random_inputs(program)
    wanted = program.run(*inputs)

    def error(steps: str) -> float:
        found = pipeline(steps).run(program, context())
        return float((found.run(*inputs) - wanted).norm() / wanted.norm())

    assert error("balance-attention,quantize{only=[qkv,proj]}") < 0.5 * error("quantize{only=[qkv,proj]}")


@pytest.mark.parametrize(
    ("old", "new", "whys"),
    [
        # v read by another operator: q and k are balanced all the same
        ("attention.default(q, k, v,", "attention.default(q, k, vv,", ["v is no plain output"]),
        # q and k read by something in between, as where a model normalizes them: v is balanced all the same
        (
            "attention.default(q, k, v,",
            "attention.default(qq, kk, v,",
            ["q is no plain output", "k is no plain output"],
        ),
        # the output read twice
        ("add.Tensor(x, o)", "add.Tensor(mm, o)", ["not read by one linear alone"]),
    ],
)
def test_what_cannot_be_moved_stays_and_says_why(old: str, new: str, whys: list[str]) -> None:
    text = BLOCK.replace(old, new)
    for name, source, shape in (("qq", "q", "N, 2, 5, 16"), ("kk", "k", "N, 2, 5, 16"), ("vv", "v", "N, 2, 5, 16")):
        if f"{name}," in new:
            text = text.replace("a: f32", f"{name}: f32[{shape}] = aten.relu.default({source})\na: f32", 1)
    text = text.replace("y: f32", "mm: f32[N, 5, 32] = aten.relu.default(m)\ny: f32") if "mm" in new else text
    given, program = context(), parse(text)
    balanced = run(BalanceAttention(), program, given)
    assert len(given.refusals) == len(whys)
    assert all(why in refusal.why for why, refusal in zip(whys, given.refusals, strict=True))
    assert "qkv.weight_balanced" in balanced.tensors()
    inputs = random_inputs(program)
    torch.testing.assert_close(balanced.run(*inputs), program.run(*inputs), rtol=1e-4, atol=1e-4)


def test_without_biases_the_means_stay() -> None:
    text = BLOCK
    for name in ("qkv.bias", "proj.bias"):
        line = next(line for line in BLOCK.splitlines() if f'"{name}"' in line)
        text = text.replace(line + "\n", "").replace(f", {line.partition(':')[0]})", ", None)")
    program = parse(text)
    balanced = run(BalanceAttention(), program, context())
    assert "qkv.weight_balanced" in balanced.tensors()
    inputs = random_inputs(program)
    torch.testing.assert_close(balanced.run(*inputs), program.run(*inputs), rtol=1e-4, atol=1e-4)


def test_without_images_it_says_what_to_give() -> None:
    with pytest.raises(InputError, match="--calibration-data"):
        BalanceAttention().run(parse(BLOCK), Context())


def _wrong_columns(_: object) -> torch.Tensor:
    return torch.arange(32).roll(1)


def test_wrong_columns_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: v's factors restored in other columns of proj are no identity."""
    name = "vitgraph.passes.quantization.balance_attention._Attention._columns"
    monkeypatch.setattr(name, _wrong_columns)
    program = uneven()
    balanced = run(BalanceAttention(), program, context())
    inputs = random_inputs(program)
    assert not torch.allclose(balanced.run(*inputs), program.run(*inputs), rtol=1e-3, atol=1e-3)


def test_a_v_that_is_the_same_everywhere_keeps_its_weights() -> None:
    """A decoder's first queries: nothing is known of what other values would be, and factors by their range would have no bound."""
    images, program = Noise((5, 32)), uneven()
    images.pixels[:] = images.pixels[:1, :1]
    balanced = run(BalanceAttention(), program, Context(calibration=images))
    before, after = program.tensor("qkv.weight")[64:], balanced.tensor("qkv.weight_balanced")[64:]
    assert float((after / before).detach().abs().amax()) < 10
