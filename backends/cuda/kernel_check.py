"""What each kernel takes, as a step of a plan from a file has to give it: names, types and sizes of all arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vitgraph.backends.cuda.operands import FP16, FP32, INT8, MOST_DEPTH, MOST_KEYS, MOST_WIDTH
from vitgraph.backends.cuda.plan import PADDING, Buffer, Plan, Step
from vitgraph.backends.cuda.step_arguments import StepArguments
from vitgraph.ir.tensor_type import Dim, Size


def check_kernel(plan: Plan, step: Step) -> None:
    """`ValueError` says what the kernel of a step would not take."""
    _CHECKS[step.kernel](StepArguments(plan, step))


def _linear(given: StepArguments) -> None:
    x = given.matrix("x", INT8)
    columns = given.plan.buffers[given.step.outputs[0]].type.shape[-1:]
    given.weight("w", INT8, *columns, x.type.shape[-1])
    given.weight("scale", FP32, *columns)
    given.epilogue(*columns)
    scale = given.scale("out_scale", optional=True)
    given.output(0, FP16 if scale is None else INT8, _rows(x), *columns)
    given.end()


def _sparse_linear(given: StepArguments) -> None:
    x = given.matrix("x", INT8)
    columns = given.plan.buffers[given.step.outputs[0]].type.shape[-1:]
    given.weight("w", INT8, *columns, x.type.shape[-1])
    given.weight("scale", FP32, *columns)
    out = given.output(0, FP16, _rows(x), *columns)
    sizes = (x.type.shape[-1], *columns)
    if not (x.padded and out.padded) or any(isinstance(size, Dim) or size % PADDING for size in sizes):
        raise ValueError(f"rows of {x.name} and {out.name} are not padded, or {list(sizes)} no multiples of {PADDING}")
    given.end()


def _normalize(given: StepArguments) -> None:
    x = given.matrix("x", FP16)
    width = x.type.shape[-1]
    residual = given.matrix("residual", FP16) if given.left.get("residual") is not None else None
    if residual is not None and residual.type.shape != x.type.shape:
        raise ValueError(f"residual is {residual.type}, and x {x.type}")
    for name in ("weight", "bias"):
        given.weight(name, FP32, width)
    if isinstance(width, Dim) or not 0 < width <= MOST_WIDTH or not given.number("eps") >= 2.0**-100:
        raise ValueError(f"rows of {width} are not 1 to {MOST_WIDTH} wide, or eps is too small")
    scale = given.scale("scale", optional=True)
    given.output(0, FP16 if scale is None else INT8, _rows(x), width)
    if residual is not None:
        given.output(1, FP16, _rows(x), width)
    given.end(1 if residual is None else 2)


def _activate(given: StepArguments) -> None:
    x = given.matrix("x", FP16)
    given.epilogue(x.type.shape[-1])
    scale = given.scale("scale", optional=True)
    given.output(0, FP16 if scale is None else INT8, _rows(x), x.type.shape[-1])
    given.end()


def _attention(given: StepArguments) -> None:
    kinds = [given.matrix(name, INT8).type for name in ("q", "k", "v")]
    q, k, v = (kind.shape for kind in kinds)
    if len(q) != 4 or k != v or q[:2] != k[:2] or q[3] != k[3]:
        raise ValueError(f"q, k and v are {', '.join(map(str, kinds))}, not [B, H, T, D] of the same heads")
    _, heads, tokens, depth = q
    if any(isinstance(size, Dim) for size in (heads, tokens, depth, k[2])):
        raise ValueError("its heads, tokens or depth depend on the batch")
    if not 0 < int(str(k[2])) <= MOST_KEYS or not 0 < int(str(depth)) <= MOST_DEPTH:
        raise ValueError(f"{k[2]} keys of depth {depth}; the kernel takes {MOST_KEYS} of depth {MOST_DEPTH}")
    given.number("score_factor")
    for name in ("probability_scale", "value_scale"):
        given.scale(name)
    scale = given.scale("out_scale", optional=True)
    columns = int(str(heads)) * int(str(depth))
    out = given.output(
        0, FP16 if scale is None else INT8, lambda batch: _images(q[0], batch) * int(str(tokens)), columns
    )
    if out.type.shape[:-1] != (q[0], tokens):
        raise ValueError(f"{out.name} is {out.type}, not [B, T, H * D]")
    given.end()


def _rows(buffer: Buffer) -> Callable[[int], int]:
    return lambda batch: buffer.matrix(batch)[0]


def _images(size: Size, batch: int) -> int:
    return size.at(batch) if isinstance(size, Dim) else size


_CHECKS: Mapping[str, Callable[[StepArguments], None]] = {
    "linear": _linear,
    "sparse linear": _sparse_linear,
    "normalize": _normalize,
    "activate": _activate,
    "attention": _attention,
}
