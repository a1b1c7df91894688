"""Programs as recipes leave them for an engine, each made once for all tests, and images for them."""

from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import vitgraph
from vitgraph.backends.cuda.executing import Executor
from vitgraph.backends.cuda.lowered import Lowered
from vitgraph.backends.cuda.lowering import lower_program
from vitgraph.backends.cuda.plan import Plan, Step
from vitgraph.backends.cuda.twin import Twin
from vitgraph.frontend.model_request import ModelRequest
from vitgraph.frontend.saved_programs import describe_saved
from vitgraph.images.image_set import open_images
from vitgraph.images.preprocess import Preprocessing
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.pass_manager.pipeline import parse_pipeline
from vitgraph.passes import find_pass
from vitgraph.targets.target import get_target

DIGITS = Preprocessing(image_size=(24, 24), resize=(24, 24), mean=(0.3,), std=(0.37,), fit="exact", crop="none", interpolation="bilinear")  # fmt: skip


def for_engine(program: Program, target: str = "a100") -> Program:
    """A quantized program with FP16 around its quantizers and weights as codes."""
    steps = parse_pipeline("assign-precision,materialize,legalize", find_pass)
    return steps.run(program, Context(target=get_target(target)))


@cache
def digits_program(recipe: str) -> Program:
    return for_engine(vitgraph.quantize("digits-vit", "digits:train", recipe, images=16))


@cache
def lowered_digits(recipe: str) -> Lowered:
    return lower_program(digits_program(recipe))


@cache
def digits_images(count: int) -> Tensor:
    """Images [count, 1, 24, 24] that were not calibrated with."""
    return torch.cat([batch for batch, _ in open_images("digits:test", DIGITS, limit=count).batches(50)])


def images_of(program: Program, source: Path, count: int) -> Tensor:
    """Images `[count, ...]`, preprocessed as the program's model wants them."""
    preprocessing = describe_saved(program, ModelRequest(program)).preprocessing
    assert preprocessing is not None
    return torch.cat([batch for batch, _ in open_images(str(source), preprocessing, limit=count).batches(count)])


def vit_program(recipe: str = "int8", **sizes: int) -> Program:
    """A ViT of timm with random weights, quantized on random images."""
    timm: Any = import_module("timm")
    torch.default_generator.manual_seed(0)
    model: nn.Module = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=10, **sizes)
    return for_engine(vitgraph.quantize(model.eval(), torch.randn(4, 3, sizes["img_size"], sizes["img_size"]), recipe))


def run(twin: Executor, images: Tensor, size: int = 10) -> Tensor:
    """Logits, by batches."""
    return torch.cat([twin.run(batch) for batch in parts(images, size)])


def parts(images: Tensor, size: int) -> list[Tensor]:
    """Images, so many at a time."""
    return [images[start : start + size] for start in range(0, len(images), size)]


def twin_of(lowered: Lowered) -> Twin:
    return Twin(lowered.plan, lowered.tensors)


def with_steps(plan: Plan, steps: list[Step]) -> Plan:
    return replace(plan, steps=tuple(steps))
