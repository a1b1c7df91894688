"""Squared gradients, against what can be worked out by hand."""

import torch

from tests.quantizing.test_calibration import Rows
from vitgraph.ir.parser import parse
from vitgraph.quantizing.calibration import Observer, observe
from vitgraph.quantizing.fisher import gradients, weigh, weights_at
from vitgraph.quantizing.scales import threshold

CLASSIFIER = """
x: f32[N, 4] = input()
h: f32[N, 4] = aten.mul.Tensor(x, 3.0)
unused: f32[N, 4] = aten.relu.default(x)
w: f32[10, 4] = weight("head.weight")
y: f32[N, 10] = aten.linear.default(h, w, None)
return_(y)
"""


def test_squared_gradients_at_the_logits_are_on_average_the_variance_of_the_class() -> None:
    """The second derivative of the divergence by the logits is diag(p) - p pᵀ, and p (1 - p) its diagonal."""
    program = parse(CLASSIFIER)
    _, _, linear = program.calls()
    rows = torch.randn(1, 4, generator=torch.Generator().manual_seed(3)).expand(4000, 4)
    ((values, found),) = list(gradients(program, [linear], Rows(rows, 4000), 4000))
    p = values[0][0].softmax(-1)
    torch.testing.assert_close(found[0].square().mean(0), p * (1 - p), rtol=0.1, atol=1e-4)
    torch.testing.assert_close(found[0].sum(-1), torch.zeros(4000))  # what all classes gain alike is nothing


def test_the_same_every_time() -> None:
    program, rows = parse(CLASSIFIER), torch.randn(6, 4)
    one, two = (weights_at(program, program.calls()[:1], Rows(rows), 6)[0] for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == (1, 4)
    torch.testing.assert_close(one.mean(), torch.ones(()))


def test_what_the_output_does_not_see_weighs_nothing() -> None:
    program = parse(CLASSIFIER)
    for _, (kept, unused) in gradients(program, program.calls()[:2], Rows(torch.randn(3, 4)), 3):
        assert kept.abs().sum() > 0
        assert unused.abs().sum() == 0


def test_it_stops_after_so_many_images() -> None:
    program = parse(CLASSIFIER)
    seen = [len(values[0]) for values, _ in gradients(program, program.calls()[:1], Rows(torch.randn(20, 4), 5), 10)]
    assert seen == [5, 5]


def test_features_of_one_vector_are_no_logits() -> None:
    """Their squared gradients at the output are on average one each, whatever a softmax would make of them."""
    program = parse(CLASSIFIER)
    program.provenance["classes"] = 0
    _, _, linear = program.calls()
    rows = torch.randn(1, 4, generator=torch.Generator().manual_seed(3)).expand(4000, 4)
    ((_, found),) = list(gradients(program, [linear], Rows(rows, 4000), 4000))
    torch.testing.assert_close(found[0].square().mean(0), torch.ones(10), rtol=0.1, atol=0.0)


def test_features_are_weighed_too() -> None:
    program = parse(
        CLASSIFIER.replace("y: f32[N, 10] = aten.linear.default(h, w, None)\n", "").replace("(y)", "([h, x])")
    )
    (weights,) = weights_at(program, program.calls()[:1], Rows(torch.randn(3, 4)), 3)
    assert (weights > 0).all()


def test_magnitudes_are_counted_by_what_the_output_feels_of_them() -> None:
    """Half of the channels do not reach the output: what they hold has no weight, and the threshold leaves it out."""
    text = """
x: f32[N, 4] = input()
y: f32[N, 4] = aten.mul.Tensor(x, 1.0)
z: f32[N, 2] = aten.slice.Tensor(y, 1, 0, 2)
return_(z)
"""
    program = parse(text)
    rows = torch.cat([torch.rand(64, 2), 100 * torch.rand(64, 2)], 1)
    points = [Observer(program.calls()[0])]
    (plain,) = observe(program, points, Rows(rows))
    (felt,) = weigh(program, points, [plain], Rows(rows))
    assert felt.largest == plain.largest
    assert threshold(plain, "mse") > 50
    assert threshold(felt, "hessian") < 2
