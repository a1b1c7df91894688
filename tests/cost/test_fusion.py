"""Which nodes become one kernel, and what it moves."""

import pytest
import torch

from vitgraph.cost.encoder import Encoder
from vitgraph.cost.fusion import find_kernels
from vitgraph.cost.kernel import total
from vitgraph.cost.workload import Attention, Gemm
from vitgraph.frontend.capture import capture
from vitgraph.frontend.models import load_model
from vitgraph.ir.parser import parse
from vitgraph.passes import pipeline
from vitgraph.passes.prepared import PREPARED
from vitgraph.tools.published_figures import capture_named

HEADER = "# program: t\n# form: canonical\n"


def kernels(text: str) -> list[tuple[str, float]]:
    return [(kernel.role, kernel.moved) for kernel in find_kernels(parse(HEADER + text))]


@pytest.mark.parametrize("batch", ["N", "1", "4"])
def test_what_acts_on_every_element_is_fused(batch: str) -> None:
    text = f"""
x: f32[{batch}, 1, 3, 8] = input()
w: f32[6, 8] = weight("w")
s: f32[] = weight("s")
h: f32[{batch}, 1, 3, 6] = aten.linear.default(x, w)
g: f32[{batch}, 1, 3, 6] = aten.gelu.default(h)
y: f32[{batch}, 1, 3, 6] = vitgraph.fake_quantize.default(g, s)
v: f32[6, 8] = vitgraph.fake_quantize.default(w, s)
z: f32[{batch}, 1, 3, 6] = aten.layer_norm.default(y, [6])
return_(z)
"""
    (first, read), (second, moved) = kernels(text)
    assert (first, second) == ("fc1", "moves")
    assert read == 3 * 8 * 4 + 3 * 6 * 1  # reads 32 bits an element, writes 8
    assert moved == 3 * 6 * 1 + 3 * 6 * 4


def test_a_residual_is_read_beside_and_views_cost_nothing() -> None:
    text = """
x: f16[N, 4, 8] = input()
w: f16[8, 8] = weight("w")
n: f16[N, 4, 8] = aten.layer_norm.default(x, [8])
h: f16[N, 4, 8] = aten.linear.default(n, w)
r: f16[N, 4, 8] = aten.reshape.default(h, [-1, 4, 8])
y: f16[N, 4, 8] = aten.add.Tensor(r, x)
return_(y)
"""
    one = 4 * 8 * 2
    assert kernels(text) == [("moves", 2 * one), ("head", 3 * one)]


def test_parts_of_a_value_are_read_each_and_written_once() -> None:
    text = """
x: f16[N, 5, 8] = input()
w: f16[24, 8] = weight("w")
h: f16[N, 5, 24] = aten.linear.default(x, w)
r: f16[N, 5, 3, 2, 4] = aten.reshape.default(h, [-1, 5, 3, 2, 4])
p: f16[3, N, 2, 5, 4] = aten.permute.default(r, [2, 0, 3, 1, 4])
q: f16[N, 2, 5, 4] = aten.select.int(p, 0, 0)
k: f16[N, 2, 5, 4] = aten.select.int(p, 0, 1)
v: f16[N, 2, 5, 4] = aten.select.int(p, 0, 2)
y: f16[N, 2, 5, 4] = vitgraph.attention.default(q, k, v, None, 0.5)
return_(y)
"""
    one = 5 * 8 * 2
    assert kernels(text) == [("qkv", one + 3 * one), ("attention", 4 * one)]
    assert find_kernels(parse(HEADER + text))[1].work == Attention(2, 5, 5, 4, 4)


def test_arithmetic_on_the_image_is_a_kernel_and_a_depthwise_convolution_only_moves() -> None:
    text = """
x: f32[N, 4, 6, 6] = input()
w: f32[4, 1, 3, 3] = weight("w")
a: f32[N, 4, 6, 6] = aten.mul.Tensor(x, 2.0)
y: f32[N, 4, 6, 6] = aten.conv2d.default(a, w, None, [1, 1], [1, 1], [1, 1], 4)
return_(y)
"""
    first, second = find_kernels(parse(HEADER + text))
    assert (first.role, first.work, second.role, second.work) == ("moves", None, "depthwise", None)
    assert second.weights == 36


def test_a_masked_quantized_linear_is_int8_with_zeros() -> None:
    text = """
x: f32[N, 4, 8] = input()
w: f32[8, 8] = weight("w")
keep: bool[8, 8] = constant("keep")
s: f32[] = weight("s")
m: f32[8, 8] = vitgraph.mask.default(w, keep)
v: f32[8, 8] = vitgraph.fake_quantize.default(m, s)
a: f32[N, 4, 8] = vitgraph.fake_quantize.default(x, s)
y: f32[N, 4, 8] = aten.linear.default(a, v)
return_(y)
"""
    keep = torch.tensor([True, False, True, False]).repeat(8, 2)
    program = parse(HEADER + text, {"w": torch.ones(8, 8), "keep": keep, "s": torch.tensor(1.0)})
    quantizer, product = find_kernels(program)
    assert (quantizer.work, product.kind, product.weight_bits) == (None, "int8", 8)
    assert product.work == Gemm(4, 8, 8)
    assert str(product.zeros.packing) == "2:4"


def test_a_captured_batch_is_so_many_times_one_image() -> None:
    def of(batch: int) -> list[object]:
        model = load_model("digits-vit", weights=None)
        captured = capture(model.module, torch.zeros(batch, *model.input_shape, device="meta"), name="digits-vit")
        return [(k.path, k.kind, k.work, k.moved) for k in find_kernels(pipeline(PREPARED).run(captured))]

    assert of(1) == of(3)


def test_a_program_takes_what_its_encoder_takes() -> None:
    """What figures are compared with (an encoder's sizes) and what users are shown (a program) are the same model."""
    from tests.cost.test_roofline import line_of

    line, encoder = line_of(), Encoder(layers=12, hidden=192, heads=3, tokens=197)
    found = [kernel.in_type("fp16") for kernel in find_kernels(capture_named("deit_tiny_patch16_224"))]
    sizes = encoder.kernels("tensorrt", "fp16")
    assert [k.work for k in found if k.path.startswith("blocks.3") and k.work] == [k.work for k in sizes[:7] if k.work]
    whole = total(kernel.estimate(line, 32) for kernel in found)
    assert whole.ms == pytest.approx(total(kernel.estimate(line, 32) for kernel in sizes).ms, rel=0.12)
