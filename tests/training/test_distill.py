"""Distillation: what the loss is, that a student comes nearer to its teacher, and that a stop changes nothing."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from vitgraph.frontend.from_digits import PREPROCESSING
from vitgraph.images.image_set import ImageSet, open_images
from vitgraph.training.distill import Distiller, Schedule, augment, soft_cross_entropy
from vitgraph.training.processes import Processes
from vitgraph.training.random_states import seeded

SCHEDULE = Schedule(epochs=2, batch=16, learning_rate=2e-3)


def images(count: int = 96) -> ImageSet:
    return open_images("digits:train", PREPROCESSING, limit=count)


def models() -> tuple[nn.Module, nn.Module]:
    """A student and a teacher that are not the same; dropout makes steps draw random numbers."""
    made = list[nn.Module]()
    for seed in (0, 1):
        random: Any = torch.random
        random.manual_seed(seed)
        made.append(nn.Sequential(nn.Flatten(), nn.Linear(576, 32), nn.Dropout(0.1), nn.GELU(), nn.Linear(32, 10)))
    return made[0], made[1]


def distiller(schedule: Schedule = SCHEDULE, count: int = 96) -> Distiller:
    student, teacher = models()
    return Distiller(student, teacher, images(count), schedule, Processes())


def nothing(step: int) -> tuple[()]:
    return ()


def silent(step: int) -> None:
    pass


def test_the_loss_is_the_cross_entropy_with_the_teachers_answer() -> None:
    logits, teacher = torch.randn(3, 4), torch.randn(3, 4)
    wanted = -sum(
        float(teacher.softmax(1)[i, c]) * math.log(float(logits.softmax(1)[i, c])) for i in range(3) for c in range(4)
    )
    assert float(soft_cross_entropy(logits, teacher)) == pytest.approx(wanted / 3, rel=1e-5)
    assert soft_cross_entropy(teacher, teacher) < soft_cross_entropy(logits, teacher)


def test_the_student_comes_nearer_and_the_teacher_stays() -> None:
    work = distiller(Schedule(epochs=8, batch=16, learning_rate=2e-3))
    before = copy.deepcopy(work.teacher.state_dict())
    pixels, _ = next(iter(images().batches(96)))
    least = soft_cross_entropy(work.teacher(pixels), work.teacher(pixels))  # the teacher's own entropy
    first = soft_cross_entropy(work.student.eval()(pixels), work.teacher(pixels)) - least
    work.train(0, work.steps, nothing, silent)
    last = soft_cross_entropy(work.student.eval()(pixels), work.teacher(pixels)) - least
    assert last < 0.5 * first
    assert all(torch.equal(before[name], value) for name, value in work.teacher.state_dict().items())
    assert not work.teacher.training


def test_the_learning_rate_rises_and_falls() -> None:
    schedule = Schedule(warmup=0.2)
    rates = [schedule.rate(step, 50) for step in range(50)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == schedule.learning_rate
    assert rates[-1] < 2 * schedule.least + 1e-6


def test_training_in_parts_ends_in_the_same_bytes() -> None:
    whole, parts = distiller(), distiller()
    told = list[int]()
    whole.train(0, whole.steps, nothing, told.append)
    assert told == list(range(1, 13))
    parts.train(0, 7, nothing, silent)
    kept = parts.state()
    again = distiller()
    again.restore(kept)
    again.train(7, again.steps, nothing, silent)
    for name, value in whole.state().items():
        assert torch.equal(value, again.state()[name]), name
    fresh = distiller()  # without what the optimizer knew
    fresh.restore({name: value for name, value in kept.items() if name.startswith("weight.")})
    fresh.train(7, fresh.steps, nothing, silent)
    assert any(not torch.equal(value, fresh.state()[name]) for name, value in whole.state().items())


def test_another_seed_is_another_training() -> None:
    first, second = distiller(), distiller(Schedule(epochs=2, batch=16, learning_rate=2e-3, seed=1))
    assert first.train(0, 4, nothing, silent) != second.train(0, 4, nothing, silent)


def test_every_epoch_takes_each_image_once_in_another_order() -> None:
    work = distiller(Schedule(epochs=2, batch=16, augment=False))
    seen = [pixels for _, pixels in work._batches(0, 12)]  # pyright: ignore[reportPrivateUsage]
    epochs = [torch.cat(seen[:6]), torch.cat(seen[6:])]
    assert not torch.equal(*epochs)
    sums = [epoch.flatten(1).double().sum(1).sort().values for epoch in epochs]
    assert torch.equal(*sums)
    assert torch.equal(epochs[0], torch.cat([pixels for _, pixels in distiller(Schedule(2, 16, augment=False))._batches(0, 6)]))  # fmt: skip # pyright: ignore[reportPrivateUsage]


def test_what_varies_keeps_shape_and_values() -> None:
    pixels = torch.arange(2 * 1 * 16 * 16.0).reshape(2, 1, 16, 16)
    varied = augment(pixels, seeded(0, "test"))
    assert varied.shape == pixels.shape
    assert bool(torch.isin(varied, pixels).all())
    assert torch.equal(varied, augment(pixels, seeded(0, "test")))
    assert not torch.equal(varied, augment(pixels, seeded(1, "test")))


@pytest.mark.parametrize("other", [(1, "a", 0), (0, "b", 0), (0, "a", 1)])
def test_every_purpose_has_numbers_of_its_own(other: tuple[int, str, int]) -> None:
    draws = [torch.randint(1 << 30, (4,), generator=seeded(*each)) for each in ((0, "a", 0), other)]
    assert not torch.equal(*draws)


def test_fewer_images_than_a_batch_are_one_step() -> None:
    work = distiller(Schedule(epochs=1, batch=64), count=10)
    assert work.steps == 1
    assert work.train(0, 1, nothing, silent) > 0
