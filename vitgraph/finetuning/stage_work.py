"""One stage of a training: its parts from what was asked for, and its result, kept beside its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vitgraph.backends.eager import Eager
from vitgraph.compile.accuracy import predict
from vitgraph.finetuning.opening import OpenedTraining
from vitgraph.finetuning.recipe import Stage
from vitgraph.frontend.weight_files import hash_state
from vitgraph.ir.program import Program
from vitgraph.progress import Progress
from vitgraph.runtime.checkpoint import Checkpoint
from vitgraph.training.curves import Curves
from vitgraph.training.division import Division
from vitgraph.training.feature_sites import FeatureSite, choose_sites, matching_sites
from vitgraph.training.held_out import Judge
from vitgraph.training.loader import Loader
from vitgraph.training.mixture import Mixture
from vitgraph.training.objective import Objective, residual_weights
from vitgraph.training.processes import Processes
from vitgraph.training.settings import Settings
from vitgraph.training.stage import StageTraining, Trained
from vitgraph.training.state import as_tensor, of_tensor, part_of, prefixed
from vitgraph.training.teacher import Teacher

FEATURES = "features"
"""Key of a training's line in the ledger: how far off the teacher's each feature still is, by the path of its block."""


@dataclass(frozen=True)
class StageResult:
    """What a stage began with and came to."""

    name: str
    settings: Settings
    trained: Trained
    sites: tuple[str, ...]
    site_weights: tuple[float, ...]
    top1_before: float | None
    """On the images to evaluate on, after the passes and ahead of training; None where there are none."""
    top1: float | None
    """After training."""

    @property
    def failed(self) -> bool:
        """Whether a loss that was not finite ended it."""
        return "not finite" in (self.trained.curves.stopped or "")


@dataclass
class StageWork:
    """One stage, about to be trained."""

    opened: OpenedTraining
    stage: Stage
    program: Program
    teacher: Program | None
    processes: Processes
    scratch: Path | None
    progress: Progress

    def run(self) -> StageResult:
        """Train, or read what a former run has trained."""
        settings, learns = self.stage.settings, self.stage.settings.distillation
        sites = choose_sites(self.program, learns.feature_sites) if self.teacher and learns.feature else []
        twins = matching_sites(sites, self.teacher) if self.teacher else []
        teacher = Teacher(self.teacher, [site.node for site in twins]) if self.teacher else None
        weights = self._site_weights(sites)
        key = f"{self.stage.name} {settings} {weights} {self._data_key()}"
        training = StageTraining(
            name=self.stage.name,
            start=self.program,
            settings=settings,
            objective=Objective(learns, tuple(site.path for site in sites), weights),
            sites=sites,
            teacher=None if teacher is None else teacher.to(self.processes.device),
            loader=self._loader(settings),
            judge=self._judge(teacher),
            processes=self.processes,
            checkpoint=Checkpoint.of(self.scratch, self.program, key, self.opened.held_out),
            progress=self.progress,
            seed=self.opened.request.seed,
        )
        before = self._top1(self.program, "before training")
        trained = self._finished(training, key)
        return StageResult(
            self.stage.name, settings, trained, tuple(site.path for site in sites), weights, before,
            self._top1(trained.program, "trained"),
        )  # fmt: skip

    def _top1(self, program: Program, when: str) -> float | None:
        return top1(self.opened, program, self.processes, f"evaluation, {self.stage.name}, {when}", self.progress)

    def _site_weights(self, sites: Sequence[FeatureSite]) -> tuple[float, ...]:
        """By what the stage before left over at the same sites, as the ledger has it, or all the same."""
        left = next((entry[FEATURES] for entry in reversed(self.program.ledger) if FEATURES in entry), None)
        paths = [site.path for site in sites]
        if self.stage.settings.distillation.feature_weights == "equal" or left is None or list(left) != paths:
            return (1.0,) * len(sites)
        return residual_weights([left[path] for path in paths])

    def _loader(self, settings: Settings) -> Loader:
        request = self.opened.request
        optimization = settings.optimization
        division = Division(
            optimization.batch_size, optimization.grad_accum_steps, self.processes.rank, self.processes.count
        )
        return Loader(
            Mixture(self.opened.sources, request.seed, optimization.epoch_images),
            settings.augmentation,
            division,
            request.seed,
            classes=self.opened.classes if settings.distillation.hard else None,
            smoothing=settings.distillation.smoothing,
            workers=request.workers,
            pinned=self.processes.device.type == "cuda",
        )

    def _judge(self, teacher: Teacher | None) -> Judge:
        """The held-out images, with the teacher's answers; the program's own where nobody teaches."""
        device = self.processes.device
        if teacher is not None:
            return Judge(self.opened.held_out, lambda images: teacher(images)[0], device)
        own = Teacher(self.program).to(device)
        return Judge(self.opened.held_out, lambda images: own(images)[0], device)

    def _data_key(self) -> str:
        sources = [(each.images.sha256, each.labelled, each.share) for each in self.opened.sources]
        teacher = "" if self.teacher is None else hash_state(self.teacher.tensors())
        request = self.opened.request
        return (
            f"{sources} {teacher} {request.seed} {self.processes.precision} {request.compiled} {self.processes.count}"
        )

    def _finished(self, training: StageTraining, key: str) -> Trained:
        """The stage's result, kept beside its checkpoints for a run that is stopped in a later stage."""
        kept = Checkpoint.of(self.scratch, self.program, f"result of {key}", self.opened.held_out)
        found = kept.read(0)
        if found is not None:
            told = of_tensor(found["told"])
            program = training.with_tensors(part_of("program", found))
            return Trained(program, Curves(**told["curves"]), tuple(told["distances"]))
        trained = training.run()
        told = {"curves": asdict(trained.curves), "distances": trained.distances}
        if self.processes.rank == 0:
            kept.write(0, {**prefixed("program", trained.program.tensors()), "told": as_tensor(told)})
        return trained


def top1(opened: OpenedTraining, program: Program, processes: Processes, what: str, progress: Progress) -> float | None:
    """In percent, on the images to evaluate on; None where there are none."""
    if opened.evaluation is None:
        return None
    program.to(processes.device)
    found = predict(Eager().load(program), opened.evaluation, None, progress, what).top1
    program.to("cpu")
    return None if found is None else round(found, 3)
