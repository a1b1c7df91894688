"""ONNX files made node by node, and what ONNX Runtime gives for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from vitgraph.backends.ort.session import open_session
from vitgraph.ir.program import Program

untyped: Any = helper


def model(
    nodes: Sequence[Any],
    constants: dict[str, Any] | None = None,
    shape: Sequence[int | str] = ("batch", 3, 8, 8),
    opset: int = 17,
    result: str = "y",
    **changes: Any,
) -> Any:
    """A model of one input `x` and one output; constants are numpy arrays."""
    graph = untyped.make_graph(
        list(nodes),
        "graph",
        [untyped.make_tensor_value_info("x", changes.get("kind", TensorProto.FLOAT), shape)],
        [untyped.make_tensor_value_info(result, changes.get("result_kind", TensorProto.FLOAT), None)],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    return untyped.make_model(
        graph, opset_imports=[untyped.make_opsetid("", opset)], ir_version=8 if opset < 21 else 10
    )


def node(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    """A node; its inputs and outputs are words, `_` for one that is left out."""
    words = ["" if word == "_" else word for word in inputs.split()]
    return untyped.make_node(op, words, outputs.split(), name=f"/{outputs.split()[0]}/{op}", **attributes)


def write(made: Any, folder: Path, name: str = "m.onnx") -> Path:
    """The model as a file."""
    path = folder / name
    untyped_onnx: Any = onnx
    untyped_onnx.save(made, str(path))
    return path


def by_runtime(path: Path, images: torch.Tensor) -> torch.Tensor:
    """What ONNX Runtime gives for the file."""
    session: Any = open_session(str(path), path.name, threads=1)
    results = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    return torch.from_numpy(np.array(results[0]))  # pyright: ignore[reportUnknownMemberType]


def images_for(program: Program, batch: int = 2) -> torch.Tensor:
    """Random images of its input's type."""
    return torch.randn(program.input_types()[0].at(batch), generator=torch.Generator().manual_seed(5))


def furthest(program: Program, path: Path, batch: int = 2) -> float:
    """The largest difference between the program and ONNX Runtime on the file."""
    images = images_for(program, batch)
    found, expected = program.run(images), by_runtime(path, images)
    assert found.shape == expected.shape
    return float((found.float() - expected.float()).abs().max())
