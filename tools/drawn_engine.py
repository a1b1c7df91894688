"""An engine's layers, as `vitgraph inspect engine.json` draws them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ValidationError

from vitgraph.compile.report_shapes import fault_in
from vitgraph.errors import InputError
from vitgraph.tools.drawing import Group, Table


class Tensor(BaseModel):
    """What a layer reads or writes."""

    name: str
    dtype: str
    shape: list[int | str | None]

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


class Layer(BaseModel):
    """A layer, as its builder told it."""

    name: str
    kind: str
    type: str | None
    """What it computes in; None for one that only moves data."""
    fused_attention: bool
    inputs: list[Tensor]
    outputs: list[Tensor]
    tactic: str
    modules: list[str]

    def row(self) -> list[str]:
        """Its row."""
        kind = "fused attention" if self.fused_attention else self.kind
        reads, writes = (", ".join(map(str, each)) for each in (self.inputs, self.outputs))
        return [kind, self.type or "", reads, writes, ", ".join(self.modules), self.name]


class Engine(BaseModel):
    """The content of `engine.json`."""

    flavour: str
    version: str
    role: str
    role_why: str
    bytes: int
    layers: list[Layer]


def read_engine(content: object, origin: str) -> Engine:
    """The engine that a file describes; `InputError` where it describes none."""
    try:
        return Engine.model_validate(content)
    except ValidationError as error:
        raise InputError(
            f"{origin}: is no engine report: {fault_in(error)}; `vitgraph compile` writes engine.json"
        ) from error


def draw_engine(engine: Engine, layers: Sequence[Layer]) -> Group:
    """What holds of all, and a row for each of these layers."""
    facts = [
        ["built by", f"{engine.flavour} {engine.version}"],
        ["role", f"{engine.role}: {engine.role_why}"],
        ["plan", f"{engine.bytes:,} bytes, {len(engine.layers)} layers"],
    ]
    columns = ["layer", "computes in", "reads", "writes", "modules", "name"]
    return Group((Table(["engine", ""], facts), Table(columns, [layer.row() for layer in layers])))
