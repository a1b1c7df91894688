"""What a stage of training tells while it runs: its losses, and how it does on the held-out images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vitgraph.training.held_out import HeldOutScore

POINTS = 200
"""So many points a stage's curves have at most."""


@dataclass
class Curves:
    """Losses by step, scores by epoch, and which of these was the best."""

    points: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    """Means over some steps: step, lr, loss and its terms."""
    looks: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    """On the held-out images, at the start and after each epoch: step, accuracy, divergence."""
    best: int = -1
    """Which look was the best."""
    stopped: str | None = None
    """Why the stage ended before its last step."""
    recent: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    """Steps that are in no point yet."""

    def add_step(self, step: int, steps: int, rate: float, means: Mapping[str, float]) -> None:
        """One of `steps` steps, counted from 1; so many of them make a point."""
        self.recent.append({"lr": rate, **means})
        if step % max(1, steps // POINTS) == 0 or step == steps:
            point = {name: sum(each[name] for each in self.recent) / len(self.recent) for name in self.recent[0]}
            self.points.append({"step": step, **point})
            self.recent = []

    def add_look(self, step: int, score: HeldOutScore, labelled: bool) -> bool:
        """A score on the held-out images; True where it is the best so far."""
        look = {"step": step, "accuracy": round(score.accuracy, 3), "divergence": round(score.divergence, 5)}
        self.looks.append(look)
        if self.best >= 0 and not _is_better(look, self.looks[self.best], labelled):
            return False
        self.best = len(self.looks) - 1
        return True

    def epochs_since_best(self) -> int:
        """How many looks there were after the best."""
        return len(self.looks) - 1 - self.best


def _is_better(look: Mapping[str, float], best: Mapping[str, float], labelled: bool) -> bool:
    """By accuracy, and where that is equal, or there are no labels, by divergence."""
    if labelled and look["accuracy"] != best["accuracy"]:
        return look["accuracy"] > best["accuracy"]
    return look["divergence"] < best["divergence"]
