"""What every pass is held to, all passes in one table: numbers within the effect, a second run that changes nothing, refusals with reasons.

The table has one case for each pass. A pass that is not idempotent is in `CHANGES_AGAIN` with the reason, and has to change its
case again, so that the list holds none that has become idempotent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.analysis.test_linear_attention import TOGETHER
from tests.harness import hold_to_text
from tests.passes.precision.test_mixed_precision import CLASSIFIER
from tests.passes.quantization.test_channel_migrate import DEPTHWISE
from tests.passes.quantization.test_filter_shift import SECOND
from tests.passes.quantization.test_smooth_quant import AFTER_GELU
from tests.passes.test_fold_batch_norm import BEFORE as BATCH_NORM
from tests.passes.test_fold_constants import BIAS
from tests.passes.test_fold_layer_scale import BEFORE as LAYER_SCALE
from tests.passes.test_fuse_attention import BY_HAND
from tests.passes.test_fuse_layer_norm import WRITTEN_OUT
from tests.passes.test_legalize import RMS
from tests.passes.test_reassociate_linear_attention import LEFT, MANY_TOKENS
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.pass_manager.instruments import Compare, Verify
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import ORDER, pipeline
from vitgraph.targets.target import get_target

TESTS = Path(__file__).resolve().parent
PASSES = TESTS.parents[1] / "passes"
FLATTENED = """
# form: captured
x: f32[N, 16, 8] = input()
a: f32[N, 128] = aten.flatten.using_ints(x, 1, 2)
return_(a)
"""
ONE_KEY = """
q: f32[2, 5, 4] = input()
k: f32[2, 1, 4] = input()
v: f32[2, 1, 4] = input()
kt: f32[2, 4, 1] = aten.permute.default(k, [0, 2, 1])
s: f32[2, 5, 1] = aten.matmul.default(q, kt)
p: f32[2, 5, 1] = aten.softmax.int(s, 2)
y: f32[2, 5, 4] = aten.matmul.default(p, v)
return_(y)
"""


@dataclass(frozen=True)
class Case:
    """A pass with options, on a program that the passes of `ahead` have been through."""

    step: str
    text: str = CLASSIFIER
    ahead: str = ""
    loud: str = ""
    """A weight one row of which is made a hundred times as large."""


CASES = (
    Case("canonicalize", FLATTENED),
    Case("fold-constants", BIAS),
    Case("fold-batch-norm", BATCH_NORM),
    Case("fuse-layer-norm", WRITTEN_OUT),
    Case("fold-layer-scale", LAYER_SCALE),
    Case("fuse-attention", BY_HAND),
    Case("softmax-check", ONE_KEY),
    Case("reassociate-linear-attention", LEFT.format(**MANY_TOKENS)),
    Case("block-prune{granularity=units score=magnitude budget=0.8}"),
    Case("remove-pruned", ahead="block-prune{granularity=units score=magnitude budget=0.8}"),
    Case("hold-patterns", ahead="nm-mask,materialize"),
    Case("split-outliers", AFTER_GELU, loud="fc1.weight"),
    Case("permute-channels"),
    Case("nm-mask"),
    Case("balance-attention"),
    Case("smooth-quant", AFTER_GELU),
    Case("equalize-outputs"),
    Case("channel-migrate", DEPTHWISE),
    Case("filter-shift", SECOND),
    Case("quantize"),
    Case("quantize-linear-attention", TOGETHER),
    Case("mixed-precision{max_float_layers=1 images=4}", ahead="quantize{method=minmax}"),
    Case("reconstruct{iterations=3 batch=4}", ahead="quantize"),
    Case("absorb-shifts", SECOND, ahead="filter-shift,quantize{only=[*]}"),
    Case("assign-precision"),
    Case("materialize", ahead="quantize"),
    Case("legalize", RMS.format(t="f32")),
)
CHANGES_AGAIN = {
    "block-prune": "a linear that has a mask takes no second one, so the budget falls on the others",
    "permute-channels": "an order that keeps no less is put in place of the one that is there",
    "balance-attention": "ranges that were measured and made equal differ by rounding, and are divided by again",
    "smooth-quant": "what of a range stayed with the inputs is measured and moved by the same rule",
    "equalize-outputs": "ranges that were measured and made equal differ by rounding, and are divided by again",
    "mixed-precision": "its bound counts what falls back in this run",
    "reconstruct": "it goes on from the weights that it finds",
}
"""Passes that change a program again on a second run, and why they have to."""


class Noise:
    """Seeded images of a program's input, channel by channel of another range."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        generator = torch.Generator().manual_seed(3)
        self.pixels = torch.randn(8, *shape, generator=generator)

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self, size: int) -> Iterator[tuple[Tensor, None]]:
        yield from ((self.pixels[start : start + size], None) for start in range(0, len(self), size))


def name_of(case: Case) -> str:
    return case.step.partition("{")[0]


def context_of(program: Program) -> Context:
    shapes = [kind.at(4) for kind in program.input_types()]
    generator = torch.Generator().manual_seed(4)
    probe = [torch.randn(shape, generator=generator) for shape in shapes]
    return Context(get_target("a100"), probe, Noise(shapes[0][1:]))


@cache
def before_and_after(case: Case) -> tuple[Program, Program]:
    """The case ahead of its pass, and once through it under both instruments."""
    tensors = parse(case.text).tensors()
    if case.loud:
        tensors[case.loud] = tensors[case.loud].detach().clone()
        tensors[case.loud][5] *= 100
    program = parse(case.text, tensors)
    before = pipeline(case.ahead).run(program, context_of(program)) if case.ahead else program
    return before, pipeline(case.step).run(before, context_of(before), [Verify(), Compare()])


def test_every_pass_has_its_case() -> None:
    assert [name_of(case) for case in CASES] == list(ORDER)
    assert set(CHANGES_AGAIN) <= set(ORDER)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_numbers_are_within_the_effect_and_the_text_reads_back(case: Case) -> None:
    before, after = before_and_after(case)
    assert show(after) != show(before), "the pass does nothing to its case, which then shows nothing"
    assert after.ledger[-1]["drift"] is not None
    hold_to_text(after)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_second_run_changes_nothing(case: Case) -> None:
    _, once = before_and_after(case)
    twice = pipeline(case.step).run(once, context_of(once))
    assert (show(twice) != show(once)) is (name_of(case) in CHANGES_AGAIN)


def module_of(name: str) -> Path:
    """The file of a pass, under passes/."""
    return Path(*ORDER[name].partition(":")[0].split(".")).with_suffix(".py")


def own_tests(name: str) -> str:
    """The test modules of a pass: `test_quantize.py`, and `test_quantize_formats.py` unless that is another pass's."""
    module = module_of(name)
    others = {f"test_{module_of(each).stem}.py" for each in ORDER if each != name}
    found = sorted((TESTS / module.parent).glob(f"test_{module.stem}*.py"))
    return "\n".join(file.read_text(encoding="utf-8") for file in found if file.name not in others)


def lacks(name: str, tests: str, source: str) -> list[str]:
    """Which of the promises that a test module keeps by itself this one does not."""
    kept = {
        "a text before and after": re.search(r"\bcheck\([A-Z]|\bbody\(", tests),
        "a refusal": ".refuse(" not in source or re.search(r"refus", tests),
    }
    return [f"{name}: {promise}" for promise, held in kept.items() if not held]


@pytest.mark.parametrize("name", ORDER)
def test_its_own_tests_hold_the_text_and_a_refusal(name: str) -> None:
    assert lacks(name, own_tests(name), (PASSES / module_of(name)).read_text(encoding="utf-8")) == []


def test_a_module_without_them_is_found() -> None:
    assert lacks("x", "run(X(), program)", "context.refuse(path, why)") == [
        "x: a text before and after",
        "x: a refusal",
    ]
    assert lacks("x", "assert check(X(), A, B) == []", "context.take(name, path)") == []
