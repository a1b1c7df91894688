"""A backend of another package that both runs models and builds engines, and one that does neither."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.ir.batch import Batch
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim
from vitgraph.pass_manager.numerics import flatten_outputs
from vitgraph.progress import Progress
from vitgraph.runtime.backend import Artifact, Execution, Runner, Source, Violation
from vitgraph.runtime.onnx_model import OnnxModel
from vitgraph.targets.target import Target


class PlantedRunner(Runner):
    """Interprets the program, and says that it computed all of it in FP32."""

    def __init__(self, program: Program) -> None:
        wanted = program.input_types()[0]
        shape = tuple(None if isinstance(size, Dim) else size for size in wanted.shape)
        super().__init__(program.name, shape, wanted.dtype)
        self.program = program

    def compute(self, batch: Tensor) -> Tensor:
        return flatten_outputs(self.program.run(batch))[0]

    def execution(self, batch: int) -> Execution:
        return Execution({"all": "fp32"}, {}, {"batch": str(batch)})


@dataclass(frozen=True)
class PlantedBuild:
    """Its engine is a line of text that names the linears."""

    model: OnnxModel
    target: Target

    def run(self, progress: Progress) -> Artifact:
        progress("build: planted", 1, 1)
        lines = "".join(f"{linear.path} {linear.planned}\n" for linear in self.model.linears)
        report = {"flavour": "planted", "target": self.target.name, "products": len(self.model.linears)}
        return Artifact({"engine.txt": lines.encode()}, report)

    def defer(self) -> Artifact:
        return Artifact(
            {"build_later.txt": b"later\n"}, violations=(Violation("head", "an engine", "none", "deferred"),)
        )


class PlantedBuilder:
    """Builds engines, and runs no model."""

    name: ClassVar[str] = "planted-builder"

    def refusal(self, target: Target | None) -> str | None:
        return None

    def plan(self, program: Program, model: OnnxModel, target: Target, batch: Batch) -> PlantedBuild:
        return PlantedBuild(model, target)


class Planted:
    """Runs models, and builds engines for every target but the CPU."""

    name: ClassVar[str] = "planted"
    source: ClassVar[Source] = "program"

    def refusal(self, target: Target | None) -> str | None:
        return "it builds for no CPU" if target is not None and target.name == "cpu" else None

    def load(self, model: Program | Path, target: Target | None = None, *, threads: int = 0) -> PlantedRunner:
        if isinstance(model, Path):
            raise InputError(f"{model}: the planted backend runs programs; give a saved one")
        if len(model.inputs) != 1:
            raise InputError(f"{model.name}: has {len(model.inputs)} inputs; a runner takes models of one")
        return PlantedRunner(model)

    def plan(self, program: Program, model: OnnxModel, target: Target, batch: Batch) -> PlantedBuild:
        return PlantedBuild(model, target)


class Neither:
    """No backend at all."""
