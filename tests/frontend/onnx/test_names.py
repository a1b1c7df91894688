"""Paths of modules and names of weights, and that no name of a file does harm."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.frontend.onnx.files import furthest, model, untyped, write
from vitgraph.frontend.from_onnx.names import module_path
from vitgraph.frontend.from_onnx.open_onnx import open_onnx
from vitgraph.ir.program_file import load, save


def _named(name: str, weight: str = "", **metadata: str) -> Any:
    values = [SimpleNamespace(name=weight, const_value=object())] if weight else []
    return SimpleNamespace(name=name, metadata_props=metadata, inputs=values)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/blocks/blocks.0/attn/qkv/MatMul", "blocks.0.attn.qkv"),
        ("/layers/layers.1/blocks/blocks.0/norm1/LayerNormalization_1", "layers.1.blocks.0.norm1"),
        ("/encoder/layers/encoder_layer_0/self_attention/MatMul_2", "encoder.layers.encoder_layer_0.self_attention"),
        ("blocks.0.attn.qkv/MatMul", "blocks.0.attn.qkv"),
        ("/Add", ""),
        ("MatMul_17", ""),
        ("/class/lambda/graph/Add", "class_.lambda_.graph_"),
        ("/__init__/x y/Add", "init.x_y"),
    ],
)
def test_paths_are_the_exporters_scopes(name: str, path: str) -> None:
    assert module_path(_named(name), ours=False) == path


def test_other_places_that_tell_a_path() -> None:
    scopes = {"pkg.torch.onnx.name_scopes": "['', 'blocks', 'blocks.0', 'blocks.0.attn', 'linear_3']"}
    assert module_path(_named("node_linear_3", **scopes), ours=False) == "blocks.0.attn"
    assert module_path(_named("MatMul_3", "blocks.1.mlp.fc1.weight"), ours=False) == "blocks.1.mlp.fc1"
    assert module_path(_named("MatMul_3", "onnx::MatMul_12"), ours=False) == ""
    assert module_path(_named("model/Add"), ours=True) == ""
    assert module_path(_named("model/Add"), ours=False) == "model"


NAMES = [
    "blocks.0.weight", "class", "a.__class__.b", "graph", "forward.weight", "x'); import os #", "a.b", "a", "", "é",
    "self.module", "training", "a" * 5000, "\n", "onnx::MatMul_3", "w.w.w", "w.w",
]  # fmt: skip


def test_whatever_its_tensors_are_called_a_program_can_be_saved(tmp_path: Path) -> None:
    names = [name or "_" for name in NAMES]
    weights = {name: np.full((1, 1, 1, 8), 0.5 + at, np.float32) for at, name in enumerate(names)}
    nodes = [
        untyped.make_node("Add", ["x" if at == 0 else f"v{at}", name], ["y" if at + 1 == len(names) else f"v{at + 1}"], name=f"/{name}/Add")
        for at, name in enumerate(names)
    ]  # fmt: skip
    path = write(model(nodes, weights), tmp_path)
    program = open_onnx(path)
    assert furthest(program, path) < 1e-5
    save(program, tmp_path / "p.safetensors")
    again = load(tmp_path / "p.safetensors")
    images = torch.randn(1, 3, 8, 8)
    assert torch.equal(again.run(images), program.run(images))


def test_equal_vectors_that_are_stored_once_are_each_layers_own(tmp_path: Path) -> None:
    ones = np.ones(8, np.float32)
    nodes = [
        untyped.make_node("LayerNormalization", ["x", "norm1.weight"], ["a"], name="/norm1/LayerNormalization"),
        untyped.make_node("LayerNormalization", ["a", "norm1.weight"], ["y"], name="/norm2/LayerNormalization"),
    ]
    program = open_onnx(write(model(nodes, {"norm1.weight": ones}), tmp_path))
    assert set(program.tensors()) == {"norm1.weight", "norm2.weight"}
