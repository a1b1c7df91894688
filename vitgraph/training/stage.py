"""One stage of training: from a program to the best that it became, step by step, with all that is needed to go on after a stop.

Every step depends on its number alone (its images, what varies in them, which branches are skipped), so training that was
stopped goes on to the same bytes on one process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from vitgraph.ir.program import Program
from vitgraph.progress import NOTE, Progress
from vitgraph.runtime.checkpoint import Checkpoint
from vitgraph.training.curves import Curves
from vitgraph.training.feature_sites import FeatureSite
from vitgraph.training.held_out import HeldOutScore, Judge
from vitgraph.training.loader import Loader, TrainingBatch
from vitgraph.training.objective import Objective, feature_loss
from vitgraph.training.optimizer import Average, Optimizer
from vitgraph.training.processes import Processes
from vitgraph.training.settings import Settings
from vitgraph.training.snapshots import Snapshots
from vitgraph.training.student import Student
from vitgraph.training.teacher import Teacher

KEEP_EVERY = 120.0
"""Seconds from one checkpoint to the next; there is one after every epoch too."""


@dataclass(frozen=True)
class Trained:
    """What a stage made."""

    program: Program
    curves: Curves
    distances: tuple[float, ...]
    """How far off each feature site still is, on the held-out images."""


@dataclass
class StageTraining:
    """A stage at work."""

    name: str
    start: Program
    settings: Settings
    objective: Objective
    sites: Sequence[FeatureSite]
    teacher: Teacher | None
    loader: Loader
    judge: Judge
    processes: Processes
    checkpoint: Checkpoint
    progress: Progress
    seed: int = 0

    def __post_init__(self) -> None:
        optimization = self.settings.optimization
        taps = [site.node for site in self.sites]
        self.student = Student(self.start, self.settings.compression, taps, optimization.drop_path)
        self.optimizer = Optimizer(
            self.student.parameter_groups(optimization), optimization, self.loader.steps_an_epoch
        )
        self.steps = optimization.epochs * self.loader.steps_an_epoch
        self.rechooses_until = round(self.settings.compression.rechoose_until * self.steps)
        self.model, self._stepper = self.processes.prepare(self.student, self.optimizer.inner)
        self._teacher = None if self.teacher is None else self.processes.prepare_teacher(self.teacher)
        tensors = dict(self.student.named_parameters())
        self.average = Average(tensors, optimization.model_ema_decay) if optimization.model_ema else None
        self.curves, self._best = Curves(), dict[str, Tensor]()
        self._snapshots = Snapshots(self.checkpoint, self.student, self.optimizer, self.average)

    def run(self) -> Trained:
        """Train, from where a former run was stopped; the best program on the held-out images comes out."""
        random: Any = torch.random
        self.model.train()
        with random.fork_rng(devices=[]):
            found = self._snapshots.last()
            step, self.curves, self._best = found or (0, self.curves, self._best)
            if not self.curves.looks:
                self._look(0)
            kept, parts = time.monotonic(), self.settings.optimization.grad_accum_steps
            batches = self.loader.batches(step, self.steps)
            while step < self.steps and self.curves.stopped is None:
                self._step(step, list(islice(batches, parts)))
                step += 1
                if self.curves.stopped is None and (step % self.loader.steps_an_epoch == 0 or step == self.steps):
                    self._look(step)
                    kept = time.monotonic()
                elif time.monotonic() - kept > KEEP_EVERY:
                    self._keep(step)
                    kept = time.monotonic()
        best = self.with_tensors(self._best)
        return Trained(best, self.curves, self._distances(best))

    def _step(self, step: int, batches: Sequence[TrainingBatch]) -> None:
        """One step of the optimizer; a loss that is not finite ends the stage and leaves the weights as they are."""
        random: Any = torch.random
        random.manual_seed(self.seed * 1_000_003 + step * self.processes.count + self.processes.rank)
        self.student.rechoose_masks(step < self.rechooses_until)
        if step < self.rechooses_until and step % self.settings.compression.rechoose_every == 0:
            self.student.choose_masks()
        rate = self.optimizer.set_rate(step)
        self._stepper.zero_grad()
        sums = dict[str, Tensor]()
        for place, batch in enumerate(batches):
            with self.processes.apart(self.model, place + 1 < len(batches)):
                self._backward(batch, len(batches), sums)
        means = {name: float(self.processes.mean(value)) for name, value in sums.items()}
        if not math.isfinite(means["loss"]):
            self.curves.stopped = f"the loss of step {step + 1} is not finite"
            return
        self.processes.clip(self.model, self.settings.optimization.clip_grad)
        self._stepper.step()
        self.student.after_step()
        if self.average is not None:
            self.average.update(step)
        self._tell(step, rate, means)

    def _backward(self, batch: TrainingBatch, parts: int, sums: dict[str, Tensor]) -> None:
        device = self.processes.device
        pixels = batch.pixels.to(device, non_blocking=True)
        targets = None if batch.targets is None else batch.targets.to(device, non_blocking=True)
        with self.processes.autocast():
            known = None if self._teacher is None else self._teacher(pixels)
            logits, features = self.model(pixels)
            loss = self.objective.loss(logits, features, known, targets)
        self.processes.backward(loss.total / parts)
        for name, value in {"loss": loss.total.detach(), **loss.terms}.items():
            sums[name] = sums.get(name, torch.zeros_like(value)) + value / parts

    def _tell(self, step: int, rate: float, means: Mapping[str, float]) -> None:
        """Progress, and the curves."""
        self.curves.add_step(step + 1, self.steps, rate, means)
        self._log(step + 1, {"lr": rate, **means})
        note = f"loss {means['loss']:.4g}, held out {self.curves.looks[-1]['accuracy']:.1f} %"
        self.progress(f"stage {self.name}{NOTE}{note}", step + 1, self.steps)

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        self.processes.log({f"{self.name}/{name}": value for name, value in values.items()}, step)

    def _look(self, step: int) -> None:
        """Score what the student is now on the held-out images, keep it if it is the best, and keep all to go on from."""
        with nullcontext() if self.average is None else self.average.applied():
            program = self.with_tensors(self.student.export().tensors())
        if self.curves.add_look(step, self._score(program), self.judge.labelled):
            self._best = {name: tensor.detach().clone() for name, tensor in program.tensors().items()}
        self._log(step, {f"held out/{name}": value for name, value in self.curves.looks[-1].items() if name != "step"})
        patience, waited = self.settings.patience, self.curves.epochs_since_best()
        if patience and waited >= patience and step < self.steps:
            self.curves.stopped = f"no better for {waited} epochs"
        self._keep(step)

    def _score(self, program: Program) -> HeldOutScore:
        program.to(self.processes.device)
        found = self.judge.score(program.module)
        program.to("cpu")
        return found

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Program:
        """The stage's program with these tensors, in eval mode."""
        program = self.start.copy()
        program.own_tensors()
        with torch.no_grad():
            for name, tensor in program.tensors().items():
                tensor.copy_(tensors[name])
        return program

    @torch.no_grad()
    def _distances(self, program: Program) -> tuple[float, ...]:
        if self.teacher is None or not self.sites:
            return ()
        twins = dict(zip(self.start.graph.nodes, program.graph.nodes, strict=True))
        student = Teacher(program, [twins[site.node] for site in self.sites]).to(self.processes.device)
        totals = [0.0] * len(self.sites)
        for pixels in self.judge.batches:
            pairs = zip(student(pixels)[1], self.teacher(pixels)[1], strict=True)
            totals = [total + float(feature_loss(s, t)) for total, (s, t) in zip(totals, pairs, strict=True)]
        return tuple(total / len(self.judge.batches) for total in totals)

    def _keep(self, step: int) -> None:
        if self.processes.rank == 0:
            self._snapshots.keep(step, self.curves, self._best)
