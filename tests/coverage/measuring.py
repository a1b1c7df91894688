"""A model through a recipe to an engine, and what became of each of its products and softmaxes on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from tests.coverage.eager_counts import Counts, count
from tests.coverage.models import Model
from tests.trained_weights import draw_as_trained
from vitgraph.analysis.attention import find_softmaxes
from vitgraph.analysis.sites import LinearSite, find_sites
from vitgraph.backends import find_builder
from vitgraph.backends.onnx.lowering import lower
from vitgraph.compile.recipe import load_recipe
from vitgraph.frontend.capture import capture
from vitgraph.ir.batch import parse_batch
from vitgraph.ir.calls import AttentionCall, WeightedCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import path_of
from vitgraph.ir.operator_classes import PAIRS, WEIGHTED
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import find_pass
from vitgraph.passes.quantization.left_in_float import MANY_WEIGHTS, has_many_weights
from vitgraph.progress import silent
from vitgraph.targets.target import get_target

TARGET = get_target("a100")


@dataclass(frozen=True)
class Noise:
    """Seeded calibration images of an input's shape."""

    pixels: Tensor

    @classmethod
    def of(cls, shape: tuple[int, ...], count: int = 2) -> Noise:
        """Images of this shape."""
        return cls(torch.randn(count, *shape, generator=torch.Generator().manual_seed(3)))

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self, size: int) -> Iterator[tuple[Tensor, None]]:
        """The images, so many at a time."""
        for start in range(0, len(self), size):
            yield self.pixels[start : start + size], None


@dataclass
class Measured:
    """What became of one model."""

    eager: Counts
    cosine: float
    """The least of all outputs, eager against the compiled program."""
    linears: int = 0
    """Sites, or other products, that the compiled program has."""
    convolutions: int = 0
    int8: Counter[str] = field(default_factory=Counter[str])
    """Products that are planned in INT8, by role."""
    softmaxes: int = 0
    fused: int = 0
    """Softmaxes that are inside of an attention operator."""
    fused_int8: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])
    """Why products are not in INT8, attentions not INT8 and softmaxes not fused: how many of each."""
    gaps: list[str] = field(default_factory=list[str])
    """What is neither, and no pass says why."""
    engine: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The report of the builder."""
    violations: list[str] = field(default_factory=list[str])


def made(model: Model) -> nn.Module:
    """A model with its weights, the same at every call."""
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    module = model.make().eval()
    draw_as_trained(module)
    return module


@dataclass(frozen=True)
class Captured:
    """A model with its weights, what it is calibrated on, and its program as it was captured."""

    module: nn.Module
    images: Noise
    program: Program

    @classmethod
    def of(cls, model: Model) -> Captured:
        """Make it, and capture it for one image."""
        module, images = made(model), Noise.of(model.shape)
        return cls(module, images, capture(module, images.pixels[:1]))

    @property
    def image(self) -> Tensor:
        """One of the images."""
        return self.images.pixels[:1]


def measure(captured: Captured, folder: Path, recipe: str = "int8") -> Measured:
    """Compile a model and look at what was done."""
    context = Context(TARGET, calibration=captured.images)
    program = load_recipe(recipe, find_pass).pipeline.run(captured.program, context)
    with torch.no_grad():
        cosine = _cosine(captured.module(captured.image), program.run(captured.image))
    found = Measured(count(captured.module, captured.image), cosine)
    _Judge(found, context).look(program)
    lowered = lower(program, folder / "model.onnx")
    artifact = find_builder("tensorrt").plan(program, lowered, TARGET, parse_batch("1")).run(silent)
    found.engine, found.violations = artifact.report, [str(each) for each in artifact.violations]
    return found


class _Judge:
    """Goes over a compiled program."""

    def __init__(self, found: Measured, context: Context) -> None:
        self._found = found
        self._refused = context.refusals

    def look(self, program: Program) -> None:
        """At every product with a weight, then at every softmax."""
        sites = {site.node: site for site in find_sites(program).linears}
        for node in program.calls(*WEIGHTED):
            self._product(node, sites.get(node))
        for node in program.calls(aten.matmul.default):
            if has_many_weights(node):
                self._found.linears += 1
                self._explain("many weights", node)
        for spelling, node in find_softmaxes(program):
            self._softmax(node, spelling)

    def _product(self, node: fx.Node, site: LinearSite | None) -> None:
        is_linear = site is not None and not site.is_conv
        self._found.linears += is_linear
        self._found.convolutions += not is_linear
        if site is not None and WeightedCall(node).weight.target in PAIRS:
            self._found.int8[site.role] += 1
        else:
            self._explain("product", node)

    def _softmax(self, node: fx.Node, spelling: str) -> None:
        self._found.softmaxes += 1
        attention = AttentionCall.of(node)
        self._found.fused += attention is not None
        if attention is None:
            self._explain(spelling, node)
        elif attention.is_rounded:
            self._found.fused_int8 += 1
        else:
            self._explain("attention", node)

    def _explain(self, what: str, node: fx.Node) -> None:
        """Count the last reason that was given; an attention and products in it may have one path."""
        many = what == "many weights"
        path = path_of(node)
        reasons = [each.why for each in self._refused if each.site == path and (each.why == MANY_WEIGHTS) == many]
        if reasons:
            self._found.reasons[f"{what}: {reasons[-1]}"] += 1
        else:
            self._found.gaps.append(f"{what} {path}")


def _cosine(wanted: Any, found: Any) -> float:
    pairs = zip(_tensors(wanted), _tensors(found), strict=True)
    return min(
        float(functional.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0))
        for a, b in pairs
        if a.is_floating_point()
    )


def _tensors(values: Any) -> Sequence[Tensor]:
    return [values] if isinstance(values, Tensor) else [tensor for each in values for tensor in _tensors(each)]
