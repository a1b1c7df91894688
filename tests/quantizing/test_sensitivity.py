"""A simulated placement gives the numbers of the rewritten program, and the measures are what they say."""

import math

import pytest
import torch
from torch import Tensor

from tests.passes.precision.test_mixed_precision import CLASSIFIER, Noise, quantized
from vitgraph.errors import InputError
from vitgraph.ir.parser import parse
from vitgraph.quantizing.sensitivity import Seen, Sensitivity, damage_of
from vitgraph.quantizing.simulation import Off, Simulation
from vitgraph.quantizing.switches import find_switches, take_back


def by_hand(reference: Tensor, found: Tensor) -> tuple[float, float]:
    """Divergence and agreement of logits."""
    p, q = reference.log_softmax(-1), found.log_softmax(-1)
    same = (p.argmax(-1) == q.argmax(-1)).double().mean()
    return float((p.exp() * (p - q)).sum(-1).mean()), 100 * float(same)


@pytest.mark.parametrize("chunk", [1, 5, None])
def test_a_simulation_gives_what_the_rewritten_program_gives(chunk: int | None) -> None:
    program, images = quantized(outputs=True, outlier=True), Noise(chunk=chunk)
    switches = find_switches(program)
    plain = program.copy()
    take_back(plain, find_switches(plain).all)
    plain.clean()
    reference = plain.run(images.pixels)
    measure = Sensitivity(program, images, 12)
    first, *without = measure.without([], [switches.off(switch) for switch in switches.all])
    assert by_hand(reference, program.run(images.pixels)) == pytest.approx(
        (first.divergence, first.agreement), rel=1e-3
    )
    alone = measure.alone(switches.all)
    for position in range(len(switches.all)):
        work = program.copy()
        twins = find_switches(work)
        take_back(work, twins.off(twins.all[position]))
        work.clean()
        wanted = by_hand(reference, work.run(images.pixels))
        assert wanted == pytest.approx((without[position].divergence, without[position].agreement), rel=1e-3)
        work = program.copy()
        twins = find_switches(work)
        take_back(work, [each for each in twins.all if each is not twins.all[position]])
        work.clean()
        wanted = by_hand(reference, work.run(images.pixels))
        assert wanted == pytest.approx((alone[position].divergence, alone[position].agreement), rel=1e-3, abs=1e-7)


def test_a_fork_that_starts_too_late_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of the comparison above: forks from the end all give the base's numbers."""

    def nothing(self: object, other: object) -> set[object]:
        return set()

    monkeypatch.setattr("vitgraph.quantizing.simulation.Off.touches", nothing)
    with pytest.raises(AssertionError):
        test_a_simulation_gives_what_the_rewritten_program_gives(None)


def test_variants_of_a_base_that_has_something_off_already() -> None:
    program, images = quantized(outlier=True), Noise()
    switches = find_switches(program)
    measure = Sensitivity(program, images, 12)
    one, two = switches.all[-1], switches.all[0]
    direct = measure.without([one, two])[0]
    forked = measure.without([one], [[one, two]])[1]
    assert direct == forked
    assert measure.without(switches.all)[0].divergence == pytest.approx(0.0, abs=1e-9)


def test_every_quantizer_is_left_out_of_the_reference_whether_a_switch_owns_it_or_not() -> None:
    text = """
x: f32[N, 4] = input()
l: f32[N, 4] = vitgraph.log2_quantize.default(x, None, "nearest", -6, 9)
s: f32[] = constant("s")
q: f32[N, 4] = vitgraph.fake_quantize.default(l, s, None)
y: f32[N, 4] = aten.mul.Tensor(q, 1.0)
return_(y)
"""
    program = parse(text, {"s": torch.tensor(0.5)})
    x = torch.rand(3, 4) + 0.1
    assert torch.equal(Simulation(program).run(x, Off.all_of(program))[0], x)
    assert torch.equal(Simulation(program).run(x, Off.of([]))[0], program.run(x))


def seen(reference: list[list[float]], found: list[list[float]]) -> Seen:
    return Seen.of(torch.tensor(reference).log(), torch.tensor(found).log())


def test_the_drop_is_the_confidence_lost_where_another_class_is_picked() -> None:
    damage = damage_of([seen([[0.6, 0.3, 0.1]], [[0.3, 0.6, 0.1]])])
    assert damage.drop == pytest.approx(30.0, rel=1e-5)
    assert damage.agreement == 0.0
    assert damage.divergence == pytest.approx(0.3 * math.log(2), rel=1e-4)
    same = damage_of([seen([[0.6, 0.3, 0.1]], [[0.5, 0.4, 0.1]])])
    assert same.drop == 0.0
    assert same.agreement == 100.0


def test_each_confidence_meets_each_error() -> None:
    sure, unsure = [0.9, 0.05, 0.05], [0.4, 0.35, 0.25]
    shaken = [0.5, 0.4, 0.1]  # does not flip the sure one, and would flip the unsure one
    damage = damage_of([seen([sure], [shaken]), seen([unsure], [unsure])])
    assert damage.agreement == 100.0
    assert damage.drop == pytest.approx(100 * (0.4 - 0.35) / 4, rel=1e-4)


def test_the_order_and_portions_of_the_images_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.randn(30, 10, generator=generator).log_softmax(-1) for _ in range(2))
    whole = damage_of([Seen.of(p, q)])
    parts = damage_of([Seen.of(p[a:b], q[a:b]) for a, b in ((20, 30), (0, 7), (7, 20))])
    assert parts.drop == pytest.approx(whole.drop)
    assert parts.divergence == pytest.approx(whole.divergence)
    assert whole.drop >= 0


def test_asks_for_scores_of_classes_and_for_images() -> None:
    text = CLASSIFIER.replace("return_(c)", "return_(z)")
    with pytest.raises(InputError, match=r"\[images, classes\]"):
        Sensitivity(parse(text), Noise(), 4)
    with pytest.raises(InputError, match="at least one image"):
        Sensitivity(parse(CLASSIFIER), Noise(count=0), 4)
