import pytest
import torch

from tests.harness import body, random_inputs, run
from tests.passes.quantization.test_quantize import Noise, block, context
from vitgraph.errors import InputError
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import pipeline
from vitgraph.passes.quantization.equalize_outputs import EqualizeOutputs
from vitgraph.quantizing.calibration import observe_channels

BLOCK = block()
EQUALIZED = (
    BLOCK.replace('"proj.weight"', '"proj.weight_evened"')
    .replace(
        "y: f32", 'f: f32[32] = constant("attn.proj.output_spread")\nof: f32[N, 5, 32] = aten.mul.Tensor(o, f)\ny: f32'
    )
    .replace("Tensor(x, o)", "Tensor(x, of)")
)


def spiky() -> Program:
    """A block whose proj has one output channel far larger than the others, as real ViTs' streams have."""
    drawn = parse(BLOCK).tensors()
    weight = drawn["proj.weight"].detach().clone()
    weight[7] *= 200
    return parse(BLOCK, {**drawn, "proj.weight": weight})


def test_the_factor_moves_after_the_linear() -> None:
    program = spiky()
    evened = run(EqualizeOutputs(), program, context())
    assert body(show(evened)) == body(show(parse(EQUALIZED)))
    (product,) = evened.calls(aten.mul.Tensor)
    linear = product.args[0]
    assert isinstance(linear, torch.fx.Node)
    assert linear.meta["path"] == "attn.proj"
    assert list(linear.users) == [product]
    inputs = random_inputs(program)
    torch.testing.assert_close(evened.run(*inputs), program.run(*inputs), rtol=1e-5, atol=1e-5)


def test_a_bias_is_divided_as_its_row_is() -> None:
    text = BLOCK.replace("o: f32", 'b2: f32[32] = weight("proj.bias")\no: f32').replace("(m, w2, None)", "(m, w2, b2)")
    drawn = parse(text).tensors()
    weight, bias = drawn["proj.weight"].detach().clone(), drawn["proj.bias"].detach().clone()
    weight[7] *= 200
    bias[7] = 50
    program = parse(text, {**drawn, "proj.weight": weight, "proj.bias": bias})
    after = run(EqualizeOutputs(), program, context())
    factor = after.tensor("attn.proj.output_spread")
    assert factor[7] == factor.amax() > 10 * factor.median()
    torch.testing.assert_close(after.tensor("proj.bias_evened"), bias / factor)
    inputs = random_inputs(program)
    torch.testing.assert_close(after.run(*inputs), program.run(*inputs), rtol=1e-5, atol=1e-4)


def test_all_outputs_then_reach_equally_far() -> None:
    images = Noise((5, 32))
    evened = run(EqualizeOutputs(), spiky(), Context(calibration=images))
    (seen,) = observe_channels(evened, [evened.calls(aten.mul.Tensor)[0].args[0]], images)  # type: ignore[list-item]
    torch.testing.assert_close(seen.largest, seen.largest.amax().expand_as(seen.largest), rtol=1e-4, atol=1e-5)


def test_int8_weights_stay_as_they_were() -> None:
    """Each row has a scale of its own, so that dividing it by a factor changes the scale alone."""
    program = spiky()
    plain, evened = (
        pipeline(steps).run(program, context())
        for steps in (
            "quantize{only=[proj] outputs=true},materialize",
            "equalize-outputs,quantize{only=[proj] outputs=true},materialize",
        )
    )
    integers = [
        next(t for t in each.tensors().values() if t.dtype == torch.int8 and t.shape == (32, 32))
        for each in (plain, evened)
    ]
    assert (
        int((integers[0] != integers[1]).sum()) <= 2
    )  # a number that lay on the edge of two steps may fall either way


def test_int8_outputs_then_cost_little() -> None:
    program = spiky()
    inputs = random_inputs(program)
    x, wanted = inputs[0], program.run(*inputs)
    others = [channel for channel in range(32) if channel != 7]

    def error(steps: str) -> float:
        found = pipeline(steps).run(program, context()).run(*inputs)
        return float((found - wanted)[..., others].norm() / (wanted - x)[..., others].norm())

    assert error("equalize-outputs,quantize{outputs=true only=[proj]}") < 0.2 * error(
        "quantize{outputs=true only=[proj]}"
    )


def test_a_computed_weight_is_refused() -> None:
    text = BLOCK.replace("o: f32", "wn: f32[32, 32] = aten.neg.default(w2)\no: f32").replace(
        "(m, w2, None)", "(m, wn, None)"
    )
    given = context()
    assert show(run(EqualizeOutputs(), parse(text), given)) == show(parse(text))
    assert [refusal.site for refusal in given.refusals] == ["attn.proj"]


def test_without_images_it_says_what_to_give() -> None:
    with pytest.raises(InputError, match="--calibration-data"):
        EqualizeOutputs().run(parse(BLOCK), Context())


CONVOLUTION = """
x: f32[N, 8, 6, 6] = input()
a: f32[32, 8, 1, 1] = weight("a.weight")
h: f32[N, 32, 6, 6] = aten.conv2d.default(x, a, None, [1, 1], [0, 0], [1, 1], 1)  # a
g: f32[N, 32, 6, 6] = aten.gelu.default(h)
b: f32[8, 32, 1, 1] = weight("b.weight")
c: f32[8] = weight("b.bias")
y: f32[N, 8, 6, 6] = aten.conv2d.default(g, b, c, [1, 1], [0, 0], [1, 1], 1)  # b
z: f32[N, 8, 6, 6] = aten.add.Tensor(y, x)
return_(z)
"""


def test_a_convolution_has_its_channels_ahead_of_rows_and_columns() -> None:
    drawn = parse(CONVOLUTION).tensors()
    weight = drawn["b.weight"].detach().clone()
    weight[3] *= 200
    program = parse(CONVOLUTION, {**drawn, "b.weight": weight})
    after = run(EqualizeOutputs(), program, Context(calibration=Noise((8, 6, 6))))
    factor = after.tensor("b.output_spread")
    assert factor.shape == (8, 1, 1)
    assert factor[3] == 1 > 10 * factor.median()
    torch.testing.assert_close(after.tensor("b.weight_evened"), weight / factor.unsqueeze(1))
    inputs = random_inputs(program)
    torch.testing.assert_close(after.run(*inputs), program.run(*inputs), rtol=1e-5, atol=1e-3)
