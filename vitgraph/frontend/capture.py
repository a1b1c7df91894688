"""A module and an example input in, a Program out, through `torch.export`.

torch.export captured every timm transformer family tried, where symbolic tracing failed on a third; its graph is
functional ATen and each node knows the module it came from. What is left of export's own concerns (guards,
assertions, fake values) is taken out here, so that the rest of vitgraph never sees it.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from vitgraph.errors import InputError, VitgraphError
from vitgraph.frontend.capture_errors import differs_for_one, no_type, not_captured
from vitgraph.frontend.decompositions import shorthands_in
from vitgraph.frontend.functional_forms import (
    doubtful_write,
    make_functional,
    may_be_made_functional,
    take_expansions_of_nothing,
    unsaid_views_in,
)
from vitgraph.images.image_size import device_of
from vitgraph.ir.batch import ONE_IMAGE, Batch
from vitgraph.ir.model_output import NO_CLASSES
from vitgraph.ir.program import Program, fill_types
from vitgraph.ir.tensor_type import Dim, TensorType

if TYPE_CHECKING:
    from vitgraph.frontend.models import LoadedModel

_CHECKS = frozenset(
    {
        "aten._assert_tensor_metadata.default",
        "aten._assert_scalar.default",
        "aten._assert_async.msg",
        "aten.sym_constrain_range_for_size.default",
        "aten.sym_constrain_range.default",
    }
)
"""What export leaves in a graph to guard its own assumptions."""


def capture(
    model: nn.Module,
    example: Tensor,
    *,
    name: str | None = None,
    dynamic_batch: bool = False,
    provenance: dict[str, Any] | None = None,
) -> Program:
    """Capture a model as it is in eval mode; the model stays as it was, and the program has tensors of its own.

    `example` is `[batch, channels, height, width]` (any shape the model takes); with `dynamic_batch` its first
    dimension is the unknown `N`, which needs an example of at least two. Raises `InputError` where torch.export
    can't follow the model, with its reason.
    """
    program = _capture(model, example, name, dynamic_batch, provenance)
    program.own_tensors()
    return program


def _capture(
    model: nn.Module, example: Tensor, name: str | None, dynamic_batch: bool, provenance: dict[str, Any] | None
) -> Program:
    """The program over the model's own tensors, without a second set of weights in memory."""
    if dynamic_batch and example.shape[0] < 2:
        example = torch.cat([example, example])
    shapes = ({0: torch.export.Dim("batch", min=1, max=65536)},) if dynamic_batch else None
    called = name or type(model).__name__
    with _evaluating(model), torch.no_grad():
        plain = _plain(_exported(model, called, example, shapes), example, dynamic_batch)
        make_functional(plain.graph)
        program = Program(plain, called, "captured", provenance or {})
        program.drop_dead()  # what only export's checks read may have no type
        try:
            fill_types(program)
        except Exception as error:
            raise no_type(program, error) from error
        program.clean()
        if dynamic_batch and differs_for_one(model, program, example):
            raise InputError(
                f"{called}: its code does something else for a batch of one than for larger ones, which a graph for any batch can't; "
                "capture it for one batch size"
            )
    return program


def _exported(model: nn.Module, name: str, example: Tensor, shapes: Any) -> fx.GraphModule:
    """torch.export's graph, functional and without torch's shorthands."""
    try:
        exported: Any = torch.export.export(model, (example,), dynamic_shapes=shapes, strict=False)
        take_expansions_of_nothing(exported.graph)
        doubtful = doubtful_write(exported.graph)
        if doubtful is not None:
            write, what = doubtful
            raise InputError(f"{name}: {write.target} writes to {what}; clone it before")
        shorthands = shorthands_in(exported.graph)
        if shorthands or not may_be_made_functional(exported.graph):
            exported = exported.run_decompositions(shorthands | unsaid_views_in(exported.graph))
        kept = [*exported.graph_signature.buffers_to_mutate.values()]
        if kept:
            raise InputError(
                f"{name}: every call writes to its buffer {kept[0]!r}, and an engine keeps nothing from one call to the next; "
                "write to a clone"
            )
        return exported.module(check_guards=False)  # type: ignore[no-any-return]
    except VitgraphError:
        raise
    except Exception as error:
        raise not_captured(model, name, example, error) from error


def capture_model(model: LoadedModel, batch: Batch = ONE_IMAGE) -> Program:
    """Capture a loaded model for these batch sizes; its provenance says where everything came from."""
    provenance = {
        "source": model.source,
        "weights": str(model.weights),
        "weights_sha256": model.weights_sha256,
        "preprocessing": json.loads(model.preprocessing.to_json()) if model.preprocessing else None,
        "class_names": list(model.class_names) if model.class_names else None,
        "notes": list(model.notes),
        **({"classes": NO_CLASSES} if model.classes == NO_CLASSES else {}),
    }
    example = torch.zeros(batch.best, *model.input_shape, dtype=model.input_dtype, device=device_of(model.module))
    return _capture(model.module, example, model.name, batch.dynamic, provenance)


@contextmanager
def _evaluating(model: nn.Module) -> Generator[None]:
    """Eval mode for a while; afterwards each submodule is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _plain(exported: fx.GraphModule, example: Tensor, dynamic_batch: bool) -> fx.GraphModule:
    """The same graph in a plain GraphModule: no guards, no fake values, each node with its module's path."""
    graph = fx.Graph()
    seen: dict[fx.Node, Any] = {}
    for node in exported.graph.nodes:
        if node.op == "call_module" or str(node.target) in _CHECKS:
            continue
        if node.op == "output":
            graph.output(_single(fx.map_arg(node.args[0], lambda other: seen[other])))
            continue
        new = graph.node_copy(node, lambda other: seen[other])
        new.meta = {"path": _path(node)}
        if node.op == "placeholder":
            batch = Dim(1, 0) if dynamic_batch else example.shape[0]
            new.meta["type"] = TensorType(example.dtype, (batch, *example.shape[1:]))
        seen[node] = new
    return fx.GraphModule(exported, graph)  # takes over the tensors that the graph reads


def _single(result: Any) -> Any:
    """A tuple of one tensor is that tensor."""
    single = isinstance(result, list | tuple) and len(result) == 1  # pyright: ignore[reportUnknownArgumentType]
    return result[0] if single else result  # pyright: ignore[reportUnknownVariableType]


def _path(node: fx.Node) -> str:
    """The dotted path of the innermost module the node was traced in; empty for the model itself."""
    stack: dict[str, tuple[str, Any]] = node.meta.get("nn_module_stack") or {}
    paths = [str(entry[0]) for entry in stack.values()]
    return paths[-1] if paths and not paths[-1].startswith("_empty_nn_module_stack") else ""
