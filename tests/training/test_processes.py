"""One process, and several: a stand-in for accelerate's accelerator; `tests/tools/test_search.py` launches real ones."""

import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from vitgraph.errors import InputError
from vitgraph.training.processes import Processes


def test_alone() -> None:
    alone = Processes()
    assert (alone.rank, alone.count, alone.device.type) == (0, 1, "cpu")
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    assert alone.prepare(model, optimizer) == (model, optimizer)
    alone.backward(model(torch.ones(1, 2)).sum())
    assert model.weight.grad is not None
    assert alone.map(lambda item: item * item, [3, 1, 2]) == [9, 1, 4]


def test_each_does_its_part_and_all_get_all(monkeypatch: pytest.MonkeyPatch) -> None:
    done, kept = list[int](), dict[int, list[Any]]()

    def work(item: int) -> int:
        done.append(item)
        return -item

    parts = [
        Processes(
            SimpleNamespace(process_index=rank, num_processes=2, device=torch.device("cpu"), mixed_precision="no")
        )
        for rank in (0, 1)
    ]

    def keep(mine: list[Any]) -> list[Any]:
        kept[len(kept)] = mine  # by rank
        return mine

    def gather(mine: list[Any]) -> list[Any]:
        return kept[0] + kept[1]

    monkeypatch.setitem(sys.modules, "accelerate.utils", SimpleNamespace(gather_object=keep))
    assert [part.map(work, [5, 6, 7]) for part in parts] == [[-5, -7], [-6]]
    assert done == [5, 7, 6]
    monkeypatch.setitem(sys.modules, "accelerate.utils", SimpleNamespace(gather_object=gather))
    assert [part.map(work, [5, 6, 7]) for part in parts] == [[-5, -6, -7]] * 2


def test_an_accelerator_trains() -> None:
    pytest.importorskip("accelerate")
    accelerated = Processes.accelerated()
    model, optimizer = accelerated.prepare(nn.Linear(2, 2), torch.optim.AdamW(nn.Linear(2, 2).parameters()))
    accelerated.backward(model(torch.ones(1, 2, device=accelerated.device)).sum())
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert optimizer.param_groups


def test_a_precision_that_it_has_not_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**given: Any) -> None:
        raise ValueError("fp16 mixed precision requires a GPU")

    monkeypatch.setitem(sys.modules, "accelerate", SimpleNamespace(Accelerator=refuse))
    with pytest.raises(InputError, match="amp fp16: accelerate can't train so here"):
        Processes.accelerated("fp16")


@pytest.mark.parametrize(
    ("capability", "machine", "device", "used"),
    [
        ("AVX2", "x86_64", "cpu", "no"),
        ("DEFAULT", "AMD64", "cpu", "no"),
        ("AVX512", "x86_64", "cpu", "bf16"),
        ("DEFAULT", "aarch64", "cpu", "bf16"),
        ("AVX2", "x86_64", "cuda", "bf16"),
    ],
)
def test_a_cpu_that_is_slow_in_bf16_computes_in_fp32(
    capability: str, machine: str, device: str, used: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    def accelerator(mixed_precision: str, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(process_index=0, num_processes=1, device=place, mixed_precision=mixed_precision)

    place = torch.device(device)
    stand_in = SimpleNamespace(Accelerator=accelerator, PartialState=lambda: SimpleNamespace(device=place))
    monkeypatch.setitem(sys.modules, "accelerate", stand_in)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr("platform.machine", lambda: machine)
    found = Processes.accelerated("bf16")
    assert found.precision == used
    assert (found.precision_why is None) == (used == "bf16")
    assert ("amp bf16: this CPU has no AVX-512" in caplog.text) == (used == "no")


def test_a_missing_compiler_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Inductor's own word for it stands in the message; a cache of its own, for it asks for no compiler where it has the kernel."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    inductor: Any = import_module("torch._inductor.config")
    told = pytest.raises(InputError, match=r"torchcompile: .*compiler.*; install what it asks for")
    with inductor.patch({"cpp.cxx": ("/absent/compiler",), "force_disable_caches": True}), told:
        Processes.accelerated(compiled=True)
