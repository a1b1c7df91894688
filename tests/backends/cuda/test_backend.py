"""The backend itself: what it refuses and where, what a compilation leaves, and what the report says of each site."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from tests.backends.cuda.lowered_models import digits_program, lowered_digits
from vitgraph.backends import choose
from vitgraph.backends.cuda import device
from vitgraph.backends.cuda.backend import Cuda
from vitgraph.backends.cuda.site_report import describe_sites
from vitgraph.cost.shares import FITTED
from vitgraph.errors import InputError
from vitgraph.ir.batch import Batch
from vitgraph.progress import silent
from vitgraph.runtime.onnx_model import OnnxModel
from vitgraph.targets.target import get_target

H200 = get_target("h200")


@pytest.mark.parametrize(
    ("target", "says"), [("cpu", "is no NVIDIA GPU"), ("rtx-turing", r"is sm_75, and the kernels need sm_80")]
)
def test_targets_without_these_kernels_are_refused(target: str, says: str) -> None:
    assert says in str(Cuda().refusal(get_target(target)))


@pytest.mark.parametrize("target", ["a100", "orin-agx", "rtx-ampere", "l4", "h200", "rtx-blackwell"])
def test_plans_are_built_for_ampere_and_later(target: str) -> None:
    assert Cuda().refusal(get_target(target)) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_builds_and_another_measures() -> None:
    runner, builder = choose("cuda")
    assert (runner.name, type(builder)) == ("ort", Cuda)
    assert Cuda().refusal(None)
    with pytest.raises(InputError, match="--backend cuda: "):
        Cuda().load(digits_program("int8"))


def test_with_a_gpu_it_measures_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitgraph.backends.cuda.backend.refusal_here", lambda: None)
    assert [type(each) for each in choose("cuda")] == [Cuda, Cuda]


def test_a_capability_that_it_was_not_made_for_is_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are compiled and weights packed where the plan is loaded."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", hopper)
    plan = replace(lowered_digits("sparse-int8").plan, target="a100", capability="8.0")
    device.check_device("cuda", plan)
    monkeypatch.setattr(torch.backends.cusparselt, "is_available", lambda: False)
    with pytest.raises(InputError, match="its sparse products need cuSPARSELt"):
        device.check_device("cuda", plan)
    device.check_device("cuda", lowered_digits("int8").plan)


def test_too_little_memory_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^vit: the GPU's memory does not hold a batch of 512; ") as error, device.enough_memory("vit", "a batch of 512"):  # fmt: skip
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate …")
    assert "\n" not in str(error.value)


def test_a_build_leaves_the_plan_and_says_what_is_in_it() -> None:
    build = Cuda().plan(digits_program("sparse-int8"), cast(OnnxModel, None), H200, Batch(1, 8, 16))
    artifact = build.run(silent)
    assert set(artifact.files) == {"cuda/plan.json", "cuda/weights.safetensors"}
    report = dict(artifact.report)
    assert (report["target"], report["compute_capability"], report["batch"]) == ("h200", "9.0", "1:8:16")
    assert report["kernels"]["sparse linear"] == 16
    assert [(site["format"], site["kernel"]) for site in report["sites"]].count(("int8 2:4", "sparse linear")) == 16
    assert build.run(silent) == artifact


def hopper(device: str) -> tuple[int, int]:
    return 9, 0


def rows(recipe: str, target: str = "h200", batch: int = 128) -> list[dict[str, Any]]:
    return describe_sites(digits_program(recipe), lowered_digits(recipe).plan, get_target(target), batch)


def test_every_site_has_an_estimate_and_no_measurement() -> None:
    found = rows("sparse-int8")
    assert len(found) == 22
    assert all(site["estimated_us"] > 0 and site["estimated_why"] is None for site in found)
    assert all(site["measured_us"] is None and site["measured_why"] for site in found)
    assert [(site["path"], site["kind"]) for site in found[:3]] == [
        ("patch_embed.proj", "linear"), ("blocks.0.attn.qkv", "linear"), ("blocks.0.attn", "attention"),
    ]  # fmt: skip


def test_estimates_grow_with_the_batch_and_know_the_second_pass() -> None:
    small, large = rows("int8", batch=1), rows("int8", batch=4096)
    assert all(one["estimated_us"] < other["estimated_us"] for one, other in zip(small, large, strict=True))
    dense = {site["path"]: site["estimated_us"] for site in rows("int8", batch=1)}
    sparse = {site["path"]: site["estimated_us"] for site in rows("sparse-int8", batch=1)}
    second = FITTED.launch_us
    assert sparse["blocks.0.mlp.fc1"] > dense["blocks.0.mlp.fc1"] + second, "of one image the second launch counts"


def test_a_target_without_rates_has_no_estimate_and_says_why() -> None:
    target = H200.model_copy(update={"chip": None})
    found = describe_sites(digits_program("int8"), lowered_digits("int8").plan, target, 1)
    assert all(site["estimated_us"] is None and site["estimated_why"] for site in found)


def test_an_onnx_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("vitgraph.backends.cuda.backend.refusal_here", lambda: None)
    with pytest.raises(InputError, match="runs programs and plans"):
        Cuda().load(tmp_path / "model.onnx")
