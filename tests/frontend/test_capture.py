from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture
from vitgraph.ir.operator_schema import writes
from vitgraph.ir.verify import verify


class Block(nn.Module):
    """In-place activations, a guard, and a buffer."""

    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("shift", torch.arange(8.0))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.drop(self.act(self.fc(x)))
        y += self.shift
        return y.reshape(x.shape[0], -1, 2)


class Aliases(nn.Module):
    """Writes into a view: what was written is read through another name."""

    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        y[:, :2] += 1
        view = y[:, 1:]
        view.relu_()
        return y


class Scoped(nn.Module):
    """A region with a context of its own."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            y = torch.relu(x)
        return torch.add(y, 1)


class Branches(nn.Module):
    """Asks what is in the image."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def add_one(module: nn.Module, args: Any, output: Any) -> Any:
    return output + 1


def test_the_module_stays_as_it_was() -> None:
    model = Block().train()
    model.act.eval()
    model.fc.weight.requires_grad_(False)
    model.fc.register_forward_hook(add_one)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(2, 8)
    program = capture(model, x)
    assert [module.training for module in (model, model.fc, model.act, model.drop)] == [True, True, False, True]
    assert not model.fc.weight.requires_grad
    assert torch.allclose(program.run(x), model.eval()(x)), "the hook is part of what it computes"
    with torch.no_grad():
        for value in program.tensors().values():
            value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_module_is_in_its_mode_again_after_a_capture_that_failed() -> None:
    model = Branches().train()
    with pytest.raises(InputError, match="Branches"):
        capture(model, torch.randn(2, 8))
    assert model.training


@pytest.mark.parametrize("kind", [Block, Aliases, Scoped])
@pytest.mark.parametrize("dynamic", [False, True])
def test_captures_what_the_module_computes(kind: type[nn.Module], dynamic: bool) -> None:
    model = kind().eval()
    program = capture(model, torch.randn(2, 8), dynamic_batch=dynamic)
    assert verify(program) == {}
    for batch in (2, 5) if dynamic else (2,):
        x = torch.randn(batch, 8)
        kept = x.clone()
        assert torch.equal(program.run(x), model(x))
        assert torch.equal(x, kept)


def test_nothing_writes_into_its_argument() -> None:
    for kind in (Block, Aliases):
        program = capture(kind(), torch.randn(2, 8))
        assert not any(writes(node.target) for node in program.calls())


def test_each_node_knows_its_module() -> None:
    program = capture(Block(), torch.randn(2, 8), name="one")
    assert program.name == "one"
    assert {node.meta["path"] for node in program.calls()} >= {"fc", "act"}
    assert program.tensors().keys() == {"fc.weight", "fc.bias", "shift"}


def test_capture_is_of_inference_and_leaves_the_module_as_it_was() -> None:
    model = Block()
    assert model.training
    program = capture(model, torch.randn(2, 8))
    assert model.training
    x = torch.randn(2, 8)
    assert torch.equal(program.run(x), program.run(x))


def test_a_model_that_looks_at_values_is_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match="could not capture it"):
        capture(Branches(), torch.randn(2, 8), name="branches")


def test_an_example_of_one_is_doubled_for_an_unknown_batch() -> None:
    program = capture(Block(), torch.randn(1, 8), dynamic_batch=True)
    assert str(program.input_types()[0]) == "f32[N, 8]"


class WritesExpanded(nn.Module):
    """Writes one number through several elements."""

    def forward(self, x: Tensor) -> Tensor:
        wide = x.expand(2, -1, -1)
        return wide.zero_()


class WritesCopy(nn.Module):
    """The same to memory of its own, and to an expansion that repeats nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(2, -1, -1).clone().zero_() + (x + 1).expand(-1, -1).mul_(2)


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_write_to_an_expanded_tensor_is_refused(dynamic: bool) -> None:
    x = torch.randn(3, 8)
    with pytest.raises(
        InputError, match=r"aten.zero_.default writes to a tensor of which several elements.*clone it before"
    ):
        capture(WritesExpanded(), x, dynamic_batch=dynamic)
    assert torch.equal(capture(WritesCopy(), x, dynamic_batch=dynamic).run(x), WritesCopy()(x.clone()))


class Counts(nn.Module):
    """Keeps a number from one call to the next, or adds to a clone of it."""

    def __init__(self, clones: bool) -> None:
        super().__init__()
        self.clones = clones
        self.count = nn.Buffer(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        count = self.count.clone() if self.clones else self.count
        count += 1
        return x * count


def test_a_write_to_a_buffer_is_refused() -> None:
    x = torch.randn(3, 2)
    with pytest.raises(InputError, match=r"writes to its buffer 'count'.*write to a clone"):
        capture(Counts(clones=False), x)
    assert torch.equal(capture(Counts(clones=True), x).run(x), x)


class WritesFlat(nn.Module):
    """Writes through `flatten`, a view or a copy; what was flattened is read afterwards, or is not."""

    def __init__(self, beside: bool) -> None:
        super().__init__()
        self.beside = beside

    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        flat = y.flatten(1)
        flat[:, 0] = 0.5
        return y.flatten(1) + flat if self.beside else flat.relu_()


def test_a_write_through_what_may_be_a_copy_is_refused_where_it_matters() -> None:
    x = torch.randn(3, 2, 4)
    with pytest.raises(InputError, match="writes to what may be a view or a copy"):
        capture(WritesFlat(beside=True), x)
    assert torch.equal(capture(WritesFlat(beside=False), x).run(x), WritesFlat(beside=False)(x))


class WritesUnderAnotherName(nn.Module):
    """An expansion to the size that is there: the value itself under another name."""

    def __init__(self, expand: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.expand = expand

    def forward(self, x: Tensor) -> Tensor:
        y = x * 1e-5
        self.expand(y).square_()
        return y


EXPANSIONS: list[Callable[[Tensor], Tensor]] = [
    lambda y: y.expand_as(y),
    lambda y: y.expand(y.shape),
    lambda y: y.expand(-1, -1)[:, 1:],
    lambda y: torch.broadcast_to(y, list(y.shape)),
]


@pytest.mark.parametrize("expand", EXPANSIONS)
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_write_through_an_expansion_of_nothing_is_not_rounded(
    expand: Callable[[Tensor], Tensor], dynamic: bool
) -> None:
    x = torch.randn(3, 4)
    assert torch.equal(
        capture(WritesUnderAnotherName(expand), x, dynamic_batch=dynamic).run(x), WritesUnderAnotherName(expand)(x)
    )


class ScattersToWindows(nn.Module):
    """Windows that overlap: torch's copy of them overlaps as well."""

    def forward(self, x: Tensor) -> Tensor:
        windows = x.unfold(-1, 2, 1)
        return torch.select_scatter(windows, windows[..., 0] * 2, -1, -1)


def test_a_scatter_to_overlapping_windows_is_refused() -> None:
    with pytest.raises(InputError, match=r"aten.select_scatter.default writes to a tensor of which several elements"):
        capture(ScattersToWindows(), torch.randn(2, 5, 8))
