"""Numbers that a half-precision type can't hold keep their meaning, or their operator stays FP32."""

import pytest
import torch
from torch import Tensor, nn

from tests.harness import hold_to_text, run
from vitgraph.frontend.capture import capture
from vitgraph.ir.call_arguments import argument
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import pipeline
from vitgraph.passes.precision.assign_precision import AssignPrecision
from vitgraph.passes.precision.half_numbers import fit_tensor
from vitgraph.targets.target import get_target

SMALLEST = 2.0**-24
ONE = """
x: f32[2, 4] = input()
k: bool[2, 4] = input()
y: f32[2, 4] = {call}
return_(y)
"""
X = torch.tensor([[1.0, -2.0, 0.0, 0.25], [100.0, 0.5, -0.0, 1e-3]])
K = torch.tensor([[True, False, True, False], [False, True, False, False]])


def halved(call: str, to: str = "f16") -> tuple[Tensor, Tensor, Context]:
    """What the call gives before and after, and what the pass said."""
    program, context = parse(ONE.format(call=call)), Context()
    result = run(AssignPrecision(to=to), program, context)  # type: ignore[arg-type]
    hold_to_text(result)
    return program.run(X, K), result.run(X, K), context


@pytest.mark.parametrize(
    ("call", "number", "name"),
    [
        ("aten.masked_fill.Scalar(x, k, -1000000000.0)", -65504.0, "value"),
        ("aten.masked_fill.Scalar(x, k, -3.4028234663852886e+38)", -65504.0, "value"),
        ("aten.add.Tensor(x, -1000000000.0)", -65504.0, "other"),
        ("aten.sub.Tensor(x, 1000000000.0)", 65504.0, "other"),
        ("aten.clamp.default(x, -1e+30, 1e+30)", -65504.0, "min"),
        ("aten.clamp.default(x, 1e-12)", SMALLEST, "min"),
        ("aten.add.Tensor(x, 1e-15)", SMALLEST, "other"),
        ("aten.sub.Tensor(x, 1e-15)", SMALLEST, "other"),
        ("aten.add.Tensor(x, -1e-15)", -SMALLEST, "other"),
        ("aten.add.Tensor(x, 1e-05)", 1e-5, "other"),
        ("aten.masked_fill.Scalar(x, k, -inf)", float("-inf"), "value"),
        ("aten.masked_fill.Scalar(x, k, -100.0)", -100.0, "value"),
    ],
)
def test_masks_bounds_and_guards_are_brought_into_the_type(call: str, number: float, name: str) -> None:
    result = run(AssignPrecision(), parse(ONE.format(call=call)))
    (node,) = [each for each in result.calls() if each.target is not aten.to.dtype]
    assert argument(node, name) == number
    assert node.meta["type"].dtype == torch.float16
    assert not bool(result.run(X, K).isnan().any())


def test_bf16_ends_before_the_lowest_number_of_fp32() -> None:
    _, found, _ = halved("aten.masked_fill.Scalar(x, k, -3.4028234663852886e+38)", "bf16")
    assert bool(found.isfinite().all())
    assert float(found.min()) == torch.finfo(torch.bfloat16).min


@pytest.mark.parametrize(
    "call",
    [
        "aten.mul.Tensor(x, 1e-08)",  # rounds to zero: nothing would be left of x
        "aten.mul.Tensor(x, 1e-06)",  # a number that FP16 is 1 % off
        "aten.div.Tensor(x, 1e-06)",
        "aten.leaky_relu.default(x, 1e-09)",
    ],
)
def test_factors_that_the_type_lacks_are_taken_in_fp32(call: str) -> None:
    wanted, found, context = halved(call)
    torch.testing.assert_close(found, wanted, rtol=2e-3, atol=SMALLEST * 1e-6)
    assert "stays FP32: f16 can't hold" in context.refusals[0].why


def test_what_leaves_fp32_is_brought_to_the_limits() -> None:
    """A mask that is computed: infinities would make a row that it covers wholly one of NaN."""
    call = "aten.mul.Tensor(x, -1000000000.0)\nz: f32[2, 4] = aten.softmax.int(y, 1)"
    program = parse(ONE.format(call=call).replace("return_(y)", "return_(z)"))
    found = run(AssignPrecision(), program).run(torch.ones(2, 4), K)
    assert torch.equal(found, torch.full((2, 4), 0.25))


@pytest.mark.parametrize("call", ["aten.mul.Tensor(x, 0.5)", "aten.pow.Tensor_Scalar(x, 2)", "aten.mul.Tensor(x, inf)"])
def test_numbers_that_the_type_holds_keep_their_operator_in_it(call: str) -> None:
    assert halved(call)[2].refusals == []


def test_a_comparison_with_a_tiny_number_stays_one() -> None:
    text = """
x: f32[2, 4] = input()
c: f32[] = constant("c")
k: bool[2, 4] = aten.lt.Tensor(x, c)
y: f32[2, 4] = aten.masked_fill.Scalar(x, k, 1.0)
return_(y)
"""
    program = parse(text, {"c": torch.tensor(1e-15)})
    x = torch.tensor([[0.0, 1e-3, 1.0, -1.0], [0.0, 0.0, 1.0, 2.0]])
    torch.testing.assert_close(run(AssignPrecision(), program).run(x), program.run(x), rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("by", ["div", "reciprocal", "reshaped"])
def test_a_guarded_divisor_of_zero_gives_zero(by: str) -> None:
    """ReLU linear attention (EfficientViT): a query that the ReLU empties has a divisor of zero."""
    ends = {
        "div": "y: f32[2, 4] = aten.div.Tensor(x, b)",
        "reciprocal": "r: f32[2, 4] = aten.reciprocal.default(b)\ny: f32[2, 4] = aten.mul.Tensor(x, r)",
        "reshaped": "r: f32[2, 4] = aten.reciprocal.default(b)\ns: f32[2, 1, 4] = aten.reshape.default(r, [2, 1, 4])\n"
        "t: f32[2, 1, 4] = aten.reshape.default(x, [2, 1, 4])\nu: f32[2, 1, 4] = aten.mul.Tensor(s, t)\n"
        "y: f32[2, 4] = aten.reshape.default(u, [2, 4])",
    }
    text = f"x: f32[2, 4] = input()\na: f32[2, 4] = aten.relu.default(x)\nb: f32[2, 4] = aten.add.Tensor(a, 1e-15)\n{ends[by]}\nreturn_(y)\n"
    program = parse(text)
    x = torch.tensor([[0.0, 1.0, 0.0, 2.0], [4.0, 0.0, 0.5, 1.0]])
    assert torch.equal(run(AssignPrecision(), program).run(x), program.run(x))


def test_constants_that_guard_stay_other_than_zero() -> None:
    """Scales, and numbers that are a tensor; a weight's small elements round to zero as they ever did."""
    assert float(fit_tensor(torch.tensor(1e-15), torch.float16)) == SMALLEST
    assert float(fit_tensor(torch.tensor(-1e-15), torch.float16)) == -SMALLEST
    pair, smallest = torch.tensor([1e-12, 0.0]), torch.tensor([SMALLEST, 0.0])
    assert torch.equal(fit_tensor(pair, torch.float16).float(), torch.zeros(2))
    assert torch.equal(fit_tensor(pair, torch.float16, lift=True).float(), smallest)


def test_a_scale_of_a_weight_that_is_all_zero_stays_positive() -> None:
    text = """
x: f32[2, 4] = input()
w: f32[3, 4] = weight("w")
s: f32[3] = constant("s")
q: f32[3, 4] = vitgraph.fake_quantize.default(w, s, 0)
y: f32[2, 3] = aten.linear.default(x, q, None)
return_(y)
"""
    result = run(AssignPrecision(), parse(text, {"w": torch.zeros(3, 4), "s": torch.tensor([1e-2, 7.9e-11, 1e-2])}))
    assert bool((result.tensor("s_f16") > 0).all())


class _Model(nn.Module):
    """An image `[N, 3, 8, 8]` through one layer of 4 channels."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.embed, self.layer = nn.Conv2d(3, 4, 4, 4), layer

    def forward(self, x: Tensor) -> Tensor:
        """One row a patch, `[N, 4, 4]`."""
        out: Tensor = self.layer(self.embed(x).flatten(2).transpose(1, 2))
        return out


def _captured(layer: nn.Module) -> tuple[Program, Tensor]:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    x = torch.randn(2, 3, 8, 8) * 1e-3  # near the epsilons
    return capture(_Model(layer).eval(), x), x


@pytest.mark.parametrize("to", ["f16", "bf16"])
def test_the_default_epsilon_of_an_rms_norm_is_that_of_the_model(to: str) -> None:
    """pytorch#155527: None is the machine epsilon of the type, which is FP32's where the model computes in FP32."""
    program, x = _captured(nn.RMSNorm(4))
    steps = f"canonicalize,assign-precision{{to={to}}},legalize"
    found = pipeline(steps).run(program, Context(get_target("a100"), probe=[x])).run(x)
    torch.testing.assert_close(found, program.run(x), rtol=3e-2 if to == "bf16" else 3e-3, atol=2e-2)


class _InFp32(nn.Module):
    """A softmax that asks for FP32 by its argument, and sums that do."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x.softmax(-1, dtype=torch.float32) + x.sum(-1, keepdim=True, dtype=torch.float32)


def test_a_type_asked_for_by_an_argument_is_narrowed_too() -> None:
    program, x = _captured(_InFp32())
    result = pipeline("canonicalize,assign-precision").run(program, Context())
    kinds = {str(node.target): node.meta["type"].dtype for node in result.calls()}
    assert kinds["aten.softmax.int"] == kinds["aten.add.Tensor"] == torch.float16
    torch.testing.assert_close(result.run(x), program.run(x), rtol=1e-2, atol=1e-2)
