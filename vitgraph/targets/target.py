"""What a device can do, as data: one YAML file per target under `vitgraph/targets`.

Passes and backends ask a target for an ability (`target.supports_nm(2, 4)`, `target.attention("int8")`), never for its
name. A figure that is not known is null in the file and its `unknown` table says why.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from vitgraph.errors import InputError
from vitgraph.ir.packing import GATHERED, Packing

Flavour = Literal["tensorrt_rtx", "tensorrt"]
Role = Literal["deployable", "structural proxy"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rate(_Frozen):
    """Peak arithmetic rate of one type in tera-operations per second; null where the hardware has none or none is published."""

    dense: float | None
    sparse: float | None


class AttentionKernel(_Frozen):
    """The problems for which the builder has one fused attention kernel (sizes per head; tokens of one sequence)."""

    head_dims: tuple[int, ...] | None = None
    min_head_dim: int | None = None
    max_head_dim: int | None = None
    min_tokens: int = 1
    max_tokens: int | None = None
    source: str

    def refusal(self, head_dim: int, tokens: int, value_dim: int | None = None) -> str | None:
        """Why this kernel does not take the problem, or None where it does."""
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
        return None

    def accepts(self, head_dim: int, tokens: int, value_dim: int | None = None) -> bool:
        """Whether this kernel takes the problem."""
        return self.refusal(head_dim, tokens, value_dim) is None


class SparseRule(_Frozen):
    """What the device's N:M sparse kernels ask of a weight and of the graph around it."""

    patterns: tuple[tuple[int, int], ...]
    k_multiple: int
    preferred_k_multiple: int | None = None
    pays_above_channels: int | None = None
    int8_needs_int8_output: bool
    source: str


class MatmulRule(_Frozen):
    """The types in which the builder compiles a matrix product (INT8 with FP32 dequantization needs fp32 among them)."""

    types: tuple[str, ...]
    source: str


class ProductRule(_Frozen):
    """The quantized products the builder compiles, each as `weights x activations`; `float`: weights alone are quantized.

    `grouped` are those that take a scale for each group of weights along K, `convolutions` those that a convolution takes.
    `lacks` says why another is missing: under its own name, under that of a format, or under `grouped` or `convolutions`.
    """

    types: tuple[str, ...]
    grouped: tuple[str, ...]
    convolutions: tuple[str, ...]
    lacks: dict[str, str]
    source: str

    def refusal(self, weights: str, activations: str, kind: Literal["types", "grouped", "convolutions"]) -> str | None:
        """Why the product is not among the `types` (`grouped`, `convolutions`), or None where it is."""
        product = f"{weights} x {activations}"
        if product in getattr(self, kind):
            return None
        for name in (product, kind, weights, activations):
            if name in self.lacks:
                return self.lacks[name]
        return f"not among its {kind}: {', '.join(getattr(self, kind)) or 'none'}"


class Chip(_Frozen):
    """What `vitgraph.cost.roofline` wants to know beside rates, bandwidth and power; null where nothing published was found."""

    multiprocessors: int
    l2_gb_s: float | None
    """Read bandwidth of the second-level cache."""
    memory_pj_per_bit: float | None
    """Energy of moving one bit to or from memory."""
    source: str


class Builder(_Frozen):
    """How one TensorRT flavour serves this target: where it builds, which versions, and what its engine is good for."""

    versions: str
    builds_without_gpu: bool
    role: Role
    why: str


class Target(_Frozen):
    """One device. Rates in tera-operations per second, bandwidth in GB/s, power in W."""

    name: str
    title: str
    device: str
    compute_capability: str | None
    rates: dict[str, Rate]
    matmul: MatmulRule
    quantized: ProductRule
    bandwidth_gb_s: float | None
    power_w: float | None
    chip: Chip | None = None
    sparse: SparseRule | None
    attention_kernels: dict[str, AttentionKernel]
    builders: dict[Flavour, Builder]
    no_builder_here: str | None = None
    unknown: dict[str, str] = {}
    sources: dict[str, str]

    def supports_nm(self, n: int, m: int, group_size: int = 1, v: int = 1) -> bool:
        """Whether the device multiplies weights of which n in each m along K are kept, `group_size` neighbours as one.

        Pairs are how sparse INT4 products read them, so those ask for such a rate. Where `v` rows share their columns, the
        device multiplies n of the four columns that are gathered.
        """
        pairs = group_size == 2 and "int4" in self.rates and self.rates["int4"].sparse is not None
        pattern = (n, m if v == 1 else GATHERED)
        return self.sparse is not None and pattern in self.sparse.patterns and (group_size == 1 or pairs)

    def nm_refusal(self, pattern: Packing, k: int) -> str | None:
        """Why weights with K inputs can't be multiplied in this pattern, or None where they can."""
        if self.sparse is None or not self.supports_nm(pattern.n, pattern.m, pattern.group_size, pattern.v):
            return f"{self.name} runs no {pattern} pattern"
        read = k if pattern.v == 1 else k * GATHERED // pattern.m
        multiple = self.sparse.k_multiple * pattern.group_size
        return (
            f"{self.name} takes a K that is a multiple of {multiple}, and {pattern} leaves {read}"
            if read % multiple
            else None
        )

    def supports_type(self, kind: str) -> bool:
        """Whether matrix products in `kind` (fp32, tf32, fp16, bf16, int8, fp8, fp4, int4) have hardware here."""
        return kind in self.rates

    def supports_matmul(self, kind: str) -> bool:
        """Whether the builder compiles a matrix product whose operands are `kind`.

        Turing refuses fp32, so there a quantized linear must be dequantized in fp16.
        """
        return kind in self.matmul.types

    def product_refusal(self, weights: str, activations: str, grouped: bool = False) -> str | None:
        """Why a linear can't be built of weights and activations in these number formats, or None where it can."""
        kind: Literal["types", "grouped"] = "grouped" if grouped else "types"
        why = self.quantized.refusal(weights, activations, "types") or self.quantized.refusal(
            weights, activations, kind
        )
        if why is None:
            return None
        what = f"{weights} weights{' in groups' if grouped else ''} with {activations} activations"
        own = ", ".join(getattr(self.quantized, kind))
        having = ", ".join(t.name for t in all_targets() if t.quantized.refusal(weights, activations, kind) is None)
        return f"{self.name} has no product of {what}: {why}; take one it has ({own or 'none'}), or a target that has it ({having})"

    def convolution_refusal(self, weights: str, activations: str) -> str | None:
        """Why a convolution can't be built of these number formats, or None where it can."""
        why = self.quantized.refusal(weights, activations, "convolutions")
        return (
            None
            if why is None
            else f"{self.name} has no convolution of {weights} weights with {activations} activations: {why}"
        )

    def attention(self, kind: str) -> AttentionKernel | None:
        """The fused attention kernel computing in `kind` (fp16, bf16, int8, fp8), or None where there is none."""
        return self.attention_kernels.get(kind)

    def attention_refusal(self, kind: str, head_dim: int, tokens: int, value_dim: int | None = None) -> str | None:
        """Why attention in `kind` cannot be one fused kernel here, or None where it can."""
        kernel = self.attention(kind)
        if kernel is None:
            return f"{self.name} has no fused {kind} attention"
        return kernel.refusal(head_dim, tokens, value_dim)

    @property
    def int8_attention(self) -> AttentionKernel | None:
        """Shorthand for `attention("int8")`."""
        return self.attention("int8")

    @property
    def builds_engines_here(self) -> bool:
        """Whether some flavour builds this target's engine on a machine without a GPU."""
        return any(builder.builds_without_gpu for builder in self.builders.values())

    @property
    def sm(self) -> str | None:
        """The compute capability in the builder's spelling, e.g. `SM80`."""
        return None if self.compute_capability is None else "SM" + self.compute_capability.replace(".", "")


def target_names() -> tuple[str, ...]:
    """The names of the packaged targets, sorted."""
    folder = resources.files("vitgraph.targets").joinpath("devices")
    return tuple(sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")))


def parse_target(text: str, origin: str) -> Target:
    """Read a target from YAML text; `origin` names it in the InputError a bad one raises."""
    try:
        return Target.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise InputError(f"{origin} is not YAML: {error}") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise InputError(f"{origin} does not describe a target: {faults}") from error


@cache
def get_target(name: str) -> Target:
    """The packaged target called `name`; InputError with near misses where there is none."""
    names = target_names()
    if name not in names:
        near = get_close_matches(name.lower().replace("_", "-"), names, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known targets: {', '.join(names)}"
        raise InputError(f"unknown target {name!r}; {hint} (`vitgraph targets` lists them all)")
    text = resources.files("vitgraph.targets").joinpath("devices", f"{name}.yaml").read_text(encoding="utf-8")
    return parse_target(text, f"target {name!r}")


def all_targets() -> tuple[Target, ...]:
    """Every packaged target, by name."""
    return tuple(get_target(name) for name in target_names())
