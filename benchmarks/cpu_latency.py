"""Latency on this CPU of vitgraph's INT8 program in OpenVINO, beside FP32 and beside NNCF's own INT8 model, all in one run.

    python benchmarks/peers/environments.py nncf              # once: NNCF's own environment
    python benchmarks/cpu_latency.py                          # ViT-Tiny, DeiT-Small, Swin-Tiny, batches 1 and 8
    python benchmarks/cpu_latency.py --models vit_tiny_patch16_224 --batch 8 --rounds 31 --cpu-time --keep out/latency

One JSON object on standard output, the table on standard error. Every runner of a model is alive at once and they take turns; a
ratio is the median, over the rounds, of what a runner took to what FP32 in ONNX Runtime took in the same round. `--cpu-time`
counts the processor time of all threads, which other work on the machine disturbs less. Weights are random where no file is
given, since a latency does not depend on them. `--keep` leaves the models in a folder, and takes them from there the next time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitgraph import InputError, capture_model, get_target, load_model, open_images, read_pipeline
from vitgraph.backends.onnx.lowering import lower
from vitgraph.backends.openvino.backend import OpenVino
from vitgraph.backends.ort.backend import Ort
from vitgraph.compile.recipe import load_recipe
from vitgraph.ir.batch import parse_batch
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import find_pass
from vitgraph.runtime.backend import Backend, Runner
from vitgraph.tools.bench_rounds import run_rounds

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
NNCF = ROOT / ".peers" / "nncf" / "bin" / "python"
"""Made by `peers/environments.py`."""
DATA = Path(os.environ.get("VITGRAPH_DATA", ROOT.parent / "shared" / "data"))
MODELS = ("vit_tiny_patch16_224", "deit_small_patch16_224", "swin_tiny_patch4_window7_224")
WEIGHTS = {"vit_tiny_patch16_224": DATA / "weights" / "vit_tiny_patch16_224_in1k.safetensors"}
FP32 = "canonicalize,fold-constants,fold-batch-norm,fuse-layer-norm,fuse-attention,fold-constants"
TARGET = "a100"
ROWS: tuple[tuple[str, str, Backend], ...] = (
    ("FP32, ONNX Runtime", "fp32.onnx", Ort()),
    ("FP32, OpenVINO (its default: BF16 where there is hardware)", "fp32.onnx", OpenVino(precision="auto")),
    ("FP32, OpenVINO in FP32", "fp32.onnx", OpenVino()),
    ("vitgraph INT8, ONNX Runtime", "int8.onnx", Ort()),
    ("vitgraph INT8, OpenVINO", "int8.onnx", OpenVino()),
    ("NNCF INT8 mixed, OpenVINO", "nncf-mixed.xml", OpenVino(precision="auto")),
    ("NNCF INT8 performance, OpenVINO", "nncf-performance.xml", OpenVino(precision="auto")),
)
"""What is timed of each model: a label, the file, and what runs it. The first is the baseline."""


def write_models(name: str, given: argparse.Namespace, folder: Path) -> None:
    """The FP32 file, vitgraph's INT8 file and NNCF's models, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "int8.onnx").is_file():
        weights = WEIGHTS.get(name)
        loaded = load_model(name, weights=str(weights) if weights and weights.is_file() else "random")
        captured = capture_model(loaded, parse_batch(f"1:{max(given.batch)}:{max(2, *given.batch)}"))
        images = open_images(given.calibration_data, loaded.preprocessing, limit=given.calibration_images)
        np.save(folder / "calibration.npy", torch.cat([pixels for pixels, _ in images.batches(8)]).numpy())
        lower(read_pipeline(FP32).run(captured), folder / "fp32.onnx")
        context = Context(target=get_target(TARGET), calibration=images)
        lower(load_recipe("int8", find_pass).pipeline.run(captured, context), folder / "int8.onnx")
    for preset in ("mixed", "performance"):
        if not (folder / f"nncf-{preset}.xml").is_file():
            run_nncf(folder, preset)


def run_nncf(folder: Path, preset: str) -> None:
    """In an environment of its own; where there is none, its rows say so."""
    if not NNCF.exists():
        return
    job = {
        "fp32": str((folder / "fp32.onnx").resolve()),
        "calibration": str((folder / "calibration.npy").resolve()),
        "setting": preset,
        "out": str((folder / f"nncf-{preset}.xml").resolve()),
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    command = [str(NNCF), str(HERE / "peers" / "nncf_openvino.py"), str((folder / "job.json").resolve())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)


def measure(name: str, given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """A row for each of `ROWS` at each batch size; all take turns."""
    rows = list[dict[str, Any]]()
    with ExitStack() as stack:
        runners = {
            label: stack.enter_context(backend.load(folder / file, threads=given.threads))
            for label, file, backend in ROWS
            if (folder / file).is_file()
        }
        for batch in given.batch:
            works = [work(runner, batch) for runner in runners.values()]
            clock = time.process_time if given.cpu_time else time.perf_counter
            times = dict(zip(runners, run_rounds(works, given.rounds, 3, clock=clock), strict=True))
            for label, file, _ in ROWS:
                head = {"model": name, "row": label, "batch": batch}
                if label in times:
                    executed = runners[label].execution(batch)
                    summary = {"executed": None if executed is None else executed.summary()}
                    rows.append(head | figures(times[label], times[ROWS[0][0]]) | summary)
                else:
                    rows.append(
                        head | {"ratio": None, "why": f"no {file}; python benchmarks/peers/environments.py nncf"}
                    )
    return rows


def work(runner: Runner, batch: int) -> Callable[[], Any]:
    """One run on noise."""
    shape = [batch, *(size or 1 for size in runner.input_shape[1:])]
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return lambda: runner.run(noise)


def figures(times: list[float], baseline: list[float]) -> dict[str, Any]:
    """What is said of a runner's rounds beside the baseline's."""
    ratios = sorted(own / base for own, base in zip(times, baseline, strict=True))
    return {
        "median_ms": round(1000 * statistics.median(times), 2),
        "min_ms": round(1000 * min(times), 2),
        "ratio": round(statistics.median(ratios), 3),
        "quartiles": [round(ratios[len(ratios) // 4], 3), round(ratios[3 * len(ratios) // 4], 3)],
        "ratio_of_minima": round(min(times) / min(baseline), 3),
    }


def compare(given: argparse.Namespace) -> dict[str, Any]:
    """All models."""
    rows = list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as temporary:
        for name in given.models:
            folder = (given.keep or Path(temporary)).resolve() / name
            write_models(name, given, folder)
            measured = measure(name, given, folder)
            print("\n".join(map(show, measured)), file=sys.stderr, flush=True)
            rows += measured
    return {
        "measured_on": {
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "threads": given.threads or "as the runtimes choose",
            "clock": "processor time of all threads" if given.cpu_time else "wall clock",
            "rounds": given.rounds,
            **{package: version(package) for package in ("onnxruntime", "openvino", "torch")},
        },
        "ratio": f"median over the rounds of the time to that of {ROWS[0][0]} in the same round",
        "rows": rows,
    }


def show(row: dict[str, Any]) -> str:
    """One line of the table."""
    head = f"{row['model']:<30}{row['row']:<60}{row['batch']:>4}"
    if row["ratio"] is None:
        return f"{head}  {row['why']}"
    return f"{head}{row['median_ms']:>10}{row['ratio']:>8}{row['ratio_of_minima']:>8}  {row['executed'] or ''}"


def processor() -> str:
    """Its name, as far as the system tells it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def main() -> None:
    """Measure, or say why not."""
    given = arguments().parse_args()
    try:
        answer = compare(given)
    except InputError as error:  # data that is not at hand, say
        answer = {"rows": None, "why": str(error)}
    print(json.dumps(answer, indent=2))


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(MODELS), help="timm names")
    parser.add_argument("--batch", type=lambda text: [int(size) for size in text.split(",")], default=[1, 8])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=0, help="0 leaves it to the runtimes")
    parser.add_argument("--cpu-time", action="store_true", help="processor time in place of the wall clock")
    parser.add_argument("--calibration-data", default=str(DATA / "imagenet" / "calibration500.zip"))
    parser.add_argument("--calibration-images", type=int, default=32)
    parser.add_argument(
        "--keep", type=Path, default=None, help="a folder to leave the models in, and to take them from"
    )
    return parser


if __name__ == "__main__":
    main()
