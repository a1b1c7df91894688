"""`vitgraph demo`: the embedded digits-vit, in FP32 and as sparse INT8, with what each costs and what each gets right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraph.errors import CheckFailed
from vitgraph.outputs.destination import check_folder
from vitgraph.outputs.scratch import ScratchFolder
from vitgraph.tools.command import Answer, command
from vitgraph.tools.drawing import group, table
from vitgraph.tools.progress import show_progress

if TYPE_CHECKING:
    from vitgraph.compile.report import Report
    from vitgraph.progress import Progress

TARGET = "a100"
BATCH = "1:8:64"  # open, so that 500 images take not as many runs
FP32 = "canonicalize,fold-constants,fold-batch-norm,fuse-layer-norm,fuse-attention,fold-constants,softmax-check,materialize,legalize"
NOTE = (
    "Top-1 and agreement: measured on model.onnx in ONNX Runtime, on digits held out of training. The rest: read from the "
    "engine that TensorRT-RTX built here. No latency: there is no such GPU here."
)


def declare(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "demo")(demo)


def demo(
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="DIR", help="Keep both compilations in this folder.", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> Answer:
    """Compile the embedded digits-vit to FP32 and to sparse INT8, and compare the two."""
    if output is not None:
        for name in ("fp32", "sparse-int8"):
            check_folder(output / name, force)
    with ScratchFolder() as folder, show_progress() as progress:
        base = output or folder
        reports = {
            "FP32": _compile("fp16", FP32, base / "fp32", force, progress),
            "sparse-int8": _compile("sparse-int8", None, base / "sparse-int8", force, progress),
        }
    found = {name: json.loads(report.to_json()) for name, report in reports.items()}
    columns = ["digits-vit", *reports]
    rows = [[label, *(cell(report, *path) for report in found.values())] for label, *path in ROWS]
    kept = f"Both are in {output}." if output else "Keep both with `vitgraph demo -o DIR`."
    broken = reports[
        "sparse-int8"
    ].violations  # no kernel fuses attention in FP32: its violations are what the other cures
    violation = f"the sparse-int8 engine does not keep its contract at {len(broken)} site(s)" if broken else ""
    return Answer(found, group(table(columns, rows), NOTE, kept), 1 if broken else 0, violation)


ROWS = (
    ("top-1 on held-out digits, %", "accuracy", "top1"),
    ("agreement with the model in torch, %", "accuracy", "agreement"),
    ("held-out digits", "accuracy", "images"),
    ("engine layers", "engine", "layers"),
    ("INT8 GEMMs", "engine", "gemm", "int8"),
    ("fused attention", "engine", "attention", "fused"),
    ("  of it in INT8", "engine", "attention", "fused_int8"),
    ("linears with a 2:4 mask", "engine", "sparse", "masked"),
    ("plan bytes", "engine", "bytes"),
    ("weight bytes in model.onnx", "cost", "weight_bytes", "unpacked"),
)
"""What the table shows: a label, and the path of keys in the report."""


def cell(report: dict[str, Any], *path: str) -> str:
    """A value of the report; where it is null, the reason in its place."""
    value: Any = report
    for key in path:
        if value is None or value.get(key) is None:
            return str(report.get(f"{path[0]}_why") or "unknown")
        value = value[key]
    return f"{value:.2f}" if isinstance(value, float) else f"{value:,}"


def _compile(recipe: str, pipeline: str | None, out: Path, force: bool, progress: Progress) -> Report:
    from vitgraph.compile.compiler import compile_model
    from vitgraph.compile.report import read_report

    try:
        return compile_model(
            "digits-vit",
            target=TARGET,
            recipe=recipe,
            pipeline=pipeline,
            calibration_data="digits:train",
            evaluate_data="digits:test",
            batch=BATCH,
            out=out,
            force=force,
            progress=progress,
        )
    except CheckFailed:  # the report is complete, and the table shows what is amiss
        return read_report(out)
