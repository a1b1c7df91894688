"""A shift ahead of a product goes into the pair on its input while a program is quantized, and out of it for the engine."""

from collections.abc import Iterator

import pytest
import torch

from tests.harness import hold_to_text, run
from vitgraph.ir import dialect
from vitgraph.ir.calls import QuantizeCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes.quantization.absorb_shifts import AbsorbShifts
from vitgraph.passes.quantization.fitting import without_pairs
from vitgraph.passes.quantization.quantize import Quantize

LINEAR = """
x: f32[N, 4, 8] = input()
z: f32[8] = constant("z")
c: f32[N, 4, 8] = aten.sub.Tensor(x, z)
w: f32[6, 8] = weight("fc.weight")
b: f32[6] = weight("fc.bias")
y: f32[N, 4, 6] = aten.linear.default(c, w, b)  # fc
return_(y)
"""
POINTWISE = """
x: f32[N, 8, 5, 5] = input()
z: f32[8, 1, 1] = constant("z")
c: f32[N, 8, 5, 5] = aten.sub.Tensor(x, z)
w: f32[6, 8, 1, 1] = weight("pw.weight")
b: f32[6] = weight("pw.bias")
y: f32[N, 6, {size}, {size}] = aten.conv2d.default(c, w, b, [1, 1], [{pad}, {pad}], [1, 1], 1)  # pw
return_(y)
"""


class Lopsided:
    """Images far on one side of zero, each channel elsewhere."""

    def __init__(self, *shape: int) -> None:
        generator = torch.Generator().manual_seed(0)
        channels = torch.arange(8.0).reshape(8 if len(shape) == 2 else (8, 1, 1))
        self.pixels = torch.randn(8, *shape, generator=generator) + 5 + channels
        self.source = ("noise",)

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(self.pixels), size):
            part = self.pixels[start : start + size]
            yield part, torch.zeros(len(part))


CASES = {
    "linear": (LINEAR, Lopsided(4, 8), ("fc",)),
    "pointwise": (POINTWISE.format(size=5, pad=0), Lopsided(8, 5, 5), ("pw",)),
}


def quantized(name: str) -> tuple[Program, Program, Lopsided]:
    text, images, only = CASES[name]
    program = parse(text)
    return program, run(Quantize(only=only), program, Context(calibration=images)), images


@pytest.mark.parametrize("name", CASES)
def test_the_pair_rounds_around_the_shift(name: str) -> None:
    _, result, images = quantized(name)
    assert not result.calls(aten.sub.Tensor)
    pair = next(node for node in result.calls(dialect.fake_quantize) if node.args[2] is None)
    assert QuantizeCall(pair).shift is not None
    values = images.pixels
    z, step = result.tensor("z"), result.tensor(str(pair.args[1].target))  # type: ignore[union-attr]
    off = dialect.fake_quantize(values, step, None, "int8", z) - values
    assert off.abs().max() < 0.51 * step  # nothing is clipped, though the values are all far from zero


@pytest.mark.parametrize("name", CASES)
def test_past_the_pairs_lies_the_program_as_it_was(name: str) -> None:
    """What fitting takes as its teacher and placement as its reference; with a bias made for rounded weights it was neither."""
    program, result, images = quantized(name)
    clean = without_pairs(result)
    torch.testing.assert_close(clean.run(images.pixels), program.run(images.pixels), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_an_engine_gets_a_sub_and_a_bias_through_the_rounded_weights(name: str) -> None:
    program, result, images = quantized(name)
    engine = run(AbsorbShifts(), result)
    hold_to_text(engine)
    assert len(engine.calls(aten.sub.Tensor)) == 1
    assert all(QuantizeCall(pair).shift is None for pair in engine.calls(dialect.fake_quantize))
    torch.testing.assert_close(engine.run(images.pixels), result.run(images.pixels), rtol=1e-4, atol=1e-4)
    (product,) = engine.calls(aten.linear.default, aten.conv2d.default)
    product.update_arg(2, engine.constant_node(product, "unrounded", bias_before(program)))  # the control
    engine.clean()
    with pytest.raises(AssertionError):
        torch.testing.assert_close(engine.run(images.pixels), result.run(images.pixels), rtol=1e-4, atol=1e-4)


def bias_before(program: Program) -> torch.Tensor:
    (bias,) = [tensor for name, tensor in program.tensors().items() if name.endswith("bias")]
    return bias.detach()


def test_a_padded_convolution_keeps_its_shift_ahead() -> None:
    """Beyond the border it reads zeros, which are not shifted."""
    result = run(Quantize(only=("pw",)), parse(POINTWISE.format(size=7, pad=1)), Context(calibration=Lopsided(8, 5, 5)))
    assert len(result.calls(aten.sub.Tensor)) == 1
    assert all(QuantizeCall(pair).shift is None for pair in result.calls(dialect.fake_quantize))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('z: f32[8] = constant("z")', 'z: f32[4, 1] = constant("z")'),  # one number a token, not a channel
        (", w, b)", ", w, None)"),  # no bias to make up for it
    ],
)
def test_other_subtractions_stay(old: str, new: str) -> None:
    program = parse(LINEAR.replace(old, new))
    result = run(Quantize(only=("fc",)), program, Context(calibration=Lopsided(4, 8)))
    assert len(result.calls(aten.sub.Tensor)) == 1


def test_after_what_is_no_product_the_shift_is_added_again() -> None:
    text = """
x: f32[N, 8] = input()
s: f32[] = constant("s")
z: f32[8] = constant("z")
q: f32[N, 8] = vitgraph.fake_quantize.default(x, s, None, 'int8', z)
y: f32[N, 8] = aten.gelu.default(q)
return_(y)
"""
    program = parse(text, {"s": torch.tensor(0.1), "z": torch.arange(8.0)})
    result = run(AbsorbShifts(), program)
    assert "aten.add.Tensor" in show(result)
    x = torch.randn(3, 8) + torch.arange(8.0)
    torch.testing.assert_close(result.run(x), program.run(x))
