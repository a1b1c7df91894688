"""The kernels of a plain encoder from its sizes alone, as each piece of software that published times makes them.

Four linears and an attention in each layer; what lies between is a kernel of its own or not, depending on who built it:

    tensorrt           two norms, each with its residual addition; all else is fused
    fastertransformer  also the bias of q, k, v with their transposition, and the bias with GELU
    compiled           norms, additions and GELU as torch.compile leaves them
    eager              every norm, addition, GELU and transposition

Patch embedding and head are left out: 0.5 to 3 % of a ViT's arithmetic. A program's own kernels: `vitgraph.cost.fusion`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitgraph.cost.kernel import Kernel, linear
from vitgraph.cost.workload import BITS, DENSE, Attention, Zeros

SYSTEMS: Mapping[str, Sequence[int]] = {
    "tensorrt": (3, 3),
    "fastertransformer": (4, 4, 6, 8),
    "compiled": (4, 4, 8),
    "eager": (2, 2, 3, 3, 8, 6, 2),
}
"""Of each kernel between the products, how often it reads or writes a number for each token and hidden unit."""


@dataclass(frozen=True)
class Encoder:
    """The sizes of one image or sequence; in Swin's way it has `windows` of `tokens` each."""

    layers: int
    hidden: int
    heads: int
    tokens: int
    windows: int = 1

    def kernels(
        self, system: str, kind: str, zeros: Zeros = DENSE, mlp_zeros: Zeros | None = None
    ) -> tuple[Kernel, ...]:
        """All in one type; `zeros` in every linear, or others in the MLP's."""
        mlp = zeros if mlp_zeros is None else mlp_zeros
        return tuple(kernel for _ in range(self.layers) for kernel in self._layer(system, kind, zeros, mlp))

    def _layer(self, system: str, kind: str, zeros: Zeros, mlp: Zeros) -> tuple[Kernel, ...]:
        rows, hidden, size = self.windows * self.tokens, self.hidden, BITS[kind] / 8
        head = hidden // self.heads
        attention = Attention(self.windows * self.heads, self.tokens, self.tokens, head, head)
        return (
            linear("qkv", rows, 3 * hidden, hidden, kind, zeros),
            Kernel("attention", "attention", kind, attention, 4 * rows * hidden * size),
            linear("proj", rows, hidden, hidden, kind, zeros),
            linear("fc1", rows, 4 * hidden, hidden, kind, mlp),
            linear("fc2", rows, hidden, 4 * hidden, kind, mlp),
            *(Kernel(system, "moves", kind, None, times * rows * hidden * size) for times in SYSTEMS[system]),
        )
