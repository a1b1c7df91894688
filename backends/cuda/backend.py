"""The backend `cuda`: builds plans of kernels on any machine, and runs them on an NVIDIA GPU of compute capability 8.0 or later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vitgraph.backends.cuda.refusals import refusal_for, refusal_here
from vitgraph.errors import InputError
from vitgraph.ir.batch import Batch
from vitgraph.progress import Progress
from vitgraph.runtime.backend import Artifact, Source
from vitgraph.runtime.onnx_model import OnnxModel
from vitgraph.targets.target import Target

if TYPE_CHECKING:
    from vitgraph.backends.cuda.device import Device
    from vitgraph.backends.cuda.lowered import Lowered
    from vitgraph.ir.program import Program


@dataclass(frozen=True)
class PlanBuild:
    """A program's plan, its weights, and what the report says of its sites."""

    lowered: Lowered
    sites: list[dict[str, Any]]
    batch: Batch

    def run(self, progress: Progress) -> Artifact:
        """`cuda/plan.json` and `cuda/weights.safetensors`."""
        from vitgraph.backends.cuda.plan_folder import plan_files

        progress("build: plan", 1, 1)
        files = plan_files(self.lowered)
        return Artifact(files, self._report(files))

    def defer(self) -> Artifact:
        """Nothing: where a plan can't be built for a target, the compilation is refused before any work."""
        return Artifact({})

    def _report(self, files: Mapping[str, bytes]) -> dict[str, Any]:
        plan = self.lowered.plan
        return {
            "flavour": "cuda",
            "target": plan.target,
            "compute_capability": plan.capability,
            "batch": str(self.batch),
            "bytes": sum(map(len, files.values())),
            "steps": len(plan.steps),
            "kernels": dict(Counter(step.operator or step.kernel for step in plan.steps)),
            "sites": self.sites,
        }


class Cuda:
    """Lowers programs to plans and runs them."""

    name: ClassVar[str] = "cuda"
    source: ClassVar[Source] = "cuda"

    def refusal(self, target: Target | None) -> str | None:
        """Why no plan can be made for `target`, on any machine; without one, why no plan can run on this."""
        return refusal_here() if target is None else refusal_for(target)

    def load(self, model: Program | Path, target: Target | None = None, *, threads: int = 0) -> Device:
        """A program, or the folder of a plan, on the GPU; `InputError` where there is none that runs it."""
        from vitgraph.backends.cuda.device import Device
        from vitgraph.backends.cuda.lowering import lower_program
        from vitgraph.backends.cuda.plan_folder import load_plan

        if why := refusal_here():
            raise InputError(f"--backend cuda: {why}")
        if isinstance(model, Path) and model.suffix == ".onnx":
            raise InputError(f"{model}: the cuda backend runs programs and plans; give a saved program or a folder")
        lowered = load_plan(model) if isinstance(model, Path) else lower_program(model)
        return Device(lowered.plan, lowered.tensors)

    def plan(self, program: Program, model: OnnxModel, target: Target, batch: Batch) -> PlanBuild:
        """The steps of a program, and what became of each site."""
        from vitgraph.backends.cuda.lowering import lower_program
        from vitgraph.backends.cuda.site_report import describe_sites

        lowered = lower_program(program)
        plan = replace(lowered.plan, target=target.name, capability=target.compute_capability or "")
        return PlanBuild(replace(lowered, plan=plan), describe_sites(program, plan, target, batch.best), batch)
