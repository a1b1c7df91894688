"""vitgraph's INT8 recipes and three other quantizers on the same weights and images: accuracy, cost, and what the engine keeps.

    python benchmarks/peers/environments.py                   # once: the peers' own environments
    python benchmarks/quantization.py                         # ViT-Tiny with ImageNet weights
    python benchmarks/quantization.py --recipes int8,int8-best --only vitgraph
    python benchmarks/quantization.py --model M --weights W --calibration-data C --evaluate-data E --peers nncf,ort

One JSON object on standard output, the table on standard error. Every row: the FP32 model is in memory (vitgraph) or in one
ONNX file (peers), the calibration images are the bytes of one `.npy` that vitgraph pre-processed; a process of its own in an
environment of its own writes a quantized ONNX file. That file is then run in ONNX Runtime as it is written (Q/DQ computed
exactly) on the evaluation images, and built into an sm_80 engine, in which each linear and each attention of the FP32 model is
looked up. A peer that is absent or fails keeps its row: null numbers and the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitgraph import (
    InputError,
    VitgraphError,
    capture_model,
    find_sites,
    get_target,
    load_model,
    open_images,
    read_pipeline,
)
from vitgraph.analysis.roles import BLOCK_ROLES
from vitgraph.backends import find_backend
from vitgraph.backends.onnx.lowering import lower
from vitgraph.backends.tensorrt.backend import build_engine, unbuildable_why
from vitgraph.backends.tensorrt.engine_check import EnginePlan, PlannedAttention, PlannedLinear, check_contract
from vitgraph.compile.accuracy import Predictions, predict

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ENVIRONMENTS = ROOT / ".peers"
"""Made by `peers/environments.py`."""
DATA = Path(os.environ.get("VITGRAPH_DATA", ROOT.parent / "shared" / "data"))
MODEL, WEIGHTS = "vit_tiny_patch16_224", DATA / "weights" / "vit_tiny_patch16_224_in1k.safetensors"
SETTINGS = {
    "nncf": ("mixed", "performance"),
    "ort": ("minmax", "percentile-inputs"),
    "modelopt": ("entropy", "entropy-matmul"),
}
"""What is measured of each peer: as documented, and the best that was found for this engine; `peers/` says what each means."""
ADAPTERS = {
    "vitgraph": "vitgraph_int8.py",
    "nncf": "nncf_int8.py",
    "ort": "ort_static.py",
    "modelopt": "modelopt_int8.py",
}
FP32 = "canonicalize,fold-constants,fold-batch-norm,fuse-layer-norm,fuse-attention,fold-constants"
TARGET = "a100"


@dataclass
class Row:
    """One quantizer with one setting. What is null has its reason in `why`, or for the engine's part in `engine_why`."""

    flow: str
    setting: str
    top1: float | None = None
    agreement: float | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_rss_mb: int | None = None
    linears_int8: int | None = None
    attentions_int8: int | None = None
    attentions_fused: int | None = None
    gemm: dict[str, int] | None = None
    layers: int | None = None
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    versions: dict[str, str] = field(default_factory=dict[str, str])
    why: str | None = None
    engine_why: str | None = None


@dataclass(frozen=True)
class Bench:
    """What all rows share: the FP32 file, where its linears and attentions are, the images and what FP32 says of them."""

    folder: Path
    job: dict[str, str]
    evaluation: Any
    reference: Predictions
    plan: EnginePlan


def prepare(given: argparse.Namespace, folder: Path) -> Bench:
    """Write the FP32 file and the calibration images once."""
    loaded = load_model(given.model, weights=given.weights)
    program = read_pipeline(FP32).run(capture_model(loaded))
    model = lower(program, folder / "fp32.onnx")
    calibration = open_images(given.calibration_data, loaded.preprocessing, limit=given.calibration_images)
    np.save(folder / "calibration.npy", torch.cat([pixels for pixels, _ in calibration.batches(8)]).numpy())
    evaluation = open_images(given.evaluate_data, loaded.preprocessing, limit=given.evaluate_images)
    linears = find_sites(program).linears
    wanted = {site.path for site in linears if site.role in BLOCK_ROLES} or {site.path for site in linears}
    job = {
        "model": given.model,
        "weights": given.weights,
        "fp32": str(model.path),
        "calibration": str(folder / "calibration.npy"),
        "input": next(iter(model.inputs)),
    }
    return Bench(
        folder,
        job,
        evaluation,
        run_file(model.path, evaluation),
        EnginePlan(
            tuple(PlannedLinear(each.path, each.node, "int8") for each in model.linears if each.path in wanted),
            tuple(PlannedAttention(each.path, each.softmax, "int8") for each in model.attentions),
        ),
    )


def run_file(path: Path, images: Any) -> Predictions:
    """What an ONNX file predicts in ONNX Runtime, image by image."""
    with find_backend("ort").load(path, get_target("cpu")) as runner:
        return predict(runner, images, 1)


def measure(bench: Bench, flow: str, setting: str) -> Row:
    """Quantize in a process of its own, then judge the file."""
    row = Row(flow, setting)
    folder = bench.folder / f"{flow}-{setting}"
    folder.mkdir(exist_ok=True)
    quantized = folder / "model.onnx"
    row.why = quantize(bench, row, quantized)
    if row.why is not None:
        row.engine_why = "there is no quantized file"
        return row
    judge_accuracy(bench, row, quantized)
    judge_engine(bench, row, quantized)
    return row


def quantize(bench: Bench, row: Row, out: Path) -> str | None:
    """Run the adapter and write down time, memory, settings and versions; why there is no file, or None."""
    python = Path(sys.executable) if row.flow == "vitgraph" else ENVIRONMENTS / row.flow / "bin" / "python"
    if not python.exists():
        return f"not installed; python benchmarks/peers/environments.py {row.flow}"
    job = out.with_name("job.json")
    job.write_text(json.dumps({**bench.job, "setting": row.setting, "out": str(out)}), encoding="utf-8")
    out.unlink(missing_ok=True)
    command = [str(python), str(HERE / "peers" / ADAPTERS[row.flow]), str(job)]
    where = None if row.flow == "vitgraph" else out.parent  # peers leave files; a model of one's own is found from here
    done = subprocess.run(command, capture_output=True, text=True, cwd=where, check=False)
    if done.returncode < 0:
        return f"ended by signal {-done.returncode}"
    if done.returncode or not out.is_file():
        return last_line(done.stderr) or last_line(done.stdout) or f"ended with status {done.returncode}"
    answer = json.loads(last_line(done.stdout))
    for name in ("seconds", "cpu_seconds", "peak_rss_mb", "settings", "versions"):
        setattr(row, name, answer[name])
    return None


def judge_accuracy(bench: Bench, row: Row, path: Path) -> None:
    """Top-1 and agreement with FP32 in percent."""
    try:
        found = run_file(path, bench.evaluation)
    except InputError as error:
        row.why = last_line(str(error))
        return
    row.top1 = None if found.top1 is None else round(found.top1, 2)
    row.agreement = round(bench.reference.agreement(found), 2)


def judge_engine(bench: Bench, row: Row, path: Path) -> None:
    """How many of the FP32 model's linears and attentions are INT8 products and fused INT8 kernels in the engine."""
    row.engine_why = unbuildable_why(get_target(TARGET)) or renamed_why(bench, path)
    if row.engine_why is not None:
        return
    try:
        engine = build_engine(path, get_target(TARGET))
    except VitgraphError as error:
        row.engine_why = last_line(str(error))
        return
    verdict = check_contract(engine, bench.plan).engine
    row.linears_int8, row.gemm, row.layers = verdict["linears"]["int8"], verdict["gemm"], verdict["layers"]
    row.attentions_int8, row.attentions_fused = verdict["attention"]["fused_int8"], verdict["attention"]["fused"]


def renamed_why(bench: Bench, path: Path) -> str | None:
    """Why sites can't be looked up by their nodes' names, or None where the quantizer kept every name."""
    import onnx

    there = {node.name for node in onnx.load(path, load_external_data=False).graph.node}
    lost = {site.node for site in (*bench.plan.linears, *bench.plan.attentions)} - there
    return f"{len(lost)} nodes of the FP32 file are not in the quantized one, {min(lost)} among them" if lost else None


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def chosen(given: argparse.Namespace) -> list[tuple[str, str]]:
    """The rows asked for: (flow, setting)."""
    every = [("vitgraph", recipe) for recipe in given.recipes]
    every += [(peer, setting) for peer in given.peers for setting in SETTINGS[peer]]
    return [row for row in every if not given.only or row[0] in given.only or " ".join(row) in given.only]


def compare(given: argparse.Namespace) -> dict[str, Any]:
    """The whole table, each row shown as soon as it is there."""
    with tempfile.TemporaryDirectory() as name:
        folder = (given.keep or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        bench = prepare(given, folder)
        counts = len(bench.plan.linears), len(bench.plan.attentions)
        top1 = bench.reference.top1
        print(header(*counts), file=sys.stderr)
        print(f"{'FP32':<24}{'–' if top1 is None else f'{top1:.2f}':>8}", file=sys.stderr, flush=True)
        measured = list[Row]()
        for flow, setting in chosen(given):
            measured.append(measure(bench, flow, setting))
            print(show(measured[-1]), file=sys.stderr, flush=True)
        return {
            "model": given.model,
            "calibration_images": len(np.load(bench.job["calibration"], mmap_mode="r")),
            "evaluation_images": len(bench.evaluation),
            "measured_on": {
                "processor": processor(),
                "cores": len(os.sched_getaffinity(0)),
                "accuracy": f"onnxruntime {version('onnxruntime')}, Q/DQ as written, no INT8 kernels",
                "engine": f"tensorrt_rtx for {TARGET}, a structural proxy",
            },
            "fp32_top1": None if top1 is None else round(top1, 2),
            "linears": counts[0],
            "attentions": counts[1],
            "rows": [asdict(row) for row in measured],
        }


def processor() -> str:
    """Its name, as far as the system tells it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


COLUMNS = {
    "top1": "top-1",
    "agreement": "agree",
    "seconds": "s",
    "cpu_seconds": "CPU s",
    "peak_rss_mb": "MB",
    "linears_int8": "INT8 of {linears}",
    "attentions_int8": "INT8 MHA of {attentions}",
    "attentions_fused": "any MHA",
}
"""Fields of a row and their headings."""


def header(linears: int, attentions: int) -> str:
    """The table's first line."""
    titles = [title.format(linears=linears, attentions=attentions) for title in COLUMNS.values()]
    return f"{'':<24}" + "".join(f"{title:>{width(title)}}" for title in titles)


def show(row: Row) -> str:
    """One line of the table, with the reason where numbers are missing."""
    values = [(getattr(row, name), width(title.format(linears=48, attentions=12))) for name, title in COLUMNS.items()]
    cells = "".join(f"{'–' if value is None else value:>{wide}}" for value, wide in values)
    return f"{row.flow + ' ' + row.setting:<24}{cells}  {row.why or row.engine_why or ''}".rstrip()


def width(title: str) -> int:
    """Of a column."""
    return max(8, len(title) + 2)


def main() -> None:
    """Measure, or say why not."""
    given = arguments().parse_args()
    given.weights = given.weights or (str(WEIGHTS) if given.model == MODEL else "pretrained")
    if Path(given.weights).is_file():  # the rows run elsewhere
        given.weights = str(Path(given.weights).resolve())
    try:
        answer = compare(given)
    except InputError as error:  # data that is not at hand, say
        answer = {"rows": None, "why": str(error)}
    print(json.dumps(answer, indent=2))


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    images = DATA / "imagenet"
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--weights", help=f"for {MODEL} the file in the data folder, for others `pretrained`")
    parser.add_argument("--calibration-data", default=str(images / "calibration500.zip"))
    parser.add_argument("--calibration-images", type=int, default=64)
    parser.add_argument("--evaluate-data", default=str(images / "validation500.zip"))
    parser.add_argument("--evaluate-images", type=int, default=None, help="as many as there are")
    parser.add_argument("--recipes", type=words, default=["int8"], help="vitgraph's recipes, with commas")
    parser.add_argument("--peers", type=peers, default=list(SETTINGS), help=f"among {','.join(SETTINGS)}; `` for none")
    parser.add_argument("--keep", type=Path, default=None, help="a folder to leave the ONNX files in")
    parser.add_argument("--only", type=rows, default=[], help="rows to measure: vitgraph, nncf, 'ort minmax', …")
    return parser


def words(text: str) -> list[str]:
    """Words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def peers(text: str) -> list[str]:
    """Names of peers."""
    return [known(name, name in SETTINGS, "peer") for name in words(text)]


def rows(text: str) -> list[str]:
    """Names of rows or of flows."""
    return [known(name, name.split()[0] in ADAPTERS, "row") for name in words(text)]


def known(name: str, there: bool, what: str) -> str:
    """The name, if it is one."""
    if not there:
        raise argparse.ArgumentTypeError(f"{name!r} is no {what}; there are {', '.join(ADAPTERS)}")
    return name


if __name__ == "__main__":
    main()
