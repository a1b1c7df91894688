"""The measured column of a plan's sites."""

from typing import Any

from tests.backends.cuda.pretended_tuner import PretendedTuner
from vitgraph.backends.cuda.linear_sizes import LinearSize
from vitgraph.backends.cuda.measured_sites import with_measured
from vitgraph.backends.cuda.tuning import tune
from vitgraph.cost.measured import Used

MEASURED = tune(
    [
        LinearSize(197, 192, 192, (Used(batch=8, sites=["a", "twice"]),)),
        LinearSize(10, 10, 32, (Used(batch=8, sites=["b", "twice"]),)),
    ],
    PretendedTuner(),
    rounds=1,
)


def row(path: str, kind: str = "linear", format: str = "int8 2:4") -> dict[str, Any]:
    return {"path": path, "kind": kind, "format": format, "measured_us": None, "measured_why": "nothing ran"}


def test_a_site_has_the_time_of_its_own_format_and_batch() -> None:
    sites = [row("a"), row("a", format="fp16"), row("b", format="int8")]
    assert [each["measured_us"] for each in with_measured(sites, MEASURED, 8)] == [20.0, 40.0, 30.0]
    assert [each["measured_us"] for each in with_measured(sites, MEASURED, 4)] == [None] * 3


def test_what_has_no_time_says_why() -> None:
    sites = [row("b", format="fp8"), row("c"), row("a", format="fp32"), row("attn", kind="attention"), row("twice")]
    found = with_measured(sites, MEASURED, 8)
    assert [each["measured_us"] for each in found] == [None] * 5
    assert [each["measured_why"] for each in found] == [
        "10 outputs are no multiple of 16", "was not timed at a batch of 8", "was not timed in fp32",
        "linears are timed, attention is not", "several linears of this module were timed",
    ]  # fmt: skip
