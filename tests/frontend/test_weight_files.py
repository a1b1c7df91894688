"""Weights files: whole ones load, and each kind of bad one is named."""

import pickle
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vitgraph.errors import InputError
from vitgraph.frontend.weight_files import hash_state, read_weights
from vitgraph.frontend.weight_fit import infer_classes, load_weights

save: Callable[..., None] = import_module("safetensors.torch").save_file
State = dict[str, Tensor]


def network(width: int = 8, classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(4, width), nn.Linear(width, width), nn.Linear(width, classes))


def put(state: object, path: Path) -> Path:
    torch.save(state, path)
    return path


def prefixed(prefix: str) -> State:
    return {prefix + key: value for key, value in network().state_dict().items()}


@pytest.mark.parametrize(
    "content",
    [
        prefixed(""),
        {"model": prefixed(""), "epoch": 3},
        {"state_dict": prefixed("module.")},
        {"model_state_dict": prefixed("module._orig_mod.")},
    ],
    ids=["bare", "model", "state_dict", "model_state_dict"],
)
def test_unwraps_what_training_scripts_save(tmp_path: Path, content: object) -> None:
    path, fresh = put(content, tmp_path / "w.pth"), network()
    before = hash_state(fresh.state_dict())
    load_weights(fresh, read_weights(path), path)
    assert hash_state(fresh.state_dict()) != before


def test_runs_no_code_of_a_pickle(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (marker,)

    torch.save({"model": Attack()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="Python objects besides tensors"):
        read_weights(tmp_path / "w.pth")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Attack(), protocol=2))
    with pytest.raises(InputError):
        read_weights(tmp_path / "old.pt")
    assert not marker.exists()
    pickle.loads((tmp_path / "old.pt").read_bytes())  # the control: unsafe loading does run it
    assert marker.exists()


def truncated(folder: Path) -> Path:
    save(network().state_dict(), folder / "w.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "w.safetensors").read_bytes()[:-20])
    return folder / "cut.safetensors"


def truncated_pth(folder: Path) -> Path:
    path = put(network().state_dict(), folder / "w.pth")
    path.write_bytes(path.read_bytes()[:-200])
    return path


def absent(folder: Path) -> Path:
    return folder / "none.safetensors"


def itself(folder: Path) -> Path:
    return folder


def saved(name: str, content: object) -> Callable[[Path], Path]:
    return lambda folder: put(content, folder / name)


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (absent, "No such file"),
        (itself, "it is a folder"),
        (truncated, "not a whole safetensors file"),
        (truncated_pth, "not a file torch.save wrote"),
        (written("w.safetensors", b"these are no weights\n" * 9), "not a whole safetensors file"),
        (written("w.safetensors", b""), "is empty"),
        (written("w.pth", b"these are no weights\n" * 9), "not a file torch.save wrote"),
        (written("w.onnx", b"x"), "no safetensors"),
        (saved("w.pth", {"epoch": 3}), "no state dict in it, but a dict of epoch"),
        (saved("w.pt", [1, 2]), "no state dict in it, but a list"),
        (saved("w.bin", {}), "no state dict in it"),
    ],
)
def test_names_the_fault(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_weights(make(tmp_path))


def test_counts_what_does_not_fit() -> None:
    state = network(width=16).state_dict()
    del state["2.weight"]
    state["extra"] = torch.zeros(1)
    with pytest.raises(InputError) as raised:
        load_weights(network(), state, Path("w.pth"))
    message = str(raised.value)
    assert (
        "1 missing (2.weight); 1 unexpected (extra); 4 of another shape (0.weight [16, 4], the model's is [8, 4]"
        in message
    )
    assert "another architecture" in message


def test_refuses_nan() -> None:
    state = network().state_dict()
    state["1.bias"][2] = float("nan")
    with pytest.raises(InputError, match=r"1 tensors hold NaN or infinity \(1.bias\)"):
        load_weights(network(), state, Path("w.pth"))


def test_infers_classes_from_the_head_alone() -> None:
    assert infer_classes(network(), network(classes=7).state_dict()) == 7
    assert infer_classes(network(), network().state_dict()) is None
    assert infer_classes(network(), network(width=16, classes=7).state_dict()) is None


def test_hash_sees_name_value_and_shape() -> None:
    module = nn.Linear(2, 2)
    before = hash_state(module.state_dict())
    assert hash_state(nn.Sequential(module).state_dict()) != before
    module.weight.data[0, 0] += 1e-7
    assert hash_state(module.state_dict()) != before
