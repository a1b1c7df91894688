"""What a stage keeps to go on from: its student, optimizer and average, the best so far, and the curves, as one checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from torch import Tensor

from vitgraph.runtime.checkpoint import Checkpoint
from vitgraph.training.curves import Curves
from vitgraph.training.optimizer import Average, Optimizer
from vitgraph.training.state import as_tensor, of_tensor, pack, part_of, prefixed, unpack
from vitgraph.training.student import Student


@dataclass(frozen=True)
class Snapshots:
    """Checkpoints of a stage, of which the last is there."""

    checkpoint: Checkpoint
    student: Student
    optimizer: Optimizer
    average: Average | None

    def keep(self, step: int, curves: Curves, best: Mapping[str, Tensor]) -> None:
        """Write one of the state after `step` steps, and drop the one before. Raises `InputError` where the disk refuses."""
        former = self.checkpoint.last()
        self.checkpoint.write(
            step,
            {
                **prefixed("student", _on_cpu(self.student.state_dict())),
                **prefixed("optimizer", pack(self.optimizer.state())),
                **prefixed("best", dict(best)),
                **prefixed("average", {} if self.average is None else _on_cpu(self.average.averages)),
                "told": as_tensor({"step": step, "curves": asdict(curves)}),
            },
        )
        if former is not None and former != step:
            self.checkpoint.drop(former)

    def last(self) -> tuple[int, Curves, dict[str, Tensor]] | None:
        """Take over the last one that can be trusted: the number of steps, the curves and the best; None where there is none."""
        while (number := self.checkpoint.last()) is not None:
            kept = self.checkpoint.read(number)
            if kept is not None:
                return self._restore(kept)
        return None

    def _restore(self, kept: dict[str, Tensor]) -> tuple[int, Curves, dict[str, Tensor]]:
        self.student.load_state_dict(part_of("student", kept))
        self.optimizer.restore(unpack(part_of("optimizer", kept)))
        if self.average is not None:
            self.average.restore(part_of("average", kept))
        told = of_tensor(kept["told"])
        return told["step"], Curves(**told["curves"]), part_of("best", kept)


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}
