"""Plans of the backend `cuda` on a GPU, beside the same models in FP16 through torch.compile; one script, no network.

    python benchmarks/gpu.py --out out/gpu                            # all models, at most 8 minutes; not run on a GPU yet
    python benchmarks/gpu.py --out out/gpu --models vit_base_patch16_224 --batch 32 128
    python benchmarks/gpu.py --out out/gpu --dry-run                  # a small ViT by the references, on any machine: to see that all of it runs

It imports torch for CUDA (with its Triton), torchvision, timm, safetensors, Pillow, PyYAML, pydantic and vitgraph, nothing else of its dependencies. Where there is no network, bring what is missing:
`pip wheel --no-deps .` and `pip download pydantic` elsewhere, then `pip install --no-deps --no-index --find-links FOLDER vitgraph pydantic pydantic-core annotated-types typing-inspection`.

For each model with random weights: every step of each plan is compared with its reference, fed with the reference's own values; then all take turns at each batch size, each as
one CUDA graph, FP16 too. Medians and spread of rounds; transfers are not timed. What fails is null with its reason, and the rest goes on. One JSON object in `OUT/gpu.json`
and a table on standard output, both written anew after each model.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import timm
import torch
from torch import Tensor, nn

import vitgraph
from vitgraph.backends.cuda.cuda_tuner import CudaClock
from vitgraph.backends.cuda.executing import Executor
from vitgraph.backends.cuda.interleaved import Clock, Work, interleave
from vitgraph.backends.cuda.lowered import Lowered
from vitgraph.backends.cuda.lowering import lower_program
from vitgraph.backends.cuda.twin import Twin
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.pass_manager.pipeline import parse_pipeline
from vitgraph.passes import find_pass
from vitgraph.runtime.cuda_graph import captured
from vitgraph.targets.target import get_target

MODELS = (
    "vit_tiny_patch16_224", "vit_base_patch16_224", "vit_large_patch16_224", "vit_small_patch16_224",
    "deit_base_patch16_384", "swin_tiny_patch4_window7_224", "efficientvit_b1",
)  # fmt: skip
"""The first ones are those that marks are set for: time may end before the last."""
DRY = "test_vit"
RECIPES = ("int8", "sparse-int8")


class Machine(Clock, Protocol):
    """Where plans run, and how that is timed."""

    def name(self) -> str:
        """What the table says of it."""
        ...

    def executor(self, lowered: Lowered) -> Executor:
        """A plan, ready to run."""
        ...

    def planned(self, executor: Executor, batch: Tensor) -> Work:
        """One run of a plan on this batch."""
        ...

    def dense(self, model: nn.Module, batch: Tensor) -> Work:
        """One run of the model in FP16."""
        ...


class Gpu(CudaClock):
    """Kernels, CUDA graphs and CUDA's own clock."""

    def name(self) -> str:
        """Card and versions."""
        cuda: Any = torch.cuda
        return f"{cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}"

    def executor(self, lowered: Lowered) -> Executor:
        """The plan by the kernels."""
        from vitgraph.backends.cuda.device import Device

        return Device(lowered.plan, lowered.tensors)

    def planned(self, executor: Executor, batch: Tensor) -> Work:
        """A CUDA graph of the steps, on its own copy of the batch."""
        recorder: Any = executor
        with torch.no_grad():
            replay: Work = recorder.recorded(len(batch), batch).replay
        return replay

    def dense(self, model: nn.Module, batch: Tensor) -> Work:
        """A CUDA graph of what torch.compile makes of the model in FP16."""
        compiled, given = torch.compile(deepcopy(model).half().cuda(), dynamic=False), batch.half().cuda()
        with torch.no_grad():
            for _ in range(3):
                compiled(given)
            replay, _ = captured(lambda: compiled(given))
        return replay


class DryRun:
    """References in place of kernels: its times say nothing."""

    def name(self) -> str:
        """That it is none."""
        return "dry run: references on the CPU, no GPU"

    def executor(self, lowered: Lowered) -> Executor:
        """The plan by the references."""
        return Twin(lowered.plan, lowered.tensors)

    def planned(self, executor: Executor, batch: Tensor) -> Work:
        """The steps."""
        return lambda: executor.run(batch)

    def dense(self, model: nn.Module, batch: Tensor) -> Work:
        """The model as it is."""
        return lambda: model(batch)

    def milliseconds(self, work: Work, times: int) -> float:
        """By the wall clock."""
        start = time.perf_counter()
        for _ in range(times):
            work()
        return 1000 * (time.perf_counter() - start) / times


def lower(model: nn.Module, size: int, recipe: str) -> Lowered:
    """A model's plan, calibrated on four random images: timings and roundings do not depend on what it has learnt."""
    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    program = vitgraph.quantize(model, images, recipe, images=4)
    rest = parse_pipeline("absorb-shifts,assign-precision,materialize,legalize", find_pass)
    return lower_program(rest.run(program, Context(target=get_target("a100"))))


def compared(executor: Executor, lowered: Lowered, batch: Tensor) -> dict[str, dict[str, float]]:
    """By kernel, the worst of its steps: the share of INT8 codes that differ and by how many at most, relative L2 of FP16."""
    wanted = Twin(lowered.plan, lowered.tensors).run_steps(batch)
    values, worst = {lowered.plan.inputs[0]: batch.to(executor.device)}, dict[str, dict[str, float]]()
    for step in lowered.plan.steps:
        with torch.no_grad():
            executor.run_step(step, values, len(batch))
        for name in step.outputs:
            row = worst.setdefault(step.kernel, {})
            for key, value in _apart(values[name].cpu(), wanted[name]).items():
                row[key] = max(row.get(key, 0.0), value)
            if step.kernel == "torch" and not lowered.plan.buffers[name].padded:
                values[name] = wanted[name].to(executor.device)  # a view of a constant takes no values
            else:
                values[name].copy_(wanted[name])  # in the memory that the next step reads
    return worst


def _apart(found: Tensor, wanted: Tensor) -> dict[str, float]:
    if wanted.dtype == torch.int8:
        apart = (found.int() - wanted.int()).abs()
        return {"codes_differ": float((apart > 0).double().mean()), "codes_apart": float(apart.max())}
    off = (found.double() - wanted.double()).norm()
    return {"relative_l2": float(off / wanted.double().norm().clamp(min=1e-30))}


@dataclass
class Table:
    """What was found so far."""

    machine: Machine
    out: Path
    steps: dict[str, dict[str, Any]]
    rows: list[dict[str, Any]]
    failures: dict[str, str]

    def tried(self, what: str, make: Callable[[], Any]) -> Any:
        """What `make` gives; None where it fails, with the reason kept."""
        try:
            return make()
        except Exception as error:  # noqa: BLE001 - one model's failure is no other's
            self.failures[what] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            print(f"{what}: {self.failures[what]}", flush=True)
            return None

    def add(self, name: str, batches: Sequence[int]) -> None:
        """All of one model."""
        model = self.tried(name, lambda: timm.create_model(name, pretrained=False).eval())
        if model is None:
            return
        size = int(model.pretrained_cfg["input_size"][-1])
        plans = dict[str, Executor]()
        for recipe in RECIPES:
            found = self.tried(f"{name}, {recipe}", lambda recipe=recipe: self.planned(model, size, recipe))
            if found is not None:
                plans[recipe], self.steps[f"{name}, {recipe}"] = found
        for batch in batches:
            self.rows.append(self.timed(name, model, plans, torch.randn(batch, 3, size, size)))
            self.write()
            self.print_row(self.rows[-1])

    def planned(self, model: nn.Module, size: int, recipe: str) -> tuple[Executor, dict[str, Any]]:
        """The model's plan, ready to run, and how its steps compare on two images."""
        lowered = lower(model, size, recipe)
        executor = self.machine.executor(lowered)
        images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
        return executor, compared(executor, lowered, images)

    def timed(self, name: str, model: nn.Module, plans: Mapping[str, Executor], batch: Tensor) -> dict[str, Any]:
        """A row: medians of interleaved rounds."""
        what = f"{name}, batch {len(batch)}"
        made = {"fp16": self.tried(f"{what}, fp16", lambda: self.machine.dense(model, batch))}
        for recipe, executor in plans.items():
            made[recipe] = self.tried(
                f"{what}, {recipe}", lambda executor=executor: self.machine.planned(executor, batch)
            )
        works = {key: work for key, work in made.items() if work is not None}
        spreads = interleave(works, self.machine)
        row: dict[str, Any] = {"model": name, "batch": len(batch)}
        for key in ("fp16", *RECIPES):
            each = spreads.get(key)
            row[key] = None if each is None else {"ms": each.median, "least": each.least, "most": each.most}
        return row

    def write(self) -> None:
        """The file, whole."""
        data = {
            "machine": self.machine.name(), "python": platform.python_version(), "rows": self.rows, "steps": self.steps,
            "failures": self.failures,
        }  # fmt: skip
        (self.out / "gpu.json").write_text(json.dumps(data, indent=2) + "\n")

    def print_row(self, row: Mapping[str, Any]) -> None:
        """Milliseconds, and how many times faster than FP16."""
        cells, dense = [f"{row['model']:32} {row['batch']:4}"], row["fp16"]
        for key in ("fp16", *RECIPES):
            cell = row[key]
            ratio = "" if not (cell and dense) else f" {dense['ms'] / cell['ms']:5.2f}x"
            cells.append(f"{key} " + ("–" if cell is None else f"{cell['ms']:9.4f} ms{ratio}"))
        print("  ".join(cells), flush=True)


def main() -> None:
    """Model by model, until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", help="of timm")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8, 32, 128])
    parser.add_argument("--minutes", type=float, default=8, help="no model is begun after so many")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if not given.dry_run and not torch.cuda.is_available():
        parser.error("no CUDA device is here; --dry-run shows that the script runs")
    torch.default_generator.manual_seed(0)
    table = Table(DryRun() if given.dry_run else Gpu(), given.out, {}, [], {})
    start = time.monotonic()
    for name in given.models or ([DRY] if given.dry_run else MODELS):
        if time.monotonic() - start > 60 * given.minutes:
            print(f"{name}: not begun, {given.minutes:g} minutes are over", flush=True)
            continue
        table.add(name, [1, 2] if given.dry_run else given.batch)
    table.write()


if __name__ == "__main__":
    main()
