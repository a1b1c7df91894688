"""The kernels of a plan by its steps, on the CPU's twin, and the device's own runs without transfers."""

from collections.abc import Callable, Sequence

import pytest
import torch

from tests.backends.cuda.lowered_models import digits_images, lowered_digits, twin_of
from tests.backends.cuda.test_device import Pretended
from tests.backends.cuda.test_device import pretended as pretended  # noqa: PLC0414  a fixture
from tests.backends.pretended_card import PretendedCard
from vitgraph.backends.cuda.step_times import step_times
from vitgraph.runtime.kernel_spans import MARK, Span, profiled


def calls_as_kernels(work: Callable[[], object]) -> Sequence[Span]:
    """What the profiler sees here, with every call of torch taken for a kernel."""
    return [Span(span.name, span.start, span.end, not span.name.startswith(MARK)) for span in profiled(work)]


def test_every_step_has_its_kernels_and_its_site() -> None:
    lowered = lowered_digits("sparse-int8")
    waited = list[int]()
    found = step_times(twin_of(lowered), digits_images(2), lambda: waited.append(1), calls_as_kernels)
    assert len(waited) == 2 * len(lowered.plan.steps)
    linears = {site.path for site in lowered.plan.sites if site.kind == "linear"}
    assert linears <= {each.site for each in found}
    assert all(each.seconds >= 0 and each.calls >= 1 for each in found)


def test_a_run_without_transfers_is_the_graph(pretended: Pretended, monkeypatch: pytest.MonkeyPatch) -> None:
    card, images = PretendedCard(), digits_images(7)

    def on_card(device: str) -> PretendedCard:
        return card

    monkeypatch.setattr("vitgraph.backends.cuda.device.CudaCard", on_card)
    expected = twin_of(lowered_digits("sparse-int8")).run(images[:3])
    replay = pretended.resident(images[:3])
    assert pretended.accelerator is card
    card.seconds(replay)
    assert torch.equal(pretended.ready(images[:3]).output, expected)
    assert pretended.captures == 1
