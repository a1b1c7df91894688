"""An ONNX file that was written of a program, and the places in it that an engine or a runtime is judged by.

Which node computes which linear layer, in which number formats and where its weight lies, and which node is
the softmax of which attention. The lowering says it, builders and runners read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from vitgraph.ir.tensor_type import TensorType

Kind = Literal["int8", "fp8", "int4", "fp16", "bf16", "fp32"]


@dataclass(frozen=True)
class LinearNode:
    """A linear layer or convolution in the file."""

    path: str
    node: str
    """Name of its MatMul or Conv."""
    operator: str
    input_format: str | None
    """The number format its input is rounded to, where it is."""
    weight_format: str | None
    weight: str | None
    """Name of the initializer of codes, where there is one: `[K, N]` for MatMul, `[N, K / groups, ...]` for Conv."""
    k_axis: int
    groups: int = 1

    @property
    def planned(self) -> str:
        """What the product is computed in: the format of its input where both operands have one, else `float`."""
        return self.input_format if self.input_format and self.weight_format else "float"


@dataclass(frozen=True)
class AttentionNode:
    """An attention in the file."""

    path: str
    softmax: str
    """Name of its Softmax."""
    planned: Kind
    """The format of its probabilities where they are quantized, and the type of its operands otherwise."""


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file that was written, and what an engine made of it is held to."""

    path: Path
    files: tuple[Path, ...]
    """`path`, and the file of external data where there is one."""
    inputs: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]
    linears: tuple[LinearNode, ...]
    attentions: tuple[AttentionNode, ...]
    weights: Mapping[str, Tensor] = field(repr=False)
    """The initializers of codes by name, as they are stored; INT4 one to a byte."""
    operators: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many nodes there are of each ONNX operator."""
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, "tuple[str, ...]"], repr=False)
    """The names in the file of what each call of the program gives, by the name of its node; no constants."""

    @property
    def dynamic_batch(self) -> bool:
        """Whether the first input's batch size is left open."""
        return any(not isinstance(size, int) for kind in self.inputs.values() for size in kind.shape)
