"""One set of weights for all levels: what masks keep, what gradients reach, and that a compiled program does the same."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vitgraph.frontend.capture import capture_model
from vitgraph.frontend.models import LoadedModel, load_model
from vitgraph.ir.nm_keep import nm_keep
from vitgraph.ir.packing import Packing
from vitgraph.passes import pipeline
from vitgraph.passes.prepared import prepare
from vitgraph.searching.levels import Choice, Layer, Space, find_space
from vitgraph.searching.supernet import Frozen, Supernet
from vitgraph.targets.target import get_target


@cache
def space() -> Space:
    return find_space(prepare(capture_model(load_model("digits-vit"))), get_target("vegeta"))[0]


def supernet() -> tuple[LoadedModel, Supernet]:
    model = load_model("digits-vit")
    return model, Supernet(model.module, space(), nm_keep)


def one_linear(rows: int, groups: int, m: int) -> Supernet:
    levels = tuple(Packing(n, m) for n in range(1, m + 1))
    layer = Layer("0", "fc1", "0.weight", rows, groups * m, 1, levels)
    return Supernet(nn.Sequential(nn.Linear(groups * m, rows)), Space((layer,)), nm_keep)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([2, 4, 8]), st.data())
def test_a_mask_keeps_the_n_largest_of_each_m(rows: int, groups: int, m: int, data: st.DataObject) -> None:
    net = one_linear(rows, groups, m)
    n = data.draw(st.integers(1, m - 1))
    weight = net.module.get_parameter("0.weight").detach()
    masked = net.masked((n - 1,))["0.weight"].detach()
    parts, whole = masked.reshape(rows, groups, m), weight.reshape(rows, groups, m).abs()
    assert ((parts != 0).sum(-1) == n).all()
    assert torch.equal(masked[masked != 0], weight[masked != 0])
    smallest = torch.where(parts != 0, whole, torch.inf).min(-1).values
    largest = torch.where(parts == 0, whole, -torch.inf).max(-1).values
    assert (smallest >= largest).all()


def test_masks_follow_the_weights_as_they_are() -> None:
    net = one_linear(1, 1, 4)
    weight = net.module.get_parameter("0.weight")
    with torch.no_grad():
        weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
        assert torch.equal(net.masked((1,))["0.weight"], torch.tensor([[0.0, 0, 3, 4]]))
        weight[0, 0] = 9
        assert torch.equal(net.masked((1,))["0.weight"], torch.tensor([[9.0, 0, 0, 4]]))
        assert net.masked((3,)) == {}


def test_levels_share_weights_and_a_masked_one_gets_no_gradient() -> None:
    net = one_linear(3, 2, 4)
    weight = net.module.get_parameter("0.weight")
    images = torch.randn(5, 8)
    for choice in ((0,), (2,)):
        weight.grad = None
        torch.autograd.backward(net(images, choice).square().sum())
        kept = net.masked(choice)["0.weight"] != 0
        assert weight.grad is not None
        assert bool((weight.grad[~kept] == 0).all())
        assert bool((weight.grad[kept] != 0).all())
    assert len(list(net.parameters())) == 2


CHOICE: Choice = tuple(index % 3 for index in range(16))


def test_a_sub_network_is_the_compiled_program_with_its_masks() -> None:
    model, net = supernet()
    images = torch.randn(1, 1, 24, 24)
    steps = [
        f"nm-mask{{n={level.n} m={level.m} only=[{layer.path}]}}"
        for layer, level in zip(space().layers, space().patterns(CHOICE), strict=True)
        if level.n < level.m
    ]
    program = pipeline(",".join(["canonicalize", "fuse-attention", *steps])).run(capture_model(model))
    torch.testing.assert_close(program.run(images), Frozen(net).logits(images, CHOICE), rtol=1e-4, atol=1e-4)
    other = (*CHOICE[:-1], 2)
    assert not torch.allclose(program.run(images), Frozen(net).logits(images, other), rtol=1e-4, atol=1e-4)


def test_frozen_gives_what_the_supernet_gives_in_eval_mode_and_leaves_its_mode() -> None:
    _, net = supernet()
    images, frozen = torch.randn(4, 1, 24, 24), Frozen(net.train())
    found = frozen.logits(images, CHOICE)
    assert net.training
    with torch.no_grad():
        torch.testing.assert_close(found, net.eval()(images, CHOICE))
    assert not found.requires_grad
    with torch.no_grad():
        net.module.get_parameter(space().layers[0].weight).mul_(-3)
    torch.testing.assert_close(frozen.logits(images, CHOICE), found)  # its masks are those of when it was asked first


def test_a_layer_of_another_model_is_an_error() -> None:
    layer = Layer("9", "fc1", "9.weight", 4, 4, 1, (Packing(2, 4), Packing(4, 4)))
    net = Supernet(nn.Sequential(nn.Linear(4, 4)), Space((layer,)), nm_keep)
    with pytest.raises(AttributeError):
        net(torch.ones(1, 4), (0,))
