"""Compile DeiT-Tiny to INT8 with 32 calibration images, beside ONNX Runtime's static quantizer on the same model.

One JSON object on standard output: seconds and peak memory of both flows, what the sm_80 engine holds, the start-up time of
the command line, and the pass manager's own share of a pipeline's time. Noise stands in for images: this measures time, not
accuracy.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODEL, IMAGES = "deit_tiny_patch16_224", 32


def measured(flow: str, folder: Path) -> dict[str, Any]:
    """Run one flow in a process of its own, so that its peak memory is its own."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, flow, folder], check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"process_seconds": round(time.perf_counter() - start, 2), **result}


def peak_mb() -> int:
    """Peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def ours(folder: Path) -> dict[str, Any]:
    """vitgraph: model to INT8 engine for a100."""
    from vitgraph import compile_model

    report = compile_model(
        MODEL, target="a100", recipe="int8", weights="random", calibration_data="random",
        calibration_images=IMAGES, out=folder / "ours",
    )  # fmt: skip
    assert report.engine is not None
    engine = {key: report.engine[key] for key in ("layers", "linears", "attention")}
    return {"seconds": report.seconds, "peak_rss_mb": peak_mb(), "engine": engine}


def theirs(folder: Path) -> dict[str, Any]:
    """ONNX Runtime: `quantize_static`, MatMul only, signed activations and weights, from the FP32 file; then our builder."""
    import numpy as np
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    from vitgraph import capture_model, get_target, load_model, read_pipeline
    from vitgraph.backends.onnx.lowering import lower
    from vitgraph.backends.tensorrt.backend import build_engine

    program = read_pipeline("canonicalize,fold-constants,fuse-attention").run(
        capture_model(load_model(MODEL, weights="random"))
    )
    lower(program, folder / "fp32.onnx")

    class Noise(CalibrationDataReader):
        def __init__(self) -> None:
            generator = np.random.default_rng(0)
            self.batches: Iterator[dict[str, Any]] = iter(
                [{"x": generator.standard_normal((1, 3, 224, 224), np.float32)} for _ in range(IMAGES)]
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    start = time.perf_counter()
    quantize_static(
        folder / "fp32.onnx", folder / "theirs.onnx", Noise(), quant_format=QuantFormat.QDQ, per_channel=True,
        op_types_to_quantize=["MatMul"], activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True},
    )  # fmt: skip
    seconds, peak = time.perf_counter() - start, peak_mb()
    built = build_engine(folder / "theirs.onnx", get_target("a100"))
    return {
        "seconds": {"quantization": round(seconds, 2), "build": round(built.build_seconds, 2)},
        "peak_rss_mb": peak,
        "engine": {"layers": len(built.layers), "gemm": built.gemms(), "fused_attention": built.fused_attentions()},
    }


def overhead() -> dict[str, dict[str, float]]:
    """The pass manager's share of a recipe's pipeline, instruments off: all that is not a pass and the clean-up after it."""
    from vitgraph import Context, capture_model, get_target, load_model, open_images
    from vitgraph.compile.recipe import load_recipe
    from vitgraph.passes import find_pass

    model, found = load_model(MODEL, weights="random"), dict[str, dict[str, float]]()
    program = capture_model(model)
    for recipe in ("fp16", "int8"):
        images = open_images("random", model.preprocessing, limit=IMAGES)
        context = Context(target=get_target("a100"), calibration=images)
        start = time.perf_counter()
        done = load_recipe(recipe, find_pass).pipeline.run(program, context)
        total = time.perf_counter() - start
        outside = total - sum(entry["seconds"] for entry in done.ledger)
        found[recipe] = {"pipeline_seconds": round(total, 3), "outside_passes_percent": round(100 * outside / total, 2)}
    return found


def startup() -> dict[str, float]:
    """Medians of five: seconds of `vitgraph --help` and of `import vitgraph`."""

    def median(command: list[str]) -> float:
        times = list[float]()
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times.append(time.perf_counter() - start)
        return round(sorted(times)[2], 3)

    return {
        "help_seconds": median([sys.executable, "-m", "vitgraph.tools.cli", "--help"]),
        "import_seconds": median([sys.executable, "-c", "import vitgraph"]),
    }


def main() -> None:
    """Everything, one after the other."""
    with tempfile.TemporaryDirectory() as name:
        answer = {
            "model": MODEL,
            "images": IMAGES,
            "vitgraph": measured("ours", Path(name)),
            "onnxruntime": measured("theirs", Path(name)),
            "pass_manager": overhead(),
            "startup": startup(),
        }
    print(json.dumps(answer, indent=2))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps({"ours": ours, "theirs": theirs}[sys.argv[1]](Path(sys.argv[2]))))
    else:
        main()
