"""Recipes trio and trio-dense on EfficientViT b0 to b3: numbers, ONNX, engines; and what has a softmax is told so.

Weights are random. As they come they leave activations nobody meets in a trained model, so batch norms take their statistics
from two batches, and residual branches end in a scale of 0.25, for in trained models they add to the stream and don't rule it.
"""

import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vitgraph.analysis.sites import find_sites
from vitgraph.backends import find_backend
from vitgraph.backends.onnx.lowering import lower
from vitgraph.backends.tensorrt.backend import build_engine
from vitgraph.backends.tensorrt.engine_check import check_contract
from vitgraph.backends.tensorrt.engine_plan import plan_engine
from vitgraph.compile.accuracy import predict
from vitgraph.compile.recipe import load_recipe
from vitgraph.errors import CheckFailed
from vitgraph.frontend.capture import capture, capture_model
from vitgraph.frontend.models import load_model
from vitgraph.images.image_set import open_images
from vitgraph.ir.batch import parse_batch
from vitgraph.ir.program import Program
from vitgraph.ir.verify import check
from vitgraph.pass_manager.numerics import measure
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.pass_manager.pipeline import Pipeline
from vitgraph.passes import find_pass, pipeline
from vitgraph.targets.target import get_target

SIZE = 64
ABLATION = Path(__file__).resolve().parent.parent / "benchmarks" / "trio_ablation.py"
ASSET = Path(__file__).parent / "assets" / "efficientvit_cifar10.safetensors"


class Noise:
    """Seeded images."""

    def __init__(self, count: int = 16, seed: int = 5) -> None:
        self.pixels = torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self, size: int) -> Iterator[tuple[torch.Tensor, None]]:
        yield from ((self.pixels[first : first + size], None) for first in range(0, len(self), size))


def make(name: str) -> nn.Module:
    """A model of timm with random weights that behaves like a trained one."""
    import timm

    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    model = timm.create_model(name).train()
    for module in model.modules():
        if type(module).__name__ == "ResidualBlock" and isinstance(module.shortcut, nn.Module):
            nn.init.constant_([norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)][-1].weight, 0.25)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(32, 3, SIZE, SIZE))
    return model.eval()


def captured(name: str, batch: int | None = None) -> Program:
    return capture(make(name), torch.randn(batch or 8, 3, SIZE, SIZE), dynamic_batch=batch is None)


def quantizing(recipe: str) -> Pipeline:
    """A recipe without its types, so that what is measured is quantization alone."""
    steps = load_recipe(recipe, find_pass).pipeline.passes
    return Pipeline(tuple(step for step in steps if step.name != "assign-precision"))


@pytest.mark.slow
def test_a_spread_over_eight_bits_costs_trio_nothing_and_plain_placement_everything() -> None:
    program = captured("efficientvit_b1")
    ablation = runpy.run_path(str(ABLATION))
    wide: Program = ablation["spread"](pipeline("canonicalize,fold-batch-norm").run(program), 8)
    check(wide, "spread")
    x = Noise(seed=77).pixels
    wanted = program.run(x)
    assert measure(wanted, wide.run(x)).relative_l2 < 1e-4

    def error(steps: Pipeline, which: Program) -> float:
        return measure(wanted, steps.run(which, Context(calibration=Noise())).run(x)).relative_l2

    even, found = error(quantizing("trio"), program), error(quantizing("trio"), wide)
    assert found <= 1.2 * even, (found, even)
    plain = error(pipeline("canonicalize,fold-batch-norm,quantize{weights=mse only=[*]}"), wide)
    assert plain >= 5 * found, (plain, found)


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"efficientvit_b{size}" for size in range(4)])
def test_each_efficientvit_runs_in_onnx_runtime_as_in_eager(name: str, tmp_path: Path) -> None:
    context = Context(get_target("cpu"), calibration=Noise(4))
    plain = captured(name, 1)
    program = quantizing("trio").run(plain, context)
    check(program, "trio")
    lower(program, tmp_path / "model.onnx")
    x = Noise(1, seed=7).pixels
    with find_backend("ort").load(tmp_path / "model.onnx", get_target("cpu")) as runner:
        found, wanted = runner.run(x), program.run(x)
    quantization = measure(plain.run(x), wanted).relative_l2
    assert measure(wanted, found).relative_l2 < quantization < 0.6  # values on borders round either way, and few are
    assert context.refusals == []


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["trio", "trio-dense"])
def test_an_engine_keeps_every_planned_product_in_int8(recipe: str, tmp_path: Path) -> None:
    target = get_target("a100")
    context = Context(target, calibration=Noise(4))
    program = load_recipe(recipe, find_pass).pipeline.run(captured("efficientvit_b1", 1), context)
    model = lower(program, tmp_path / "model.onnx")
    verdict = check_contract(build_engine(model.path, target, None), plan_engine(program, model, target))
    assert verdict.violations == ()
    grouped = [site.path for site in find_sites(program).linears if site.role in ("depthwise", "grouped")]
    left = [refusal.site for refusal in context.refusals]
    assert left == ([] if recipe == "trio" else grouped)
    assert verdict.engine["linears"]["planned_int8"] == len(find_sites(program).linears) - len(left)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["levit_128s", "mobilevit_xxs", "mobilevitv2_050", "efficientformer_l1"])
def test_a_model_with_a_softmax_is_told_so(name: str) -> None:
    import timm

    model: Any = timm.create_model(name).eval()
    program = capture(model, torch.randn(1, *model.pretrained_cfg["input_size"]))
    with pytest.raises(CheckFailed, match=r"must be softmax-free, and \d+ softmax"):
        quantizing("trio").run(program, Context(calibration=Noise(1)))


@pytest.mark.slow
def test_the_ablation_has_a_row_for_every_choice_of_fixes() -> None:
    given = ["--model", "efficientvit_b0", "--weights", "random", "--calibration-images", "2", "--evaluate-images", "2"]
    noise = ["--calibration-data", "random", "--evaluate-data", "random"]
    done = subprocess.run([sys.executable, ABLATION, *given, *noise], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)["rows"]
    assert list(rows)[:3] == ["fp32", "plain", "migrate"]
    assert len(rows) == 1 + 2**3 + 1
    assert rows["fp32"] == {"top1": None, "agreement": 100.0, "relative_l2": 0.0}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["trio", "trio-best"])
def test_trio_keeps_the_accuracy_of_a_trained_model(recipe: str, data: Path) -> None:
    if not ASSET.is_file():
        pytest.skip(f"no trained model at {ASSET.name}: train one with tests/assets/train_efficientvit.py")
    loaded = load_model("tests.assets.train_efficientvit:efficientvit_cifar10", weights=ASSET)
    calibration = open_images(str(data / "cifar10" / "train50000.zip"), loaded.preprocessing, limit=64)
    evaluation = open_images(str(data / "cifar10" / "test5000.zip"), loaded.preprocessing, limit=2000)
    program = capture_model(loaded, parse_batch("1:8:64"))
    quantized = quantizing(recipe).run(program, Context(calibration=calibration))
    top1 = [predict(_Run(each), evaluation, None).top1 for each in (program, quantized)]
    assert top1[0] is not None
    assert top1[1] is not None
    assert top1[1] >= top1[0] - 1.0


class _Run:
    def __init__(self, program: Program) -> None:
        self.program = program

    def run(self, batch: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.program.run(batch)
        return result
