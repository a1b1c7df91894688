"""What of models of convolutions is planned and runs in INT8, by the report of the builder itself; families are in the table of `tests/coverage`."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from tests.passes.quantization.test_quantize import Noise
from vitgraph.analysis.roles import BLOCK_ROLES
from vitgraph.analysis.sites import find_sites
from vitgraph.backends import find_builder
from vitgraph.backends.onnx.lowering import lower
from vitgraph.backends.tensorrt.backend import unbuildable_why
from vitgraph.compile.recipe import load_recipe
from vitgraph.frontend.capture import capture
from vitgraph.ir.batch import parse_batch
from vitgraph.ir.program import Program
from vitgraph.pass_manager.findings import LeftInFloatFinding, findings_of
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.pass_manager.pipeline import Pipeline
from vitgraph.passes import find_pass
from vitgraph.passes.quantization.quantize import Quantize
from vitgraph.progress import silent
from vitgraph.runtime.backend import Artifact
from vitgraph.targets.target import get_target

A100 = get_target("a100")
SIZE = 64
Make = Callable[[], nn.Module]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(unbuildable_why(A100) is not None, reason=f"no engine here: {unbuildable_why(A100)}"),
]


def made(kind: Callable[..., nn.Module], **sizes: Any) -> nn.Module:
    return kind(num_classes=10, **sizes)


def pool_former() -> nn.Module:
    """No attention and no softmax; its products are pointwise convolutions."""
    package = import_module("timm.models.metaformer")
    return made(package.MetaFormer, depths=(1, 1), dims=(16, 32))


def windows() -> nn.Module:
    """Convolutions of windows alone."""
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def compiled(make: Make, steps: Pipeline) -> Program:
    return steps.run(
        capture(make().eval(), torch.zeros(1, 3, SIZE, SIZE)),
        Context(A100, calibration=Noise((3, SIZE, SIZE), count=2)),
    )


def built(program: Program, folder: Path) -> Artifact:
    model = lower(program, folder / "model.onnx")
    return find_builder("tensorrt").plan(program, model, A100, parse_batch("1")).run(silent)


def all_sites(steps: Pipeline) -> Pipeline:
    """The same with `quantize{only=[*]}`."""
    return Pipeline(tuple(replace(step, only=("*",)) if isinstance(step, Quantize) else step for step in steps.passes))


@pytest.mark.parametrize("remedy", ["only", "trio"])
def test_the_remedies_of_a_model_that_is_left_in_float_are_some(remedy: str, tmp_path: Path) -> None:
    int8 = load_recipe("int8", find_pass).pipeline
    left = compiled(windows, int8)
    (finding,) = findings_of(left.ledger, LeftInFloatFinding)
    assert finding.left_in_float.startswith("conv ")
    program = compiled(windows, all_sites(int8) if remedy == "only" else load_recipe("trio", find_pass).pipeline)
    assert findings_of(program.ledger, LeftInFloatFinding) == []
    sites = len(find_sites(program).linears)
    artifact = built(program, tmp_path)
    assert artifact.report["linears"] == {"planned_int8": sites, "int8": sites, "fallback": []}
    assert artifact.violations == ()


def test_convolutions_that_are_skipped_are_planned_as_none(tmp_path: Path) -> None:
    steps = load_recipe("int8", find_pass).pipeline.passes
    skipping = Pipeline(
        tuple(replace(step, skip=("pointwise",)) if isinstance(step, Quantize) else step for step in steps)
    )
    program = compiled(pool_former, skipping)
    linears = [site for site in find_sites(program).linears if site.role in BLOCK_ROLES and not site.is_conv]
    assert built(program, tmp_path).report["linears"]["planned_int8"] == len(linears) == 1


def test_a_convolution_that_reads_no_rounded_value_is_found_in_floating_point(tmp_path: Path) -> None:
    """The contract's check can fail: one convolution's pair is taken out of the file."""
    program = compiled(pool_former, load_recipe("int8", find_pass).pipeline)
    model = lower(program, tmp_path / "model.onnx")
    plan = find_builder("tensorrt").plan(program, model, A100, parse_batch("1"))
    graph = onnx.load(model.path)  # pyright: ignore[reportUnknownMemberType]
    writers = {name: node for node in graph.graph.node for name in node.output}
    conv = next(node for node in graph.graph.node if node.op_type == "Conv" and node.attribute[0].ints[:] == [1, 1])
    read = writers[conv.input[0]]
    while read.op_type in ("DequantizeLinear", "QuantizeLinear"):
        conv.input[0] = read.input[0]
        read = writers[conv.input[0]]
    onnx.save(graph, model.path)  # pyright: ignore[reportUnknownMemberType]
    artifact = plan.run(silent)
    assert len(artifact.report["linears"]["fallback"]) == 1
    assert "int8 gemm" in str(artifact.violations[0])
