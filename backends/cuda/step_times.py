"""What each step of a plan costs on the device: its kernels, by torch's profiler, one step after the other without a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vitgraph.runtime.accelerator import KernelTime
from vitgraph.runtime.kernel_spans import Span, by_step, marked, profiled

if TYPE_CHECKING:
    from vitgraph.backends.cuda.executing import Executor


def step_times(
    executor: Executor,
    batch: Tensor,
    wait: Callable[[], object],
    watch: Callable[[Callable[[], object]], Sequence[Span]] = profiled,
) -> list[KernelTime]:
    """The kernels of every step with the site that it is of; `wait` returns when the device is done.

    Copies and padding between steps are among the kernels of the step that needs them.
    """
    steps = executor.plan.steps
    sites = {str(index): step.path for index, step in enumerate(steps)}

    def work() -> None:
        values = {executor.plan.inputs[0]: batch.to(executor.device)}
        for index, step in enumerate(steps):
            with marked(str(index)):
                executor.run_step(step, values, len(batch))
                wait()

    with torch.no_grad():
        work()  # compiles kernels and chooses algorithms
        return by_step(watch(work), sites)
