"""Layer-wise N:M search by ELSA (Huang et al., arXiv 2409.09708): a supernet is trained once, then choices of levels are tried.

1. Each layer is tried alone at each of its levels (`sensitivity`).
2. The model becomes a supernet (`supernet`), trained by distillation from itself (`distill`), a sub-network a step: of some that
   the paper's policy draws (`sampling`), brought to the budget, the one that is expected to do best.
3. Choices within the budget are bred (`evolution`) and judged on images held out of training (`held_out`).
4. The best one's weights are the supernet's own, inherited: its masks are the largest magnitudes of these.

The authors search on the validation set; here it is a part of the training images, so that what is reported is no more than is so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import torch
from torch import nn

from vitgraph.domains import ImageCount, Repeats, hold_fields
from vitgraph.images.image_set import ImageSet
from vitgraph.progress import Progress, silent
from vitgraph.runtime.checkpoint import Checkpoint
from vitgraph.searching.evolution import Evolution, JudgeAll, Subnet, best, evolve, into_window
from vitgraph.searching.level_sensitivity import LevelSensitivity, lone
from vitgraph.searching.levels import Choice, LevelCost, SearchBudget, Space, erk, uniform
from vitgraph.searching.sampling import Policy, lean
from vitgraph.searching.supernet import Frozen, Keep, Supernet
from vitgraph.training.distill import Distiller, Schedule
from vitgraph.training.held_out import HeldOutScore, Judge, split
from vitgraph.training.processes import Processes
from vitgraph.training.random_states import seeded

CHUNK = 10
"""So many layers and levels are tried alone before that is kept."""


@dataclass(frozen=True)
class Elsa:
    """The settings of a search; those of training and evolution have their own."""

    schedule: Schedule = field(default_factory=Schedule)
    evolution: Evolution = field(default_factory=Evolution)
    held_out: ImageCount = 1000
    """So many of the images are kept back to choose by."""
    rounds: Repeats = 10
    """How many times during training the policy judges sub-networks, to learn from."""
    judged: Repeats = 50
    """How many each time."""
    pool: Repeats = 50
    """Of so many drawn sub-networks one is trained."""

    def __post_init__(self) -> None:
        hold_fields(self)


@dataclass(frozen=True)
class Trained:
    """A supernet after its training for a budget."""

    supernet: Supernet
    original: nn.Module
    """A copy of the model as it came: the teacher."""
    policy: Policy
    sensitivity: LevelSensitivity
    losses: list[float]
    """Mean of each part of the training."""
    judge: Judge
    images: tuple[int, int]
    """How many were trained with and chosen by."""


@dataclass(frozen=True)
class Result:
    """What a search found."""

    chosen: Subnet
    baselines: dict[str, Subnet]
    """`uniform` and `ERK` within the budget, and `dense`: all from the supernet's weights."""
    subnets: list[Subnet]
    """All that were judged, each once."""
    original: HeldOutScore
    """Of the model as it came."""


@dataclass
class ElsaSearch:
    """One search: the model, which is trained in place, its space, and the images."""

    module: nn.Module
    space: Space
    cost: LevelCost
    budget: SearchBudget
    images: ImageSet
    keep: Keep
    settings: Elsa
    checkpoint: Checkpoint
    progress: Progress = silent
    processes: Processes = field(default_factory=Processes)

    def train(self) -> Trained:
        """Train the supernet for the budget."""
        training, held = split(self.images, self.settings.held_out, self.settings.schedule.seed)
        supernet = Supernet(self.module, self.space, self.keep)
        schedule, policy = self.settings.schedule, Policy(self.space)
        distiller = Distiller(supernet, self.module, training, schedule, self.processes)
        judge = Judge(held, distiller.teacher, self.processes.device, schedule.seed if schedule.augment else None)
        sensitivity = self._try_alone(Supernet(distiller.teacher, self.space, self.keep).eval(), judge)
        losses = self._train(supernet, distiller, policy, sensitivity, judge)
        return Trained(supernet, distiller.teacher, policy, sensitivity, losses, judge, (len(training), len(held)))

    def choose(self, trained: Trained) -> Result:
        """Breed and judge choices within the budget."""
        settings, cost, limit = self.settings.evolution, self.cost, self.budget.limit
        frozen = Frozen(trained.supernet)
        named = {"uniform": uniform(self.space, cost, limit), "ERK": erk(self.space, cost, limit)}
        generator = seeded(self.settings.schedule.seed, "first generation")
        drawn = [self._draw(trained.policy, trained.sensitivity, 1.0, generator) for _ in range(settings.population)]
        judge_all = self._judge_all(trained.judge, frozen)
        subnets = evolve(self.space, cost, limit, judge_all, settings, [*named.values(), *drawn])
        scored = {each.choice: each for each in subnets}
        dense = self.space.dense
        score = trained.judge.score(lambda images: frozen.logits(images, dense))
        baselines = {name: scored[choice] for name, choice in named.items()}
        return Result(
            chosen=best(subnets, settings.aim, limit),
            baselines={**baselines, "dense": Subnet(dense, cost.of(dense), score, -1)},
            subnets=subnets,
            original=trained.judge.score(trained.original),
        )

    def _try_alone(self, original: Supernet, judge: Judge) -> LevelSensitivity:
        """Each layer at each level, of the model as it came."""
        checkpoint, frozen = replace(self.checkpoint, key=f"{self.checkpoint.key}-alone"), Frozen(original)
        choices, found = lone(self.space), list[float]()
        for part, start in enumerate(range(0, len(choices), CHUNK)):
            kept = checkpoint.read(part)
            if kept is None:
                some = choices[start : start + CHUNK]
                scores = self._score(judge, frozen, some, "layers alone", start, len(choices))
                kept = {"alone": torch.tensor([each.divergence for each in scores], dtype=torch.float64)}
                checkpoint.write(part, kept)
            found += [float(each) for each in kept["alone"]]
        return LevelSensitivity.of(self.space, found)

    def _draw(
        self, policy: Policy, sensitivity: LevelSensitivity, epsilon: float, generator: torch.Generator
    ) -> Choice:
        """Of a pool that the policy draws, each brought to the budget, the one that is expected to lose least."""
        window, seed, limit = self.settings.evolution.window, self.settings.evolution.seed, self.budget.limit
        drawn = [policy.draw(epsilon, generator) for _ in range(self.settings.pool)]
        within = [into_window(self.space, self.cost, limit, window, each, seed) for each in drawn]
        return min(within, key=sensitivity.expected)

    def _judge_all(self, judge: Judge, frozen: Frozen) -> JudgeAll:
        """What scores a generation, and keeps the scores to go on from."""
        population = self.settings.evolution.population
        total = population * self.settings.evolution.generations

        def judge_all(generation: int, choices: Sequence[Choice]) -> list[HeldOutScore]:
            part = self.settings.rounds + generation  # those of training have the numbers before
            kept = self.checkpoint.read(part)
            if kept is None:
                scores = self._score(judge, frozen, choices, "search, sub-networks", generation * population, total)
                kept = {"scores": torch.tensor([[s.accuracy, s.divergence] for s in scores], dtype=torch.float64)}
                self.checkpoint.write(part, kept)
            return [HeldOutScore(float(row[0]), float(row[1])) for row in kept["scores"].reshape(-1, 2)]

        return judge_all

    def _train(
        self, supernet: Supernet, distiller: Distiller, policy: Policy, sensitivity: LevelSensitivity, judge: Judge
    ) -> list[float]:
        """Train in rounds; after each, sub-networks are judged, the policy learns, and all of it is kept to go on from."""
        steps, rounds = distiller.steps, min(self.settings.rounds, distiller.steps)
        start, losses = self._resume(distiller, policy, rounds)

        def draw(step: int) -> tuple[Choice]:
            generator = seeded(self.settings.schedule.seed, "sub-network", step)
            return (self._draw(policy, sensitivity, lean(step / max(1, steps - 1)), generator),)

        def told(step: int) -> None:
            self.progress("supernet training, steps", step, steps)

        for each in range(start, rounds):
            first, last = steps * each // rounds, steps * (each + 1) // rounds
            losses.append(distiller.train(first, last, draw, told))
            if each + 1 < rounds:
                generator = seeded(self.settings.schedule.seed, "judged", each)
                choices = [
                    self._draw(policy, sensitivity, lean(last / steps), generator) for _ in range(self.settings.judged)
                ]
                scores = self._score(judge, Frozen(supernet), choices, f"policy, round {each + 1}")
                policy.learn(choices, [score.accuracy for score in scores])
            so_far = {"losses": torch.tensor(losses, dtype=torch.float64)}
            self.checkpoint.write(each, {**distiller.state(), **policy.state(), **so_far})
            self.checkpoint.drop(each - 1)
        return losses

    def _resume(self, distiller: Distiller, policy: Policy, rounds: int) -> tuple[int, list[float]]:
        """Go on from the last part that was kept: the number of the next one, and the losses so far."""
        for each in reversed(range(rounds)):
            state = self.checkpoint.read(each)
            if state is not None:
                policy.restore(state)
                distiller.restore({name: value for name, value in state.items() if "." in name})
                return each + 1, [float(loss) for loss in state["losses"]]
        return 0, []

    def _score(
        self,
        judge: Judge,
        frozen: Frozen,
        choices: Sequence[Choice],
        what: str,
        before: int = 0,
        total: int | None = None,
    ) -> list[HeldOutScore]:
        """The scores of sub-networks, with progress."""

        def work(item: tuple[int, Choice]) -> HeldOutScore:
            score = judge.score(lambda images: frozen.logits(images, item[1]))
            self.progress(what, before + item[0] + 1, total or len(choices))
            return score

        return self.processes.map(work, list(enumerate(choices)))


def key_of(settings: Elsa, budget: SearchBudget, space: Space) -> str:
    """What the work depends on beside the model and the images, as text for a checkpoint's key."""
    return f"{asdict(settings)} {budget} {space}"
