"""The folder of a plan: what is read is what was written, in a process without passes too, and what is none is refused."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from tests.backends.cuda.lowered_models import digits_images, lowered_digits, twin_of
from vitgraph.backends.cuda.lowered import Lowered
from vitgraph.backends.cuda.plan_folder import load_plan, plan_files
from vitgraph.errors import InputError

Change = Callable[[dict[str, Any]], object]
ALONE = """
import sys, torch
from vitgraph.backends.cuda.plan_folder import load_plan
from vitgraph.backends.cuda.twin import Twin
lowered = load_plan(sys.argv[1])
torch.save(Twin(lowered.plan, lowered.tensors).run(torch.load(sys.argv[2])), sys.argv[3])
parts = ("vitgraph.passes", "vitgraph.frontend", "vitgraph.compile", "vitgraph.backends.cuda.lowering", "timm", "onnx")
print([name for name in sys.modules if name.startswith(parts)])
"""


def written(lowered: Lowered, folder: Path) -> Path:
    for name, content in plan_files(lowered).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("recipe", ["int8", "sparse-int8"])
def test_what_is_read_is_what_was_written(recipe: str, tmp_path: Path) -> None:
    lowered = lowered_digits(recipe)
    lowered = replace(lowered, plan=replace(lowered.plan, target="h200", capability="9.0"))
    read = load_plan(written(lowered, tmp_path))
    assert read.plan == lowered.plan
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in lowered.tensors.items())
    assert plan_files(read) == plan_files(lowered)
    assert torch.equal(twin_of(read).run(digits_images(3)), twin_of(lowered).run(digits_images(3)))
    assert load_plan(tmp_path / "cuda").plan == lowered.plan


@pytest.mark.slow
def test_it_runs_in_a_process_without_passes(tmp_path: Path) -> None:
    lowered, images = lowered_digits("sparse-int8"), digits_images(3)
    torch.save(images, tmp_path / "images.pt")
    words = [written(lowered, tmp_path), tmp_path / "images.pt", tmp_path / "logits.pt"]
    ran = subprocess.run([sys.executable, "-c", ALONE, *map(str, words)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    assert torch.equal(torch.load(tmp_path / "logits.pt"), twin_of(lowered).run(images))


def first(plan: dict[str, Any], kernel: str) -> dict[str, Any]:
    """The first step of a kernel, or of an operator of torch."""
    return next(step for step in plan["steps"] if kernel in (step["kernel"], step.get("operator")))


def argument(kernel: str, name: str, value: object) -> Change:
    return lambda plan: first(plan, kernel)["arguments"].update({name: value})


def buffer_of(kernel: str, **changed: object) -> Change:
    def change(plan: dict[str, Any]) -> None:
        name = first(plan, kernel)["outputs"][0]
        next(each for each in plan["buffers"] if each["name"] == name).update(changed)

    return change


def operator(name: str, **arguments: object) -> Change:
    """The first reshape replaced by another call."""

    def change(plan: dict[str, Any]) -> None:
        step = first(plan, "aten.reshape.default")
        step["operator"] = name
        step["arguments"] = {key: value for key, value in step["arguments"].items() if key == "self"} | arguments

    return change


def unpadded(plan: dict[str, Any]) -> None:
    for each in plan["buffers"]:
        each.pop("padded", None)


HOSTILE: dict[str, tuple[Change, str]] = {
    "another version": (lambda plan: plan.update(version=99), "version 99, not 1"),
    "no version": (lambda plan: plan.pop("version"), "is no plan of this version"),
    "another kernel": (lambda plan: plan["steps"][-1].update(kernel="os.system"), "is no kernel"),
    "an operator that writes files": (operator("aten.save.default"), "is not among the operators"),
    "an operator of Python": (operator("builtins.eval"), "is no operator of a graph"),
    "a function on numbers": (operator("operator.add"), "is no operator on tensors"),
    "an operator that writes its argument": (operator("aten.relu_.default"), "is not among the operators"),
    "a type that does not follow": (operator("aten.relu.default"), "but gives"),
    "results without number": (operator("aten.chunk.default", chunks=10**9), "would have over"),
    "a view past its memory": (operator("aten.as_strided.default", size=[1 << 20], stride=[1], storage_offset=0), "can't run|not valid"),
    "an argument that it does not take": (operator("aten.relu.default", out=3), "takes no argument out"),
    "a size that is none": (operator("aten.reshape.default", shape=[{"size": "N*N"}]), "is no plan"),
    "a size of the whole memory": (buffer_of("aten.reshape.default", type="f32[N, 9999999, 9999999]"), "elements are over"),
    "a negative size": (buffer_of("aten.reshape.default", type="f32[N, -3]"), "negative"),
    "an unknown type": (buffer_of("normalize", type="f7[N]"), "is no plan"),
    "a buffer that is not there": (argument("normalize", "x", {"value": "nowhere"}), "read before it is written"),
    "a weight for a buffer": (argument("normalize", "x", {"weight": "w"}), "read before it is written"),
    "a number for a buffer": (argument("normalize", "x", 3), "x is no buffer"),
    "a scale of zero": (argument("normalize", "scale", 0.0), "is no scale"),
    "a scale that is NaN": (argument("normalize", "scale", {"number": "nan"}), "no number of FP32"),
    "a scale that is a word": (argument("normalize", "scale", "1"), "no number of FP32"),
    "an epsilon below zero": (argument("normalize", "eps", -1.0), "eps is too small"),
    "GELU that is 2": (argument("activate", "gelu", 2), "neither true nor false"),
    "an argument too many": (argument("activate", "out", None), "are no arguments of it"),
    "keys for values of another shape": (argument("attention", "v", {"value": "layer_norm"}), "of the same heads"),
    "padding that is dropped": (unpadded, "are not padded"),
    "a result of another type": (buffer_of("attention", type="f16[N, 37, 64]"), "not rows of"),
    "a result of too few rows": (buffer_of("attention", type="i8[N, 36, 64]"), "rows of"),
    "a result that is written twice": (lambda plan: plan["steps"].append(plan["steps"][-1]), "is written twice"),
    "no steps": (lambda plan: plan.update(steps=[]), "never written"),
    "another kind of site": (lambda plan: plan["sites"][0].update(kind="x"), "no kind of site"),
    "brackets without end": (lambda plan: plan["steps"][0]["arguments"].update(shape=[[[[[[[[]]]]]]]]), "is no plan|can't run"),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(lowered_digits("sparse-int8"), tmp_path_factory.mktemp("plan"))


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_plan_is_refused(fault: str, folder: Path, tmp_path: Path) -> None:
    change, says = HOSTILE[fault]
    plan = json.loads((folder / "cuda/plan.json").read_text())
    change(plan)
    (tmp_path / "weights.safetensors").hardlink_to(folder / "cuda/weights.safetensors")
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(InputError, match=says):
        load_plan(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, '{"version": NaN}', '"\\ud800"'])
def test_what_is_no_plan_is_refused(text: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").hardlink_to(folder / "cuda/weights.safetensors")
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InputError):
        load_plan(tmp_path)


def packed(tensors: dict[str, torch.Tensor]) -> bytes:
    return save(tensors)


def test_hostile_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.json").hardlink_to(folder / "cuda/plan.json")
    file, tensors = tmp_path / "weights.safetensors", dict(lowered_digits("sparse-int8").tensors)
    name = next(name for name in tensors if name.endswith(".codes"))
    with pytest.raises(InputError, match="can't be read"):
        load_plan(tmp_path)
    for content in (b"", b"\xff" * 64, (folder / "cuda/weights.safetensors").read_bytes()[:-9]):
        file.write_bytes(content)
        with pytest.raises(InputError, match="can't be read as weights"):
            load_plan(tmp_path)
    for wrong, says in ((tensors[name][:1], r"is i8\["), (torch.ones_like(tensors[name]), "is not 2:4")):
        file.write_bytes(packed({**tensors, name: wrong.clone()}))
        with pytest.raises(InputError, match=says):
            load_plan(tmp_path)
    file.write_bytes(packed({other: tensor for other, tensor in tensors.items() if other != name}))
    with pytest.raises(InputError, match="is missing"):
        load_plan(tmp_path)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(InputError, match="it is a FIFO"):
        load_plan(tmp_path)


def test_a_folder_without_a_plan_says_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`vitgraph compile --backend cuda` writes one"):
        load_plan(tmp_path)
