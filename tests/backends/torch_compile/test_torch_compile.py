"""The FP16 form of a program, and its runner on a card that pretends; what Inductor makes of it is seen on a GPU alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx

from tests.backends.cuda.lowered_models import digits_images, digits_program
from tests.backends.operator_cases import CASES, build
from tests.backends.pretended_card import PretendedCard
from vitgraph.backends.torch_compile.backend import TorchCompile
from vitgraph.backends.torch_compile.float_form import float_form
from vitgraph.backends.torch_compile.runner import CompiledRunner
from vitgraph.errors import InputError
from vitgraph.ir import dialect
from vitgraph.pass_manager.numerics import measure
from vitgraph.runtime.accelerator import KernelTime
from vitgraph.runtime.kernel_spans import Span

SDPA: Any = torch.ops.aten.scaled_dot_product_attention.default


def as_it_is(module: fx.GraphModule) -> fx.GraphModule:
    """In place of torch's compiler."""
    return module


@pytest.mark.parametrize("recipe", ["int8", "sparse-int8"])
def test_nothing_of_quantization_is_left(recipe: str) -> None:
    program = digits_program(recipe)
    before = str(program.graph)
    form = float_form(program)
    targets = [node.target for node in form.module.graph.nodes]
    assert not {*dialect.OWN} & set(targets)
    assert targets.count(SDPA) == 4
    assert {tensor.dtype for tensor in form.module.state_dict().values() if tensor.is_floating_point()} == {
        torch.float16
    }
    assert "quantizers" in form.told()
    assert str(program.graph) == before, "the program itself stays"


def test_a_program_in_floating_point_loses_nothing() -> None:
    assert float_form(build(CASES["gelu"])).told() == ""


def test_it_computes_the_layers_of_the_program() -> None:
    program, images = digits_program("int8"), digits_images(16)
    with CompiledRunner(program, PretendedCard(), as_it_is) as runner:
        found = runner.run(images)
    assert found.dtype == torch.float32
    expected: Tensor = program.run(images)
    assert measure(expected, found).relative_l2 < 0.1, "to within what INT8 rounds"
    assert torch.equal(found.argmax(-1), expected.argmax(-1))


def test_each_batch_size_is_compiled_by_itself_and_recorded_once() -> None:
    card, compiled = PretendedCard(), list[fx.GraphModule]()

    def remember(module: fx.GraphModule) -> fx.GraphModule:
        compiled.append(module)
        return module

    images = digits_images(16)
    with CompiledRunner(digits_program("int8"), card, remember) as runner:
        first = runner.run(images[:4])
        again = [runner.run(images[start : start + 4]) for start in (4, 0)]
        runner.run(images[:2])
        card.seconds(runner.resident(images[:2]))
        assert runner.execution(4).linears["blocks.0.mlp.fc1"] == "fp16"
        assert "quantizers" in runner.execution(4).settings["left out"]
    assert torch.equal(again[1], first)
    assert not torch.equal(again[0], first)
    assert (card.captures, len(compiled)) == (2, 2)
    assert len({id(type(module).forward) for module in compiled}) == 2, "code of its own"


def test_kernels_are_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(work: Any) -> list[Span]:
        work()
        return [Span("triton_fused", 0, 5, True), Span("aten::addmm", 0, 9, False)]

    monkeypatch.setattr("vitgraph.backends.torch_compile.runner.profiled", seen)
    with CompiledRunner(digits_program("int8"), PretendedCard(), as_it_is) as runner:
        assert runner.kernel_times(digits_images(2)) == [KernelTime("triton_fused", 5e-6, "", 1)]


def test_too_little_memory_is_one_line() -> None:
    card = PretendedCard()
    card.full = True
    with (
        CompiledRunner(digits_program("int8"), card, as_it_is) as runner,
        pytest.raises(InputError, match="the GPU's memory does not hold a batch of 2"),
    ):
        runner.run(digits_images(2))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so() -> None:
    why = TorchCompile().refusal(None)
    assert why is not None
    assert "\n" not in why
    with pytest.raises(InputError, match=r"no CUDA device is here|built without CUDA"):
        TorchCompile().load(digits_program("int8"))


def test_an_onnx_file_is_refused() -> None:
    with pytest.raises(InputError, match="runs programs"):
        TorchCompile().load(Path("model.onnx"))
