"""Kernels are given to the steps in which they ran."""

import torch

from vitgraph.runtime.accelerator import KernelTime
from vitgraph.runtime.kernel_spans import MARK, Span, by_kernel, by_step, marked, profiled

SPANS = [
    Span(f"{MARK}0", 0, 10, False),
    Span(f"{MARK}1", 10, 30, False),
    Span("aten::linear", 1, 5, False),
    Span(f"{MARK}0", 2, 9, True),
    Span("gemm", 2, 6, True),
    Span("gelu", 6, 8, True),
    Span("gemm", 12, 20, True),
    Span("gemm", 21, 22, True),
    Span("stray", 40, 41, True),
]
SITES = {"0": "blocks.0.fc1", "1": "blocks.0.fc2"}


def test_a_kernel_is_of_the_step_that_was_open_while_it_ran() -> None:
    assert by_step(SPANS, SITES) == [
        KernelTime("gemm", 4 / 1e6, "blocks.0.fc1", 1),
        KernelTime("gelu", 2 / 1e6, "blocks.0.fc1", 1),
        KernelTime("gemm", 9 / 1e6, "blocks.0.fc2", 2),
        KernelTime("stray", 1 / 1e6, "", 1),
    ]


def test_without_steps_those_of_one_name_are_together() -> None:
    assert [(each.name, each.calls) for each in by_kernel(SPANS)] == [("gemm", 3), ("gelu", 1), ("stray", 1)]


def test_the_profiler_sees_marks_and_calls_on_this_processor() -> None:
    def work() -> None:
        with marked("3"):
            torch.matmul(torch.ones(64, 64), torch.ones(64, 64))

    seen = profiled(work)
    (mark,) = [span for span in seen if span.name == f"{MARK}3" and not span.on_device]
    assert any(span.name == "aten::matmul" and mark.start <= span.start <= mark.end for span in seen)
