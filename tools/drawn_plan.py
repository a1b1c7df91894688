"""A plan of the backend `cuda`, as `vitgraph compile` and `vitgraph inspect` draw what a report says of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from vitgraph.tools.drawing import Table

COLUMNS = ["site", "format", "kernel", "epilogue", "estimated us", "measured us", "why"]


def is_cuda(engine: dict[str, Any] | None) -> bool:
    """Whether what a report says of an engine is said of a plan."""
    return engine is not None and engine.get("flavour") == "cuda"


def plan_facts(plan: dict[str, Any]) -> list[tuple[str, str]]:
    """The lines about it in a compilation's summary."""
    made_for = f"{plan['target']} (compute capability {plan['compute_capability']})"
    kernels = ", ".join(f"{count} {name}" for name, count in plan["kernels"].items() if "." not in name)
    others = sum(count for name, count in plan["kernels"].items() if "." in name)
    became = Counter((site["kind"], site["format"], site["kernel"]) for site in plan["sites"])
    return [
        ("plan", f"{plan['bytes']:,} bytes, {plan['steps']} steps, for {made_for}"),
        ("steps", f"{kernels}; {others} operators of torch"),
        *((f"{kind}s", f"{count} {form} by {_by(kernel)}") for (kind, form, kernel), count in became.items()),
        ("measured", _measured(plan)),
    ]


def _measured(plan: dict[str, Any]) -> str:
    """How many sites have a time, and on which card."""
    timed = sum(site["measured_us"] is not None for site in plan["sites"])
    return (
        f"{timed} of {len(plan['sites'])} sites, on {plan.get('measured_on', 'a GPU')}"
        if timed
        else "no: nothing ran on a GPU"
    )


def draw_sites(plan: dict[str, Any]) -> Table:
    """A row for each site: what it became, what its kernel does besides, and how long it takes."""
    title = f"Sites, times of a batch of {_best(plan['batch'])} on {plan['target']}:"
    return Table(COLUMNS, [_row(site) for site in plan["sites"]], title)


def _row(site: dict[str, Any]) -> list[str]:
    epilogue = ", ".join(site["epilogue"]) or "–"
    times = [_time(site["estimated_us"]), _time(site["measured_us"])]
    whys = [site["why"], None if site["estimated_us"] is not None else site["estimated_why"]]
    return [site["path"], site["format"], _by(site["kernel"]), epilogue, *times, "; ".join(filter(None, whys))]


def _by(kernel: str) -> str:
    """Whose kernel it is."""
    return {"torch": "torch", "sparse linear": "cuSPARSELt, Triton"}.get(kernel, f"Triton {kernel}")


def _time(us: float | None) -> str:
    return "–" if us is None else f"{us:.4g}"


def _best(batch: str) -> str:
    """The size that is optimized for."""
    return batch.split(":")[1] if ":" in batch else batch
