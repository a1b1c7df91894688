"""Attentions as families spell them become one kernel of the engine, by the report of the builder itself."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vitgraph.backends import find_builder
from vitgraph.backends.onnx.lowering import lower
from vitgraph.backends.tensorrt.backend import unbuildable_why
from vitgraph.compile.recipe import load_recipe
from vitgraph.frontend.capture import capture
from vitgraph.ir.batch import parse_batch
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import find_pass
from vitgraph.progress import silent
from vitgraph.runtime.backend import Artifact
from vitgraph.targets.target import get_target

A100 = get_target("a100")
SIZE, HEADS, DIM = 7, 4, 32

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(unbuildable_why(A100) is not None, reason=f"no engine here: {unbuildable_why(A100)}"),
]


class Spelled(nn.Module):
    """An attention over a map `[B, 32, 7, 7]`, from convolutions to the mean of its tokens."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        shared = 1 if spelling == "shared keys" else HEADS
        self.q, self.k, self.v = (nn.Conv2d(32, heads * DIM, 1) for heads in (HEADS, shared, shared))
        self.height, self.width = (nn.Parameter(torch.randn(SIZE, DIM)) for _ in range(2))
        self.mix = nn.Conv2d(HEADS, HEADS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """As its family writes it."""
        q, k, v = (layer(x).reshape(len(x), -1, DIM, SIZE * SIZE) for layer in (self.q, self.k, self.v))
        if self.spelling == "windows of a map":  # SHViT, EfficientViT: [B * H, D, T], vᵀ pᵀ
            q, k, v = (each.flatten(0, 1) for each in (q, k, v))
            scores = (q * DIM**-0.5).transpose(1, 2) @ k
            mixed: Tensor = v @ scores.softmax(-1).transpose(1, 2)
            return mixed.reshape(len(x), HEADS * DIM, -1).mean(-1)
        q, v = q.transpose(2, 3), v.transpose(2, 3)
        scores = q @ k * DIM**-0.5
        if self.spelling == "positions by height and width":  # MViTv2, ViTDet
            grid = scores.reshape(len(x), HEADS, SIZE, SIZE, SIZE, SIZE)
            rows = q.reshape(len(x), HEADS, SIZE, SIZE, DIM)
            grid = grid + (rows @ self.height.T)[..., :, None] + (rows @ self.width.T)[..., None, :]
            scores = grid.reshape(scores.shape)
        if self.spelling == "talking heads":  # CaiT, EfficientFormerV2
            scores = self.mix(scores)
        tokens: Tensor = scores.softmax(-1) @ v
        return tokens.mean((1, 2))


def built(spelling: str, folder: Path) -> Artifact:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    program = capture(Spelled(spelling).eval(), torch.zeros(1, 32, SIZE, SIZE))
    program = load_recipe("fp16", find_pass).pipeline.run(program, Context(A100))
    model = lower(program, folder / "model.onnx")
    return find_builder("tensorrt").plan(program, model, A100, parse_batch("1")).run(silent)


@pytest.mark.parametrize("spelling", ["shared keys", "windows of a map", "positions by height and width"])
def test_it_is_one_kernel(spelling: str, tmp_path: Path) -> None:
    artifact = built(spelling, tmp_path)
    assert artifact.report["attention"]["fused"] == 1
    assert artifact.violations == ()


def test_talking_heads_are_none_and_excused(tmp_path: Path) -> None:
    artifact = built("talking heads", tmp_path)
    assert artifact.report["attention"] == {"sites": 1, "fused": 0, "fused_int8": 0}
    assert artifact.violations == ()
