"""Sizes and numbers that a kernel goes wrong with are refused in graphs from files; those of real models are let in."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.verify import check_read

IMAGE = 'x: f32[2, 4, 8, 8] = input()\nc: f32[4] = constant("c")\no: f32[1] = constant("o")'
NORMAL = "(f32[2, 4, 8, 8], f32[0], f32[0]) = aten._native_batch_norm_legit_no_training.default"
SDPA = "aten.scaled_dot_product_attention.default"


def read(head: str, call: str) -> None:
    check_read(parse(f"# form: captured\n{head}\ny: {call}\nreturn_(x)"), "t")


FINE = {
    "a number a channel": (IMAGE, f"{NORMAL}(x, c, c, c, c, 0.1, 1e-05)"),
    "no statistics": (IMAGE, "f32[2, 4, 8, 8] = aten.batch_norm.default(x, c, c, None, None, True, 0.1, 1e-05, False)"),
    "statistics, not in training": (
        IMAGE,
        "f32[2, 4, 8, 8] = aten.instance_norm.default(x, c, c, c, c, False, 0.1, 1e-05, False)",
    ),
    "a size": (IMAGE, "f32[2, 4, 3, 3] = aten._upsample_bicubic2d_aa.default(x, [3, 3], False, None, None)"),
    "a size and its scale": (IMAGE, "f32[2, 4, 12, 3] = aten.upsample_bilinear2d.default(x, [12, 3], False, 1.5, 0.4)"),
    "a scale alone": (IMAGE, "f32[2, 4, 12, 3] = aten._upsample_bicubic2d_aa.vec(x, None, False, [1.5, 0.4])"),
    "as many keys as values": (
        "x: f32[N, 2, 4, 8] = input()\nk: f32[N, 2, 6, 8] = input()\nv: f32[N, 2, 6, 3] = input()",
        f"f32[N, 2, 4, 3] = {SDPA}(x, k, v, None, 0.0, False)",
    ),
    "a weight of the shape": (
        IMAGE.replace("c: f32[4]", "c: f32[8]"),
        "(f32[2, 4, 8, 8], f32[2, 4, 8, 1]) = aten._fused_rms_norm.default(x, [8], c, 1e-05)",
    ),
}
WRONG = {
    "a number for all channels": (IMAGE, f"{NORMAL}(x, None, None, o, o, 0.1, 1e-05)", "a number a channel|one number"),
    "a scale for all channels": (IMAGE, f"{NORMAL}(x, o, c, c, c, 0.1, 1e-05)", "as weight"),
    "no channels": (
        'x: f32[4] = input()\nc: f32[4] = constant("c")',
        "(f32[4], f32[0], f32[0]) = aten._native_batch_norm_legit_no_training.default(x, c, c, c, c, 0.1, 1e-05)",
        "two dimensions",
    ),
    "statistics in training": (
        IMAGE,
        "f32[2, 4, 8, 8] = aten.batch_norm.default(x, c, c, c, c, True, 0.1, 1e-05, False)",
        "writes into its running statistics",
    ),
    "statistics an image": (
        IMAGE,
        "f32[2, 4, 8, 8] = aten.instance_norm.default(x, c, c, c, None, True, 0.1, 1e-05, False)",
        "writes into its running statistics",
    ),
    "a scale of its own": (
        IMAGE,
        "f32[2, 4, 3, 3] = aten._upsample_bilinear2d_aa.default(x, [3, 3], False, 0.4, 1.0)",
        "from 8 to 3 has no scale 1.0",
    ),
    "a scale that is no number": (
        IMAGE,
        "f32[2, 4, 3, 3] = aten.upsample_nearest2d.default(x, [3, 3], nan, nan)",
        "has no scale nan",
    ),
    "more values than keys": (
        "x: f32[2, 4, 8] = input()\nk: f32[2, 1, 8] = input()\nv: f32[2, 6, 8] = input()",
        f"f32[2, 4, 8] = {SDPA}(x, k, v)",
        "as many values as keys",
    ),
    "one size for two dimensions": (
        IMAGE,
        "f32[2, 4, 3, 3] = aten.upsample_nearest2d.default(x, 3, 0.4, 0.4)",
        "for each of its last dimensions|arguments don't fit",
    ),
    "a weight for all": (
        IMAGE,
        "(f32[2, 4, 8, 8], f32[2, 4, 8, 1]) = aten._fused_rms_norm.default(x, [8], o, 1e-05)",
        "weight of this shape",
    ),
    "no way to sample": (
        'x: f32[1, 2, 2, 2, 2] = input()\ng: f32[1, 2, 2, 2, 3] = constant("g")',
        "f32[1, 2, 2, 2, 2] = aten.grid_sampler.default(x, g, 0, 3, False)",
        "padding_mode 0, 1 or 2",
    ),
}


@pytest.mark.parametrize("name", FINE)
def test_what_a_model_has_is_read(name: str) -> None:
    read(*FINE[name])


@pytest.mark.parametrize("name", WRONG)
def test_what_a_kernel_goes_wrong_with_is_refused(name: str) -> None:
    head, call, says = WRONG[name]
    with pytest.raises(InputError, match=says):
        read(head, call)


class Own(nn.Module):
    """Every form that capture leaves of a model with normalizations and resizes, torch's shorthands beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.batch, self.image = nn.BatchNorm2d(4), nn.InstanceNorm2d(4, track_running_stats=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.image(self.batch(x))
        x = F.scaled_dot_product_attention(x, x, x)
        x = F.interpolate(x, (6, 6), mode="bicubic", antialias=True)
        x = F.interpolate(x, scale_factor=1.3, mode="bilinear", antialias=True)
        return torch.rot90(F.interpolate(x, scale_factor=0.7), 1, [2, 3])


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_captured_model_is_read_back(dynamic: bool) -> None:
    program = capture(Own(), torch.randn(2, 4, 8, 8), dynamic_batch=dynamic)
    assert "_native_batch_norm_legit_no_training" in show(program)
    twin = check_read(parse(show(program), program.tensors()), "t")
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(twin.run(x), program.run(x))
