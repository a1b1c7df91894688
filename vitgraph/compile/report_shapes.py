"""What of a report's nested parts is read again: a report may have been edited, or written by another version.

The parts stay the plain mappings that JSON has; these shapes are held against them when a report is made or read. Keys that
no shape names are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from vitgraph.domains import hold_fields
from vitgraph.errors import InputError
from vitgraph.ir.batch import parse_batch
from vitgraph.pass_manager.findings import Finding, findings_of


class _Shape(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class Refused(_Shape):
    """A site that a pass left alone."""

    site: str
    why: str


class PassShape(_Shape):
    """An entry of the ledger."""

    name: str
    refused: list[Refused] = []
    found: list[dict[str, Any]] = []


class ViolationShape(_Shape):
    """Where the engine contract does not hold."""

    site: str
    planned: str
    found: str
    why: str


class WeightBytes(_Shape):
    """Bytes of all weights."""

    stored: int
    unpacked: int
    dense_fp32: int
    ratio: float | None


class CostShape(_Shape):
    """Counts of one image, and estimates by target."""

    parameters: int
    nonzero_parameters: int | None
    macs: int
    nonzero_macs: int | None
    bit_operations: float
    weight_bytes: WeightBytes
    estimated_ms: dict[str, float | None] = {}
    estimated_mj: dict[str, float | None] = {}
    estimated_bound: dict[str, str | None] = {}
    estimated_why: dict[str, str] = {}
    estimated_ms_if: dict[str, dict[str, float | None]] = {}
    estimated_by: str = ""

    @model_validator(mode="after")
    def _of_the_same_targets(self) -> Self:
        forms = [set(each) for each in self.estimated_ms_if.values()]
        for named in (set(self.estimated_mj), set(self.estimated_bound), *forms):
            if set(self.estimated_ms) - named:
                raise ValueError("estimated_mj, estimated_bound and estimated_ms_if name each target of estimated_ms")
        return self


class LinearsShape(_Shape):
    """Linears by the format that they run in."""

    int8: int
    planned_int8: int
    fallback: list[str]


class AttentionShape(_Shape):
    """Attentions, and how many became one kernel."""

    fused: int
    sites: int


class SparseShape(_Shape):
    """Masked weights in the file."""

    masked: int
    held: int = 0
    patterns: dict[str, int] = {}


class EngineShape(_Shape):
    """An engine of TensorRT's."""

    bytes: int
    layers: int
    flavour: str
    version: str
    role: str
    role_why: str
    compute_capabilities: list[Any]
    linears: LinearsShape
    attention: AttentionShape
    gemm: dict[str, int]
    sparse: SparseShape | None = None


class PlanSiteShape(_Shape):
    """A site of a plan for CUDA; times in microseconds."""

    path: str
    kind: str
    format: str
    kernel: str
    epilogue: list[str]
    why: str | None
    estimated_us: float | None
    estimated_why: str | None
    measured_us: float | None
    measured_why: str | None


class PlanShape(_Shape):
    """A plan of the backend `cuda`."""

    target: str
    compute_capability: str
    batch: str
    bytes: int
    steps: int
    kernels: dict[str, int]
    sites: list[PlanSiteShape]


class MaskProfitShape(_Shape):
    """Which masks were kept."""

    kept: int
    dropped: int
    top1_all_masks: float | None
    top1_regained: float | None
    top1_why: str | None


class TimedShape(_Shape):
    """A backend at one batch size, on a GPU; milliseconds."""

    backend: str
    batch: int
    median_ms: float
    device_median_ms: float
    device_p10_ms: float
    device_p90_ms: float
    device_images_per_second: float


class CardShape(_Shape):
    """The GPU."""

    name: str
    driver: str


class LatencyShape(_Shape):
    """What `vitgraph bench --record` left."""

    measured_on: str
    card: CardShape
    rounds: int
    results: list[TimedShape]


class Int8VerdictShape(_Shape):
    """Whether one site's INT8 buys time; microseconds."""

    site: str
    format: str
    us_int8: float
    us_fp16: float
    source: str
    pays: bool
    why: str


class Int8ProfitShape(_Shape):
    """Which INT8 sites were kept."""

    kept: int
    fallen_back: int
    us_gained: float
    top1_all_int8: float | None
    top1_regained: float | None
    top1_why: str | None
    sites: list[Int8VerdictShape]


TENSORRT_KEYS = frozenset({"linears", "attention", "gemm"})
"""What an engine of TensorRT's has in a report; one of another package's builder has what it likes."""


def like(shape: Any) -> Callable[[Any], Any]:
    """A validator: the value as it stands, where it has this shape or is null or empty."""
    adapter = TypeAdapter[Any](shape)

    def held(value: Any) -> Any:
        if value:
            _hold(adapter, value)
        return value

    return held


def like_engine(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """The same for an engine, where TensorRT built it, and for a plan of the backend `cuda`."""
    if value is not None and value.get("flavour") == "cuda":
        _hold(_PLAN, value)
    elif value is not None and value.keys() >= TENSORRT_KEYS:
        _hold(_ENGINE, value)
    return value


def like_passes(value: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same for the ledger, with the fields of all findings in it."""
    _hold(_LEDGER, value)
    for finding in (each for kind in Finding.__subclasses__() for each in findings_of(value, kind)):
        try:
            hold_fields(finding)
        except InputError as error:
            raise ValueError(f"{type(finding).__name__}: {error}") from error
    return value


def like_batch(value: str) -> str:
    """The same for batch sizes as text."""
    try:
        parse_batch(value)
    except InputError as error:
        raise ValueError(str(error).removeprefix("--batch ")) from error
    return value


_ENGINE, _PLAN, _LEDGER = (TypeAdapter[Any](shape) for shape in (EngineShape, PlanShape, list[PassShape]))


def _hold(adapter: TypeAdapter[Any], value: Any) -> None:
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        raise ValueError(fault_in(error)) from error


def fault_in(error: ValidationError) -> str:
    """The first fault, after the place that it is at."""
    fault = error.errors()[0]
    where = ".".join(map(str, fault["loc"]))
    return f"{where}: {fault['msg'].removeprefix('Value error, ')}" if where else fault["msg"]
