"""A graph as it is shown, read from a program or from an ONNX file."""

from __future__ import annotations

import fnmatch
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitgraph.errors import InputError

if TYPE_CHECKING:
    from vitgraph.ir.program import Program


@dataclass(frozen=True)
class View:
    """A graph as it is shown, whatever it was read from."""

    name: str
    facts: dict[str, Any]
    nodes: list[dict[str, Any]]
    """Each has name, operator, type, path, and `inputs`: the names of the nodes it reads."""
    text: list[str] = field(default_factory=list[str])
    """A line for each node; empty where there is no better one than its parts."""

    def keep(self, pattern: str) -> View:
        """Only the nodes whose name, operator or module path the glob matches; `InputError` if there is none."""
        chosen = [i for i, node in enumerate(self.nodes) if _matches(node, pattern)]
        if not chosen:
            paths = sorted({node["path"] for node in self.nodes if node["path"]})
            raise InputError(
                f"--node {pattern!r} matches no name, operator or module path of {self.name}{_near(pattern, paths)}"
            )
        text = [self.text[i] for i in chosen] if self.text else []
        return View(self.name, self.facts, [self.nodes[i] for i in chosen], text)


def _near(pattern: str, paths: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(pattern.strip("*"), paths, 4, 0.4)
    return f"; near: {', '.join(close)}" if close else f"; paths look like {', '.join(paths[:3])}" if paths else ""


def _matches(node: dict[str, Any], pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(str(node[key]), pattern) for key in ("name", "operator", "path"))


def view_program(program: Program) -> View:
    """A program, with the sites passes work on where it is canonical."""
    from torch import Tensor

    from vitgraph.ir.mask_patterns import lost
    from vitgraph.ir.navigate import path_of
    from vitgraph.ir.printer import node_lines

    lines = list(node_lines(program))
    names = {node: line.partition(":")[0] if node.op != "output" else "return_" for node, line in lines}
    nodes: list[dict[str, Any]] = [
        {
            "name": names[node],
            "operator": str(node.target) if node.op == "call_function" else node.op,
            "type": str(node.meta.get("type", "")),
            "path": node.meta.get("path", "") if node.op == "call_function" else str(node.target),
            "inputs": [names[other] for other in node.all_input_nodes],
        }
        for node, _ in lines
    ]
    weights: list[Tensor] = list(program.tensors().values())
    facts: dict[str, Any] = {
        "form": program.form,
        "inputs": [str(kind) for kind in program.input_types()],
        "weights": sum(tensor.numel() for tensor in weights),
        "weight_bytes": sum(tensor.numel() * tensor.element_size() for tensor in weights),
        "operators": dict(Counter(str(node.target) for node in program.calls()).most_common()),
        "sites": _sites(program),
        "sparse": _patterns_of(program),
        "masks_lost": [path_of(node) for node, _ in lost(program)],
        "passes": [entry["name"] for entry in program.ledger],
    }
    return View(program.name, facts, nodes, [line for _, line in lines])


def _sites(program: Program) -> dict[str, Any] | None:
    """Counts by role; None for a graph as captured, in which sites are not found."""
    if program.form != "canonical":
        return None
    from vitgraph.analysis.sites import find_sites

    sites = find_sites(program)
    return {
        "linear": dict(Counter(site.role for site in sites.linears).most_common()),
        "attention": len(sites.fused_attentions),
        "norm": len(sites.norms),
        "residual": len(sites.residuals),
    }


def _patterns_of(program: Program) -> dict[str, int] | None:
    """How many weights obey which N:M; None for a graph as captured."""
    if program.form != "canonical":
        return None
    from vitgraph.cost.products import find_products

    weights = {product.weight: product.packing for product in find_products(program) if product.packing is not None}
    return dict(Counter(str(packing) for packing in weights.values()))


def _patterns_in(path: Path) -> dict[str, int]:
    """The same for the weights of an ONNX file."""
    from vitgraph.backends.onnx.stored_weights import read_weights
    from vitgraph.cost.products import packing_of
    from vitgraph.cost.workload import BITS

    found = [packing_of(each.kept, BITS[each.format]) for each in read_weights(path, floats=True).values()]
    return dict(Counter(str(packing) for packing in found if packing is not None))


def read_onnx(path: Path) -> View:
    """An ONNX file; `InputError` where it is none. Weights outside the file are read for their zeros alone."""
    import onnx

    from vitgraph.reading import ONNX, check_file

    check_file(path, ONNX)
    untyped: Any = onnx  # some of its functions lack annotations
    try:
        model: onnx.ModelProto = untyped.load(str(path), load_external_data=False)
        untyped.checker.check_model(model) if model.ByteSize() < 2**31 - 1 else None
        sparse = _patterns_in(path)
    except Exception as error:  # protobuf, the file system and the checker each have exceptions of their own
        raise InputError(
            f"{path}: can't be read as ONNX: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
    graph = model.graph
    types = {value.name: _onnx_type(value) for value in [*graph.value_info, *graph.input, *graph.output]}
    made_by = {output: node.name or output for node in graph.node for output in node.output}
    nodes = [
        {
            "name": node.name or node.output[0],
            "operator": node.op_type,
            "type": types.get(node.output[0], ""),
            "path": node.name.strip("/").replace("/", "."),
            "inputs": [made_by[name] for name in node.input if name in made_by],
        }
        for node in graph.node
    ]
    facts = {
        "form": f"onnx, opset {max((o.version for o in model.opset_import if o.domain == ''), default=0)}",
        "inputs": [f"{value.name}: {_onnx_type(value)}" for value in graph.input],
        "weights": sum(_product(list(each.dims)) for each in graph.initializer),
        "operators": dict(Counter(node.op_type for node in graph.node).most_common()),
        "sparse": sparse,
    }
    return View(path.name, facts, nodes)


def _product(sizes: list[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


def _onnx_type(value: Any) -> str:
    import onnx

    kind = value.type.tensor_type
    shape = ", ".join(str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim)
    return f"{onnx.TensorProto.DataType.Name(kind.elem_type).lower()}[{shape}]"
