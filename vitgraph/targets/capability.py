"""What the kernels of one compute capability can do: the part of a target that devices of one generation share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from vitgraph.domains import Count, Natural

Flavour = Literal["tensorrt_rtx", "tensorrt"]
Role = Literal["deployable", "structural proxy"]
Kind = Literal["types", "grouped", "convolutions"]


class FrozenModel(BaseModel):
    """A fact read from a file: never changed afterwards, and without keys that mean nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AttentionKernel(FrozenModel):
    """The problems for which the builder has one fused attention kernel (sizes per head; tokens of one sequence).

    `tokens` are queries or keys, whichever are more; `matrices` those of queries, of all heads, windows and images together.
    """

    head_dims: tuple[Count, ...] | None = None
    min_head_dim: Count | None = None
    max_head_dim: Count | None = None
    min_tokens: Count = 1
    max_tokens: Natural | None = None
    min_queries: Count = 1
    min_heads: Count = 1
    min_matrices: Count = 1
    source: str

    def refusal(
        self,
        head_dim: int,
        tokens: int,
        value_dim: int | None = None,
        *,
        queries: int | None = None,
        heads: int | None = None,
        matrices: int | None = None,
    ) -> str | None:
        """Why this kernel does not take the problem, or None where it does; a number not given is not asked about."""
        if value_dim is not None and value_dim != head_dim:
            return f"value dim {value_dim} differs from head dim {head_dim}"
        if self.head_dims is not None and head_dim not in self.head_dims:
            return f"head dim {head_dim} is not one of {', '.join(map(str, self.head_dims))}"
        if self.min_head_dim is not None and head_dim < self.min_head_dim:
            return f"head dim {head_dim} is under {self.min_head_dim}"
        if self.max_head_dim is not None and head_dim > self.max_head_dim:
            return f"head dim {head_dim} is over {self.max_head_dim}"
        if tokens < self.min_tokens:
            return f"{tokens} token(s), fewer than {self.min_tokens}"
        if self.max_tokens is not None and tokens > self.max_tokens:
            return f"{tokens} tokens, more than {self.max_tokens}"
        counts = (
            ("query", "queries", queries, self.min_queries),
            ("head", "heads", heads, self.min_heads),
            ("head of one image", "heads", matrices, self.min_matrices),
        )
        for one, more, count, least in counts:
            if count is not None and count < least:
                return f"{count} {one if count == 1 else more}, fewer than {least}"
        return None

    def accepts(self, head_dim: int, tokens: int, value_dim: int | None = None) -> bool:
        """Whether this kernel takes the problem."""
        return self.refusal(head_dim, tokens, value_dim) is None


class SparseRule(FrozenModel):
    """What the N:M sparse kernels ask of a weight and of the graph around it."""

    patterns: tuple[tuple[Count, Count], ...]
    k_multiple: Count
    preferred_k_multiple: Count | None = None
    pays_above_channels: Count | None = None
    int8_needs_int8_output: bool
    source: str


class MatmulRule(FrozenModel):
    """The types in which the builder compiles a matrix product (INT8 with FP32 dequantization needs fp32 among them)."""

    types: tuple[str, ...]
    source: str


class ProductRule(FrozenModel):
    """The quantized products the builder compiles, each as `weights x activations`; `float`: weights alone are quantized.

    `grouped` are those that take a scale for each group of weights along K, `convolutions` those that a convolution takes.
    `lacks` says why another is missing: under its own name, under that of a format, or under `grouped` or `convolutions`.
    """

    types: tuple[str, ...]
    grouped: tuple[str, ...]
    convolutions: tuple[str, ...]
    lacks: dict[str, str]
    source: str

    def refusal(self, weights: str, activations: str, kind: Kind) -> str | None:
        """Why the product is not among the `types` (`grouped`, `convolutions`), or None where it is."""
        product = f"{weights} x {activations}"
        if product in getattr(self, kind):
            return None
        for name in (product, kind, weights, activations):
            if name in self.lacks:
                return self.lacks[name]
        return f"not among its {kind}: {', '.join(getattr(self, kind)) or 'none'}"


class BuilderSupport(FrozenModel):
    """How one TensorRT flavour serves a capability: where it builds, which versions, and what its engine is good for."""

    versions: str
    builds_without_gpu: bool
    role: Role
    why: str


class Capability(FrozenModel):
    """What one compute capability's kernels and builders can do, whichever device has it.

    `compute_capability` is null for what is no CUDA device. `no_builder_here` says why no engine can be built on a machine
    without the device; it is worked out for a capability that full TensorRT alone builds for.
    """

    compute_capability: Annotated[str, Field(pattern=r"^\d{1,2}\.\d$")] | None
    matmul: MatmulRule
    quantized: ProductRule
    sparse: SparseRule | None = None
    attention_kernels: dict[str, AttentionKernel]
    builders: dict[Flavour, BuilderSupport]
    no_builder_here: str | None = None

    def supports_matmul(self, kind: str) -> bool:
        """Whether the builder compiles a matrix product whose operands are `kind`.

        Turing refuses fp32, so there a quantized linear must be dequantized in fp16.
        """
        return kind in self.matmul.types

    def attention(self, kind: str) -> AttentionKernel | None:
        """The fused attention kernel computing in `kind` (fp16, bf16, int8, fp8), or None where there is none."""
        return self.attention_kernels.get(kind)

    @property
    def int8_attention(self) -> AttentionKernel | None:
        """Shorthand for `attention("int8")`."""
        return self.attention("int8")

    @property
    def builds_engines_here(self) -> bool:
        """Whether some flavour builds an engine for it on a machine without a GPU."""
        return any(builder.builds_without_gpu for builder in self.builders.values())

    @property
    def sm(self) -> str | None:
        """The compute capability in the builder's spelling, e.g. `SM80`."""
        return None if self.compute_capability is None else "SM" + self.compute_capability.replace(".", "")
