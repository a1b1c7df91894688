"""What times and runs models on a GPU, there: the card, torch.compile, the plan's graphs, an engine; skipped where there is none."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.backends.cuda.lowered_models import digits_images, digits_program, lowered_digits, twin_of
from tests.backends.onnx_vit import Vit, write_vit
from vitgraph.backends import find_backend
from vitgraph.backends.cuda.device import Device
from vitgraph.backends.tensorrt.backend import TensorRT, build_engine, unbuildable_why
from vitgraph.backends.tensorrt.loading import load_engine
from vitgraph.backends.torch_compile.backend import TorchCompile
from vitgraph.pass_manager.numerics import measure
from vitgraph.runtime.cuda_card import CudaCard
from vitgraph.targets.target import Target, all_targets

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def test_the_card_times_records_and_says_what_is_taken() -> None:
    card = CudaCard()
    x, before = card.empty((4096, 4096), torch.float16).fill_(1), card.used_bytes()

    def multiply() -> Tensor:
        return torch.matmul(x, x)

    def often() -> None:
        for _ in range(20):
            multiply()

    short, long = (min(card.seconds(work) for _ in range(5)) for work in (multiply, often))
    assert 0 < short < long
    replay, result = card.capture(multiply)
    x.fill_(2)
    card.synchronize()
    card.seconds(replay)
    assert float(result[0, 0]) == 4 * 4096
    kept = card.empty((2**28,), torch.float16)
    assert card.used_bytes() - before >= kept.nbytes - 2**26
    assert card.facts().driver


def test_torch_compile_gives_the_layers_of_the_program() -> None:
    program, images = digits_program("int8"), digits_images(8)
    with TorchCompile().load(program) as runner:
        for size in (8, 3, 8):
            assert measure(program.run(images[:size]), runner.run(images[:size])).relative_l2 < 0.1
        assert runner.accelerator.seconds(runner.resident(images)) > 0
        assert runner.kernel_times(images)


def test_a_plan_is_timed_and_its_kernels_have_sites() -> None:
    lowered, images = lowered_digits("sparse-int8"), digits_images(8)
    with Device(lowered.plan, lowered.tensors) as runner:
        assert measure(twin_of(lowered).run(images), runner.run(images)).relative_l2 < 0.1
        assert runner.accelerator.seconds(runner.resident(images)) > 0
        found = runner.kernel_times(images)
    sites = {site.path for site in lowered.plan.sites if site.kind == "linear"}
    assert sites <= {each.site for each in found}


def test_an_engine_runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITGRAPH_CACHE", str(tmp_path / "cache"))
    if why := TensorRT().refusal(None) or _no_target():
        pytest.skip(why)
    model = write_vit(Vit(dynamic=True), tmp_path / "model.onnx")
    (tmp_path / "engine.plan").write_bytes(build_engine(model, _target(), (1, 4, 8)).plan)
    with find_backend("ort").load(model) as reference, load_engine(tmp_path) as runner:
        for size in (1, 4, 17):
            tokens = torch.randn(size, 16, 64, generator=torch.Generator().manual_seed(size))
            assert measure(reference.run(tokens), runner.run(tokens)).relative_l2 < 0.1
        assert runner.accelerator.seconds(runner.resident(tokens[:4])) > 0
        assert runner.kernel_times(tokens[:4])


def _target() -> Target:
    capability = ".".join(map(str, torch.cuda.get_device_capability()))
    return next(each for each in all_targets() if each.compute_capability == capability)


def _no_target() -> str | None:
    try:
        return unbuildable_why(_target())
    except StopIteration:
        return "no target of vitgraph's is this GPU"
