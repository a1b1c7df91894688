"""A Program: an FX graph, its weights, where it came from, and the ledger of what was done to it.

The graph holds placeholders, `get_attr` of weights and constants, calls of operators, and one output. Every node
carries `meta["type"]` (see `tensor_type`) and `meta["path"]`, the path of the module it came from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, fx

from vitgraph.ir.packing import Packing
from vitgraph.ir.printer import show
from vitgraph.ir.tensor_type import TensorType, Type, infer

SiteKey = tuple[str, int]
"""A module path, and how many linears and convolutions of this path come before: a module may run several."""
Form = Literal["captured", "canonical"]
"""`captured`: any ATen operator, as torch.export left it. `canonical`: only operators of the dialect."""


@dataclass
class Program:
    """A model on its way to an engine; passes rewrite it in place, pipelines work on a copy.

    It runs and trains as a module does: `program(x)` keeps gradients, `program.parameters()` goes to an optimizer. Pairs of
    quantize and dequantize round there with a straight-through gradient, and masks hold whatever the weights become.
    Where an `nn.Module` itself is wanted, by `nn.Sequential`, `torch.compile` or DDP, there is `program.module`.
    """

    module: fx.GraphModule
    name: str
    form: Form = "captured"
    provenance: dict[str, Any] = field(default_factory=dict[str, Any])
    """Where model, weights and pre-processing came from: plain JSON."""
    ledger: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """One entry for each pass that ran (report key `passes`): plain JSON."""
    masks: dict[SiteKey, Packing] = field(default_factory=dict[SiteKey, Packing])
    """The N:M pattern of each linear that was masked; the verifier holds its weight to it. A later mask counts."""

    @property
    def graph(self) -> fx.Graph:
        """The graph itself."""
        return self.module.graph

    @property
    def inputs(self) -> list[fx.Node]:
        """The placeholders, in order."""
        return [node for node in self.graph.nodes if node.op == "placeholder"]

    @property
    def output(self) -> fx.Node:
        """The output node; its first argument is what the model returns."""
        last: fx.Node = next(iter(reversed(self.graph.nodes)))
        return last

    def calls(self, *targets: Callable[..., Any]) -> list[fx.Node]:
        """The calls of these operators (of any operator where none is named), in order."""
        return [n for n in self.graph.nodes if n.op == "call_function" and (not targets or n.target in targets)]

    def tensors(self) -> dict[str, Tensor]:
        """Every weight and constant that the graph reads, by name, in order of first use."""
        names = dict.fromkeys(str(node.target) for node in self.graph.nodes if node.op == "get_attr")
        return {name: self.tensor(name) for name in names}

    def tensor(self, name: str) -> Tensor:
        """One weight or constant by its dotted name; `KeyError` if there is none."""
        value: Any = self.module
        for part in name.split("."):
            value = getattr(value, part, None)
        if not isinstance(value, Tensor):
            raise KeyError(name)
        return value

    def constant(self, node: Any) -> Tensor | None:
        """The tensor that a `get_attr` node reads; None for any other argument."""
        return self.tensor(str(node.target)) if isinstance(node, fx.Node) and node.op == "get_attr" else None

    def add_tensor(self, name: str, tensor: Tensor, trainable: bool = False) -> str:
        """Register a new tensor and return its name, made unique: tensors are never written over."""
        *parents, leaf = name.split(".")
        holder: torch.nn.Module = self.module
        for part in parents:
            if not isinstance(getattr(holder, part, None), torch.nn.Module):
                holder.add_module(part, torch.nn.Module())
            holder = getattr(holder, part)
        unique, count = leaf, 1
        while hasattr(holder, unique):
            unique, count = f"{leaf}_{count}", count + 1
        if trainable:
            holder.register_parameter(unique, torch.nn.Parameter(tensor.detach(), requires_grad=True))
        else:
            holder.register_buffer(unique, tensor.detach())
        return ".".join([*parents, unique])

    def constant_node(self, before: fx.Node, name: str, tensor: Tensor, trainable: bool = False) -> fx.Node:
        """Register a tensor and insert the `get_attr` node that reads it, ahead of `before`."""
        unique = self.add_tensor(name, tensor, trainable)
        with self.graph.inserting_before(before):
            node = self.graph.get_attr(unique)
        node.meta["path"] = before.meta.get("path", "")
        node.meta["type"] = TensorType(tensor.dtype, tuple(tensor.shape))
        return node

    def insert(
        self, before: fx.Node, target: Callable[..., Any], *args: Any, path: str | None = None, **kwargs: Any
    ) -> fx.Node:
        """Insert a call ahead of `before`, with its type and the module path it belongs to."""
        with self.graph.inserting_before(before):
            node = self.graph.call_function(target, args, kwargs)
        node.meta["path"] = before.meta.get("path", "") if path is None else path
        node.meta["type"] = infer_node(node)
        return node

    def clean(self) -> None:
        """Drop what nothing uses, then check FX's own rules and compile; types of new nodes are filled in."""
        self.drop_dead()
        self._drop_unread()
        fill_types(self)
        self.graph.lint()
        self.module.recompile()

    def drop_dead(self) -> None:
        """Drop the nodes that nothing uses, whatever they say of themselves; a program has no side effects."""
        self.graph.eliminate_dead_code(is_impure_node=lambda node: node.op in ("placeholder", "output"))

    def _drop_unread(self) -> None:
        """Let go of tensors that the graph no longer reads: each pass that changes weights leaves a model's worth of them."""
        read = {str(node.target) for node in self.graph.nodes if node.op == "get_attr"}
        held = [name for kind in (self.module.named_parameters, self.module.named_buffers) for name, _ in kind()]
        for name in set(held) - read:
            place, _, leaf = name.rpartition(".")
            delattr(self.module.get_submodule(place), leaf)

    def copy(self) -> Program:
        """The same program again: its own graph, the same tensors."""
        module = fx.GraphModule(self.module, _clone_graph(self.graph))  # takes over what the graph reads
        provenance = json.loads(json.dumps(self.provenance))
        return Program(module, self.name, self.form, provenance, list(self.ledger), dict(self.masks))

    def own_tensors(self) -> None:
        """Put a copy in the place of each tensor, so that training this program changes nobody else's."""
        twins = dict[int, Tensor]()  # a tensor under two names stays one
        for holder in self.module.modules():
            for name, tensor in [*holder.named_parameters(recurse=False), *holder.named_buffers(recurse=False)]:
                setattr(holder, name, twins.setdefault(id(tensor), _twin(tensor)))

    def run(self, *inputs: Tensor) -> Any:
        """Run the graph in eager torch, without gradients; shapes as the inputs' types say."""
        with torch.no_grad():
            return self.module(*inputs)

    def __call__(self, *inputs: Tensor) -> Any:
        """Run the graph in eager torch, with gradients."""
        return self.module(*inputs)

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """What trains: weights and biases, not scales and masks."""
        return self.module.parameters()

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """The same with their dotted names."""
        return self.module.named_parameters()

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors by their dotted names, scales and masks among them."""
        return dict(self.module.state_dict())

    def load_state_dict(self, state: Mapping[str, Tensor], strict: bool = True) -> None:
        """Take over the values of these tensors. Raises torch's `RuntimeError` where names (if `strict`) or shapes differ."""
        self.module.load_state_dict(state, strict=strict)

    def train(self, mode: bool = True) -> Program:
        """For loops that switch modes. A program is captured in eval mode, so it computes the same in both: no dropout."""
        self.module.train(mode)
        return self

    def eval(self) -> Program:
        """`train(False)`."""
        return self.train(False)

    def to(self, device: torch.device | str) -> Program:
        """Move the tensors, to train there; passes and compilation want the program on the CPU."""
        self.module.to(device)
        return self

    def input_types(self) -> list[TensorType]:
        """Types of the inputs, in order."""
        return [node.meta["type"] for node in self.inputs]

    def __str__(self) -> str:
        return show(self)


def _twin(tensor: Tensor) -> Tensor:
    copied = tensor.detach().clone()
    if not isinstance(tensor, torch.nn.Parameter):
        return copied
    return torch.nn.Parameter(copied, requires_grad=tensor.requires_grad)


def _clone_graph(graph: fx.Graph) -> fx.Graph:
    twin = fx.Graph()
    seen: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        seen[node] = twin.node_copy(node, lambda other: seen[other])
        seen[node].meta = dict(node.meta)
    return twin


def infer_node(node: fx.Node) -> Type:
    """The type of a call, from the types of its arguments."""
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda other: other.meta["type"])
    return infer(node.target, args, kwargs)  # type: ignore[arg-type]


def fill_types(program: Program) -> None:
    """Give every node its type afresh, from the inputs on down."""
    for node in program.graph.nodes:
        if node.op == "get_attr":
            tensor = program.tensor(str(node.target))
            node.meta["type"] = TensorType(tensor.dtype, tuple(tensor.shape))
        elif node.op == "call_function":
            node.meta["type"] = infer_node(node)
