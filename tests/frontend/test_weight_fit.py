"""A file's tensors find their places under any prefix, what has none is told, and nothing that computes is dropped."""

import logging
from argparse import Namespace
from collections.abc import Callable
from importlib import import_module
from pathlib import Path, PosixPath

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vitgraph.errors import InputError
from vitgraph.frontend.models import load_model
from vitgraph.frontend.weight_files import hash_state, read_weights
from vitgraph.frontend.weight_fit import load_weights, take_own

State = dict[str, Tensor]
TINY, SMALL = "vit_tiny_patch16_224", {"depth": 1, "embed_dim": 32, "num_heads": 1, "num_classes": 5, "img_size": 32}
FILE = Path("w.pth")


class Net(nn.Module):
    """Layers under names of their own, one of them nested."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8))
        self.drop, self.head = nn.Identity(), nn.Linear(8, 3)


WHOLE: State = Net().state_dict()


def under(prefix: str) -> State:
    return {prefix + key: value for key, value in WHOLE.items()}


def loaded(state: State) -> tuple[str, list[str]]:
    module = Net()
    notes = load_weights(module, state, FILE)
    return hash_state(module.state_dict()), notes


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "model.",
        "backbone.",
        "net.",
        "encoder.",
        "_orig_mod.",
        "module.model.backbone.",
        "ema_model.module.",
        "blocks.",
    ],
)
def test_any_prefix_is_found(prefix: str) -> None:
    assert loaded(under(prefix)) == (hash_state(WHOLE), [])


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_wrappers_within_names_go(wrapper: str) -> None:
    state = {key.replace("blocks.", f"blocks.{wrapper}."): value for key, value in WHOLE.items()}
    assert loaded({f"net.{key}": value for key, value in state.items()}) == (hash_state(WHOLE), [])


@pytest.mark.parametrize(
    ("extra", "prefix"),
    [
        ("loss.weight", ""),
        ("loss.weight", "model."),
        ("projector.0.weight", "model."),
        ("logit_temperature", ""),
        ("blocks.0.attn_mask", ""),
        ("blocks.1.num_batches_tracked", ""),
    ],
)
def test_what_has_no_place_is_noted(extra: str, prefix: str) -> None:
    found, notes = loaded({**under(prefix), extra: torch.ones(3)})
    assert found == hash_state(WHOLE)
    assert notes == [f"1 of 7 tensors in w.pth have no place in the model: left out ({extra})"]


@pytest.mark.parametrize(
    "extra", ["blocks.2.weight", "blocks.0.gamma", "drop.weight", "head.scale", "dist_token", "pos_embed"]
)
@pytest.mark.parametrize("prefix", ["", "model."])
def test_what_the_files_model_computes_with_is_not_dropped(extra: str, prefix: str) -> None:
    with pytest.raises(InputError, match=f"1 unexpected \\({extra}\\)"):
        loaded({**under(prefix), prefix + extra: torch.ones(3)})


def test_whole_numbers_are_bookkeeping_wherever_they_are() -> None:
    _, notes = loaded({**WHOLE, "blocks.0.index": torch.arange(3)})
    assert "(blocks.0.index)" in notes[0]


def test_an_averaged_model() -> None:
    found, notes = loaded(AveragedModel(Net()).state_dict())
    assert found != hash_state(WHOLE)
    assert "n_averaged" in notes[0]


def test_two_whole_sets_are_not_chosen_between() -> None:
    with pytest.raises(InputError, match=r"2 whole sets .* \(student\., teacher\.\); save the one that is meant"):
        loaded(under("student.") | under("teacher."))
    partly = {key: value for key, value in under("student.").items() if "head" not in key}
    assert loaded(partly | under("teacher."))[0] == hash_state(WHOLE)


def test_what_is_missing_is_told_without_the_prefix() -> None:
    state = {key: value for key, value in under("net.").items() if "head" not in key}
    mine, notes = take_own(Net(), state, FILE)
    assert (sorted(mine), notes) == (sorted(key for key in WHOLE if "head" not in key), [])
    with pytest.raises(InputError, match=r"2 missing \(head.weight, head.bias\)"):
        loaded(state)


ODD: dict[str, Callable[[Tensor], Tensor]] = {
    "torch.sparse_coo": lambda old: old.to_sparse(),
    "no values": lambda old: old.to("meta"),
    "quantized": lambda old: torch.quantize_per_tensor(old, 0.1, 0, torch.qint8),
    "imaginary part would be lost": lambda old: old + 2j,
    "its scale is not known": lambda old: old.to(torch.int8),
    "NaN or infinity": lambda old: old.double() + 1e300,
}


@pytest.mark.parametrize("message", ODD)
def test_tensors_that_are_no_values_of_the_models(message: str) -> None:
    with pytest.raises(InputError, match=f"head.weight.*{message}|{message}.*head.weight"):
        loaded({**WHOLE, "head.weight": ODD[message](WHOLE["head.weight"])})


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
def test_other_floats_are_taken(kind: torch.dtype) -> None:
    module = Net()
    load_weights(module, {key: value.to(kind) for key, value in WHOLE.items()}, FILE)
    assert module.head.weight.dtype == torch.float32


@pytest.mark.parametrize(
    "box",
    [
        lambda: {"model": WHOLE, "args": Namespace(lr=0.1, out=PosixPath("a"), inner=Namespace(x=[1]))},
        lambda: {"ema": under("module."), "model": {"head.weight": torch.zeros(3, 8)}},
        lambda: {"student": under("module.backbone."), "teacher": WHOLE, "epoch": 3},
        lambda: {"state_dict": under("model."), "hyper_parameters": {"lr": 0.1}, "pytorch-lightning_version": "2"},
        lambda: WHOLE | {"epoch": 3, "best": 0.5},
    ],
    ids=["options", "ema", "teacher", "lightning", "counters beside"],
)
@pytest.mark.parametrize("name", ["w.ckpt", "w.pth", "w.tar", "w"])
def test_what_training_scripts_save_whatever_its_ending(box: Callable[[], object], name: str, tmp_path: Path) -> None:
    torch.save(box(), tmp_path / name)
    module = Net()
    load_weights(module, read_weights(tmp_path / name), tmp_path / name)
    assert hash_state(module.state_dict()) == hash_state(WHOLE)


def test_safetensors_under_another_ending(tmp_path: Path) -> None:
    import_module("safetensors.torch").save_file(WHOLE, tmp_path / "w.bin")
    assert read_weights(tmp_path / "w.bin").keys() == WHOLE.keys()


def test_options_run_nothing(tmp_path: Path) -> None:
    """Namespaces are let in; what stands in them is looked at as anything else."""
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (marker,)

    torch.save({"model": WHOLE, "args": Namespace(inner=Attack())}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="Python objects besides tensors"):
        read_weights(tmp_path / "w.pth")
    assert not marker.exists()


def test_resized_tensors_are_noted_with_both_shapes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained = load_model(TINY, weights="random", model_args=SMALL | {"patch_size": 8, "img_size": 64})
    torch.save(trained.module.state_dict(), tmp_path / "w.pth")
    with caplog.at_level(logging.WARNING, "vitgraph"):
        resized = load_model(TINY, weights=tmp_path / "w.pth", model_args=SMALL | {"patch_size": 8})
        assert caplog.text == ""
        other = load_model(TINY, weights=tmp_path / "w.pth", model_args=SMALL)
    assert resized.notes == ("1 of 20 tensors in w.pth were resized (pos_embed from [1, 65, 32] to [1, 17, 32])",)
    assert "patch_embed.proj.weight from [32, 3, 8, 8] to [32, 3, 16, 16]" in other.notes[0]
    assert "another patch size was trained so" in caplog.text


def test_a_distilled_models_file_is_no_plain_models(tmp_path: Path) -> None:
    """Its positions could be cut to fit, and its second token dropped: another model, in silence."""
    distilled = load_model("deit_tiny_distilled_patch16_224", weights="random", model_args=SMALL)
    torch.save({"model": distilled.module.state_dict()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="do not fit"):
        load_model("deit_tiny_patch16_224", weights=tmp_path / "w.pth", model_args=SMALL)
