"""A plan's twin against the program and against its ONNX file, end to end and step by step; faults planted in plans are noticed."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

import pytest
import torch
from torch import Tensor

from tests.backends.cuda.lowered_models import (  # fmt: skip
    digits_images,
    digits_program,
    lowered_digits,
    parts,
    run,
    twin_of,
    vit_program,
    with_steps,
)
from tests.backends.cuda.stepwise import relative_l2, step_errors
from vitgraph.backends.cuda.lowered import Lowered
from vitgraph.backends.cuda.lowering import lower_program
from vitgraph.backends.cuda.plan import Argument, Step, Weight
from vitgraph.backends.ort.backend import Ort
from vitgraph.errors import InputError
from vitgraph.ir.program import Program

RECIPES = ("int8", "sparse-int8")
NEAR = 2e-2
"""Relative L2 of logits, which says little (see `stepwise`, where the proof is). In eager mode the program itself is 1.1e-2 from
its ONNX file: sums in another order, and other codes."""


def onnx_logits(program: Program, images: Tensor) -> Tensor:
    with Ort().load(program, threads=1) as runner:
        return torch.cat([runner.run(batch) for batch in parts(images, 10)])


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_digits_are_those_of_the_onnx_file(recipe: str) -> None:
    images = digits_images(100)
    found, wanted = run(twin_of(lowered_digits(recipe)), images), onnx_logits(digits_program(recipe), images)
    assert relative_l2(found, wanted) < NEAR
    assert (found.argmax(1) == wanted.argmax(1)).float().mean() >= 0.99


@pytest.mark.slow
def test_random_vit_is_that_of_the_onnx_file() -> None:
    """Attention of one head, an odd number of rows, weights that no sparse kernel takes."""
    program = vit_program(img_size=32, depth=2, embed_dim=48, num_heads=3)
    images = torch.randn(7, 3, 32, 32)
    found, wanted = run(twin_of(lower_program(program)), images, 7), onnx_logits(program, images)
    assert relative_l2(found, wanted) < NEAR


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_step_is_what_the_program_computes(recipe: str) -> None:
    twin = twin_of(lowered_digits(recipe))
    errors = list(step_errors(digits_program(recipe), twin, digits_images(3)))
    assert len(errors) > 40
    assert [each for each in errors if each.wrong] == []


@pytest.mark.parametrize("size", [1, 2, 7])
def test_batch_sizes_take_turns(size: int) -> None:
    """Rows that are no multiple of 32: what lies in the padding is never seen."""
    twin, images = twin_of(lowered_digits("sparse-int8")), digits_images(7)
    whole = twin.run(images)
    assert torch.isfinite(whole).all()
    assert torch.equal(torch.cat([twin.run(batch) for batch in parts(images, size)]), whole)


Arguments = Mapping[str, Argument]


def wrong_scale(lowered: Lowered) -> Lowered:
    return changed(
        lowered, "normalize", lambda step: {**step.arguments, "scale": 1.2 * cast(float, step.arguments["scale"])}
    )


def swapped_operands(lowered: Lowered) -> Lowered:
    def swap(step: Step) -> Arguments:
        return {**step.arguments, "v": step.arguments["k"], "k": step.arguments["v"]}

    return changed(lowered, "attention", swap)


def lost_bias(lowered: Lowered) -> Lowered:
    return changed(lowered, "activate", lambda step: {**step.arguments, "bias": None})


def lost_residual(lowered: Lowered) -> Lowered:
    return changed(lowered, "normalize", lambda step: {**step.arguments, "residual": step.arguments["x"]}, at=2)


def swapped_mask(lowered: Lowered) -> Lowered:
    """The codes of one product two columns on: as sparse as before, and zero elsewhere."""
    name = next(cast(Weight, step.arguments["w"]).name for step in lowered.plan.steps if step.kernel == "sparse linear")
    codes = lowered.tensors[name]
    moved = codes.reshape(-1, 4).roll(2, 1).reshape(codes.shape)
    return replace(lowered, tensors={**lowered.tensors, name: moved})


def changed(lowered: Lowered, kernel: str, change: Callable[[Step], Arguments], at: int = 0) -> Lowered:
    """One step of this kernel with other arguments."""
    steps = list(lowered.plan.steps)
    position = [place for place, step in enumerate(steps) if step.kernel == kernel][at]
    steps[position] = replace(steps[position], arguments=change(steps[position]))
    return replace(lowered, plan=with_steps(lowered.plan, steps))


@pytest.mark.parametrize("fault", [wrong_scale, swapped_operands, swapped_mask, lost_bias, lost_residual])
def test_notices(fault: Callable[[Lowered], Lowered]) -> None:
    images, lowered = digits_images(7), lowered_digits("sparse-int8")
    wanted = run(twin_of(lowered), images)
    assert relative_l2(run(twin_of(fault(lowered)), images), wanted) > NEAR
    program = digits_program("sparse-int8")
    errors = step_errors(program, twin_of(fault(lowered)), images)
    assert any(each.wrong for each in errors)


def test_a_scale_that_is_two_percent_off_is_noticed() -> None:
    """Codes are judged by the scale that their step has: the consumer is blamed, which reads them by another, and no other step."""
    lowered = lowered_digits("sparse-int8")
    fault = changed(
        lowered, "normalize", lambda step: {**step.arguments, "scale": 1.02 * cast(float, step.arguments["scale"])}
    )
    errors = step_errors(digits_program("sparse-int8"), twin_of(fault), digits_images(7))
    assert [each.name for each in errors if each.wrong] == ["linear"]


def test_a_dropped_mask_is_refused() -> None:
    """The sparse product keeps two of four, whatever the rest was."""
    lowered = lowered_digits("sparse-int8")
    name = next(cast(Weight, step.arguments["w"]).name for step in lowered.plan.steps if step.kernel == "sparse linear")
    dense = {**lowered.tensors, name: torch.ones_like(lowered.tensors[name])}
    with pytest.raises(InputError, match="is not 2:4, and its product is sparse"):
        twin_of(replace(lowered, tensors=dense))


def test_dropped_padding_is_refused() -> None:
    lowered = lowered_digits("sparse-int8")
    buffers = {name: replace(each, padded=False) for name, each in lowered.plan.buffers.items()}
    with pytest.raises(ValueError, match="are multiples of 32"):
        run(twin_of(replace(lowered, plan=replace(lowered.plan, buffers=buffers))), digits_images(7), 7)


def test_tensors_have_to_be_the_plans() -> None:
    lowered = lowered_digits("int8")
    name = next(iter(lowered.tensors))
    for wrong in ({}, {name: lowered.tensors[name][:1]}):
        with pytest.raises(InputError, match="compile the model again"):
            twin_of(replace(lowered, tensors=wrong))


def test_it_says_what_each_site_is_computed_in() -> None:
    found = twin_of(lowered_digits("sparse-int8")).execution(1)
    assert found.summary() == "16 of 18 linears in int8, 2 in fp16; 4 of 4 attentions in int8"
    assert found.settings["2:4"] == "16 of 18 linears"
    assert twin_of(lowered_digits("int8")).execution(1).settings["2:4"] == "0 of 18 linears"
