"""The control flow of the device's runner, on the CPU: kernels that write where they are told, and a graph that replays a function."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from tests.backends.cuda.lowered_models import digits_images, lowered_digits, twin_of
from vitgraph.backends.cuda import device, reference
from vitgraph.backends.cuda.device import Device, SparseProduct
from vitgraph.backends.cuda.plan import Plan
from vitgraph.backends.cuda.twin import sparse_linear
from vitgraph.errors import InputError


def into(function: Callable[..., Any]) -> Callable[..., Any]:
    """A reference that writes to `out` and `total`, as kernels do: the rows past the last stay as they are."""

    def write(*, out: Tensor, total: Tensor | None = None, **given: Any) -> Any:
        found = function(**given)
        results = cast("tuple[Tensor, ...]", found if isinstance(found, tuple) else (found,))
        for memory, result in zip((out, total), results, strict=False):
            if memory is not None:
                memory[: len(result)].copy_(result)
        return out if total is None else (out, total)

    return write


def nothing(device: str, plan: Plan) -> None:
    """No check."""


def missing(name: str) -> None:
    """No package is there."""


def turing(device: str) -> tuple[int, int]:
    """A card that is too old."""
    return 7, 5


class Pretended(Device):
    """A device that is the CPU; a captured function is called to replay it."""

    captures = 0

    def __init__(self, plan: Plan, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(plan, tensors, "cpu")

    def packed(self, weight: Tensor) -> Tensor:
        return weight

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        self.captures += 1
        output = run().clone()

        def replay() -> None:
            output.copy_(run())

        return replay, output


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    """The plan of the sparse digits on it."""
    names = ("linear", "normalize", "activate", "attention")
    monkeypatch.setattr(device, "check_device", nothing)
    monkeypatch.setattr(device, "triton_kernels", lambda: {name: into(getattr(reference, name)) for name in names})
    monkeypatch.setattr(device, "SparseProduct", lambda: sparse_linear)
    lowered = lowered_digits("sparse-int8")
    return Pretended(lowered.plan, lowered.tensors)


def test_each_batch_size_is_captured_once_and_replayed_on_new_images(pretended: Pretended) -> None:
    twin, images = twin_of(lowered_digits("sparse-int8")), digits_images(7)
    for batch in (images[:3], images[3:6], images[:2], images[4:7]):
        assert torch.equal(pretended.run(batch), twin.run(batch))
    assert pretended.captures == 2


def test_what_is_given_stays_when_the_next_batch_runs(pretended: Pretended) -> None:
    images = digits_images(7)
    first = pretended.run(images[:3])
    kept = first.clone()
    assert not torch.equal(pretended.run(images[3:6]), kept)
    assert torch.equal(first, kept)


def test_closing_lets_memory_go(pretended: Pretended) -> None:
    pretended.run(digits_images(7)[:2])
    pretended.close()
    pretended.run(digits_images(7)[:2])
    assert pretended.captures == 2


def test_the_fastest_algorithm_is_looked_for_once_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = list[tuple[str, Any]]()

    def search(w: Tensor, x: Tensor, **given: Any) -> int:
        calls.append(("search", tuple(x.shape)))
        return 5

    def multiply(w: Tensor, x: Tensor, *, alg_id: int, **given: Any) -> Tensor:
        calls.append(("multiply", alg_id))
        assert given["transpose_result"]
        assert given["out_dtype"] == torch.float16
        return sparse_linear(x.t(), w, given["alpha"])

    monkeypatch.setattr(torch, "_cslt_sparse_mm_search", search)
    monkeypatch.setattr(torch, "_cslt_sparse_mm", multiply)
    product, w = SparseProduct(), torch.ones(32, 64, dtype=torch.int8)
    for rows in (32, 32, 64):
        assert product(torch.ones(rows, 64, dtype=torch.int8), w, torch.ones(32)).shape == (rows, 32)
    assert [what for what, _ in calls] == ["search", "multiply", "multiply", "search", "multiply"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so() -> None:
    lowered = lowered_digits("int8")
    with pytest.raises(InputError, match="no CUDA device is here"):
        Device(lowered.plan, lowered.tensors)


def test_an_old_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", turing)
    with pytest.raises(InputError, match=r"the GPU is sm_75, and the kernels need sm_80"):
        device.check_device("cuda", lowered_digits("int8").plan)


def test_without_triton_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitgraph.backends.cuda.refusals.find_spec", missing)
    with pytest.raises(InputError, match="Triton is not installed"):
        device.check_device("cuda", lowered_digits("int8").plan)
