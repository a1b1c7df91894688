"""`quantize` and `sparsify`: a module and tensors in, a program that is called, trained and compiled out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from tests.handmade_vit import HandmadeViT
from vitgraph.api import quantize, sparsify, trainable_head
from vitgraph.compile.compiler import compile_model
from vitgraph.compile.recipe import load_recipe, recipe_names
from vitgraph.errors import InputError
from vitgraph.ir.dialect import fake_quantize, mask
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.ir.program_file import load, save
from vitgraph.passes import find_pass, pipeline

X = torch.randn(20, 3, 16, 16, generator=torch.Generator().manual_seed(1))
Y = torch.arange(20) % 10


def loader() -> DataLoader[Any]:
    return DataLoader(TensorDataset(X, Y), batch_size=8)


@pytest.fixture(scope="module")
def quantized() -> Program:
    return quantize(HandmadeViT(), loader())


def train(program: Program, steps: int = 4) -> list[float]:
    """The losses of a few steps on the same images."""
    optimizer: Any = torch.optim.AdamW(program.train().parameters(), lr=1e-3)
    losses = list[float]()
    for _ in range(steps):
        loss: Any = functional.cross_entropy(program(X), Y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def copied(program: Program) -> Program:
    twin = program.copy()
    twin.own_tensors()
    return twin


def test_a_module_comes_back_quantized_under_its_own_names(quantized: Program) -> None:
    assert len(quantized.calls(fake_quantize)) > 16
    assert {name for name, _ in quantized.named_parameters()} == {name for name, _ in HandmadeViT().named_parameters()}
    near = functional.cosine_similarity(quantized(X), HandmadeViT().eval()(X), dim=-1)
    assert near.min() > 0.99
    assert quantized(X[:3]).shape == (3, 10), "it takes any batch"
    assert quantized.provenance["preprocessing"] is None, "nobody said how the tensors were made"


def test_it_trains_through_rounding_and_attention(quantized: Program) -> None:
    program = copied(quantized)
    losses = train(program)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.1
    assert all(parameter.grad is not None for parameter in program.parameters())


def test_the_callers_module_stays_as_it_was() -> None:
    model = HandmadeViT().train()
    model.blocks[0].eval()
    model.head.weight.requires_grad_(False)
    hooked = list[int]()
    model.norm.register_forward_hook(lambda module, args, output: hooked.append(1))
    state, modes = {k: v.clone() for k, v in model.state_dict().items()}, [m.training for m in model.modules()]
    program = quantize(model, X[:4])
    train(program)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert (model.head.weight.requires_grad, model.head.bias.requires_grad) == (False, True)
    assert [name for name, each in program.named_parameters() if not each.requires_grad] == ["head.weight"]
    hooked.clear()
    model(X[:1])
    assert hooked == [1]


@pytest.mark.parametrize(
    "data",
    [X, list(X), (X, Y), [(X, Y)], TensorDataset(X, Y)],
    ids=["tensor", "list", "pair", "batches", "data set"],
)
def test_every_form_of_the_same_images_gives_the_same_program(data: Any, quantized: Program) -> None:
    program = quantize(HandmadeViT(), data)
    assert show(program) == show(quantized)
    assert all(torch.equal(a, b) for a, b in zip(program.tensors().values(), quantized.tensors().values(), strict=True))


def test_a_generator_runs_once_and_no_further() -> None:
    taken = list[int]()

    def endless() -> Iterator[Tensor]:
        while True:
            taken.append(1)
            yield X[len(taken) % 20]

    quantize(HandmadeViT(), endless(), images=5)
    assert len(taken) == 5


def test_what_was_trained_is_saved_and_compiled(quantized: Program, tmp_path: Path) -> None:
    program = copied(quantized)
    train(program)
    save(program, tmp_path / "trained.safetensors")
    assert torch.equal(load(tmp_path / "trained.safetensors").run(X), program.run(X))
    calls = list[str]()
    report = compile_model(
        program, target="cpu", out=str(tmp_path / "out"),
        pipeline="assign-precision{to=f32},materialize,legalize", evaluate_data=(X, Y),
        progress=lambda what, done, total: calls.append(what),
    )  # fmt: skip
    assert not [what for what in calls if "calibration" in what], "it was calibrated again"
    assert report.accuracy is not None
    assert report.accuracy.agreement == 100.0
    assert report.model.input == [1, 3, 16, 16]
    assert (report.preprocessing, bool(report.preprocessing_why)) == (None, True)


def test_the_rest_of_its_own_recipe_is_left(
    quantized: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = list[str]()

    def stop(job: Any, *_: Any) -> Any:
        seen.append(str(job.pipeline))
        raise InputError("far enough")

    monkeypatch.setattr("vitgraph.compile.compiler._compile", stop)
    save(quantized, tmp_path / "q.safetensors")
    for model, recipe in ((quantized, None), (quantized, "int8"), (tmp_path / "q.safetensors", "int8")):
        with pytest.raises(InputError, match="far enough"):
            compile_model(model, target="a100", recipe=recipe, out=tmp_path / "out")
    assert seen == ["assign-precision,materialize,legalize"] * 3
    with pytest.raises(InputError, match="quantize has run on the program already"):
        compile_model(quantized, target="a100", recipe="sparse-int8", out=tmp_path / "out")
    with pytest.raises(InputError, match="recipe: give one"):
        compile_model("digits-vit", target="a100", out=tmp_path / "out")


def test_a_module_and_a_loader_are_compiled_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(job: Any, *_: Any) -> Any:
        assert (job.model.input_shape, len(job.calibration), job.model.preprocessing) == ((3, 16, 16), 20, None)
        raise InputError("far enough")

    monkeypatch.setattr("vitgraph.compile.compiler._compile", stop)
    with pytest.raises(InputError, match="far enough"):
        compile_model(HandmadeViT(), target="a100", recipe="int8", out=tmp_path / "out", calibration_data=loader())


def test_masks_hold_while_the_weights_train() -> None:
    program = sparsify(HandmadeViT(), example=X[:1], pattern="2:4")
    assert len(program.calls(mask)) == 8
    dense = program.tensor("blocks.0.fc1.weight").clone()
    train(program)
    (call,) = (each for each in program.calls(mask) if "blocks_0_fc1" in str(each.args[0]))
    weight, keep = (program.tensor(str(arg.target)) for arg in call.args)  # type: ignore[union-attr]
    masked = mask(weight, keep)
    assert not torch.equal(weight, dense)
    assert masked.reshape(-1, 4).count_nonzero(-1).max() == 2


def test_sparse_then_quantized_keeps_the_masks(tmp_path: Path) -> None:
    sparse = sparsify(HandmadeViT(), X, score="wanda", refit=True, only=["fc1", "fc2"])
    before = {name: value.clone() for name, value in sparse.tensors().items()}
    program = quantize(sparse, X)
    assert (len(program.calls(mask)), "quantize" in str(program.ledger)) == (4, True)
    train(program)
    assert all(torch.equal(value, before[name]) for name, value in sparse.tensors().items()), (
        "training changed its source"
    )
    save(sparse, tmp_path / "sparse.safetensors")
    assert len(quantize(str(tmp_path / "sparse.safetensors"), X).calls(mask)) == 4


@pytest.mark.parametrize(("pattern", "options"), [("2:4", "{}"), ("1:4", "{'n': 1}"), ("16:2:8", "{'m': 8, 'v': 16}")])
def test_patterns(pattern: str, options: str) -> None:
    program = sparsify(HandmadeViT(), pattern=pattern, example=X[:1], only=["fc2"])
    assert program.ledger[-1]["name"] == "nm-mask"
    found = {key: value for key, value in program.ledger[-1]["options"].items() if key != "only"}
    assert str(found) == options


def test_a_name_and_a_fixed_batch() -> None:
    program = quantize("digits-vit", "digits:train", images=4, batch=2)
    assert program.input_types()[0].static == (2, 1, 24, 24)
    assert program.provenance["recipe"]["name"] == "int8"


def test_passes_as_text_and_as_objects() -> None:
    steps = "canonicalize,fuse-attention,quantize{method=minmax},legalize"
    by_text, by_object = (quantize(HandmadeViT(), X, preset) for preset in (steps, pipeline(steps)))
    assert show(by_text) == show(by_object)
    assert [entry["name"] for entry in by_text.ledger] == ["canonicalize", "fuse-attention", "quantize"]
    assert by_text.provenance["recipe"]["pipeline"] == steps


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_trained_up_to_what_is_for_the_engine(name: str) -> None:
    recipe = load_recipe(name, find_pass)
    head = trainable_head(recipe.pipeline)
    tail = [step.name for step in recipe.pipeline.passes[len(head.passes) :]]
    assert tail in (["assign-precision", "materialize", "legalize"], ["materialize", "legalize"])


class FixedBatch(nn.Module):
    """Takes two images and no other number."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, -1).sum(-1, keepdim=True)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: quantize(HandmadeViT(), None), "no calibration images; .* in Python hand in `data`"),  # type: ignore[arg-type]
        (lambda: quantize(HandmadeViT(), "random"), "does not tell its image size"),
        (lambda: quantize(HandmadeViT(), X, "int9"), "int9"),
        (lambda: quantize(HandmadeViT(), X, target="a1000"), "a1000"),
        (lambda: quantize(HandmadeViT(), X[:, :, :15, :15] * torch.nan), "image 0 holds NaN"),
        (lambda: quantize(HandmadeViT(), []), "holds no image"),
        (lambda: sparsify(HandmadeViT(), pattern="two of four", example=X[:1]), "write N:M"),
        (lambda: sparsify(HandmadeViT(), pattern="2:4", score="wand", example=X[:1]), "option 'score'"),  # type: ignore[arg-type]
        (lambda: sparsify(HandmadeViT(), pattern="2:4", score="wanda", example=X[:1]), "no calibration images"),
        (lambda: quantize(FixedBatch(), X, "canonicalize"), "give `batch`"),
        (lambda: quantize(quantize(HandmadeViT(), X[:2]), X[:2], "sparse-int8"), "has run on the program already"),
    ],
)
def test_mistakes_are_told(call: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        call()
