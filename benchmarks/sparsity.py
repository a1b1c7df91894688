"""One-shot N:M masks on one model: every score, alone and with kept weights refitted, on all block linears and on MLPs alone.

One JSON object on standard output, the table on standard error. No labels are used but to evaluate; eager FP32. A row is a
pipeline of its own, from the dense program; its seconds are those of the pipeline, decoding of images included.

    python benchmarks/sparsity.py --model vit_small_patch16_224 --weights W --calibration-data C --evaluate-data E

Without arguments it measures the ViT-Tiny of the data folder, where that is at hand. Beside it Model Optimizer's SparseGPT, for timm models
given by a file of weights, in an environment of its own (`python benchmarks/peers/environments.py modelopt`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitgraph import Context, Program, capture_model, load_model, open_images, read_pipeline
from vitgraph.compile.accuracy import Predictions
from vitgraph.ir.batch import parse_batch
from vitgraph.ir.packing import Packing
from vitgraph.pass_manager.findings import MaskFinding, findings_of

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("VITGRAPH_DATA", HERE.parent.parent / "shared" / "data"))
PEER = "Model Optimizer"
PREPARED = "canonicalize,fold-constants,fold-batch-norm,fuse-layer-norm,fuse-attention,fold-constants"
SCORES = {
    "magnitude": ("", "magnitude"),
    "wanda": ("", "wanda"),
    "sparsegpt": ("", "sparsegpt"),
    "sparsegpt + permutation": ("permute-channels{{n={n} m={m} score=wanda}},", "sparsegpt"),
    "cap": ("", "cap"),
}
SITES = {"all block linears": "", "MLPs alone": " only=[fc1,fc2]"}


def rows(n: int, m: int, v: int = 1) -> dict[tuple[str, str, bool], str]:
    """The pipeline of each row: (which linears, which score, whether refitted)."""
    found = dict[tuple[str, str, bool], str]()
    for where, only in SITES.items():
        for name, (before, score) in SCORES.items():
            for refit in (False, True):
                mask = f"nm-mask{{n={n} m={m} v={v} score={score} refit={str(refit).lower()}{only}}}"
                found[where, name, refit] = before.format(n=n, m=m) + mask
    return found


def predict(
    program: Program, images: list[torch.Tensor], labels: torch.Tensor | None
) -> tuple[Predictions, torch.Tensor]:
    """Classes and logits of every image."""
    logits = torch.cat([program.run(pixels) for pixels in images])
    return Predictions(logits.argmax(-1), labels), logits


def divergence(wanted: torch.Tensor, found: torch.Tensor) -> float:
    """Kullback–Leibler, from the dense model's answers, mean over images, in nats."""
    p = wanted.double().log_softmax(-1)
    return float((p.exp() * (p - found.double().log_softmax(-1))).sum(-1).mean())


def compare(given: argparse.Namespace) -> dict[str, Any]:
    """Every row of the table, each shown as soon as it is there."""
    loaded = load_model(given.model, weights=given.weights)
    calibration = open_images(given.calibration_data, loaded.preprocessing, limit=given.calibration_images)
    evaluation = open_images(given.evaluate_data, loaded.preprocessing, limit=given.evaluate_images)
    dense = read_pipeline(PREPARED).run(capture_model(loaded, parse_batch("1:8:64")))
    images = [pixels for pixels, _ in evaluation.batches(25)]
    labels = None if evaluation.labels is None else torch.tensor(list(evaluation.labels))
    reference, wanted = predict(dense, images, labels)

    def judge(program: Program) -> dict[str, Any]:
        found, logits = predict(program, images, labels)
        agreement = rounded(reference.agreement(found))
        return {"top1": rounded(found.top1), "agreement": agreement, "divergence": round(divergence(wanted, logits), 4)}

    table = list[dict[str, Any]]()
    for (where, score, refit), steps in rows(given.n, given.m, given.v).items():
        names = (f"{where}, {score}", f"{where}, {score}, {'refitted' if refit else 'as chosen'}")
        if given.only and not set(names) & set(given.only):
            continue
        start = time.perf_counter()
        sparse = read_pipeline(steps).run(dense, Context(calibration=calibration))
        seconds = time.perf_counter() - start
        masked = len(findings_of(sparse.ledger, MaskFinding))
        row = {"linears": where, "masked": masked, "score": score, "refit": refit}
        table.append({**row, **judge(sparse), "seconds": round(seconds, 1), "pipeline": steps})
        print(show(table[-1]), file=sys.stderr, flush=True)
    if not given.only or PEER in given.only:
        table.append(peer(given, calibration, judge))
        print(show(table[-1]), file=sys.stderr, flush=True)
    return {
        "model": given.model,
        "pattern": str(Packing(given.n, given.m, v=given.v)),
        "calibration_images": len(calibration),
        "evaluation_images": len(evaluation),
        "threads": torch.get_num_threads(),
        "dense_top1": rounded(reference.top1),
        "rows": table,
    }


def peer(given: argparse.Namespace, calibration: Any, judge: Callable[[Program], dict[str, Any]]) -> dict[str, Any]:
    """Model Optimizer's row, or why there is none."""
    row: dict[str, Any] = {"linears": "all block linears", "score": "Model Optimizer's sparsegpt", "refit": False}
    python = HERE.parent / ".peers" / "modelopt" / "bin" / "python"
    if not python.exists():
        return {**row, "why": "not installed; python benchmarks/peers/environments.py modelopt"}
    if not Path(given.weights).is_file() or (given.n, given.m, given.v) != (2, 4, 1):
        return {**row, "why": "it takes weights from a file, and masks 2:4"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "calibration.npy", torch.cat([pixels for pixels, _ in calibration.batches(8)]).numpy())
        job = {"model": given.model, "weights": str(Path(given.weights).resolve()), "setting": "sparsegpt"}
        job |= {"calibration": str(folder / "calibration.npy"), "out": str(folder / "sparse.safetensors")}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        command = [str(python), str(HERE / "peers" / "modelopt_sparsity.py"), str(folder / "job.json")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
        if done.returncode:
            return {**row, "why": (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]}
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        sparse = capture_model(load_model(given.model, weights=job["out"]), parse_batch("1:8:64"))
        return {**row, **judge(read_pipeline(PREPARED).run(sparse)), "seconds": answer["seconds"], "peer": answer}


def rounded(value: float | None) -> float | None:
    """To two places."""
    return None if value is None else round(value, 2)


def show(row: dict[str, Any]) -> str:
    """One line of the table."""
    name = f"{row['linears']}, {row['score']}{', refitted' if row['refit'] else ''}"
    if "why" in row:
        return f"{name:<64}{row['why']}"
    top1 = "–" if row["top1"] is None else f"{row['top1']:.1f}"
    return f"{name:<64}top-1 {top1:>5}  agreement {row['agreement']:5.1f}  KL {row['divergence']:6.3f}  {row['seconds']:6.1f} s"


def main() -> None:
    """Measure, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--weights", default=str(DATA / "weights" / "vit_tiny_patch16_224_in1k.safetensors"))
    parser.add_argument("--calibration-data", default=str(DATA / "imagenet" / "calibration500.zip"))
    parser.add_argument("--calibration-images", type=int, default=500)
    parser.add_argument("--evaluate-data", default=str(DATA / "imagenet" / "validation500.zip"))
    parser.add_argument("--evaluate-images", type=int, default=None, help="as many as there are")
    parser.add_argument("-n", type=int, default=2)
    parser.add_argument("-m", type=int, default=4)
    parser.add_argument("-v", type=int, default=1, help="rows that share their columns, as in V:N:M")
    parser.add_argument(
        "--only",
        nargs="*",
        default=[],
        help="rows such as 'MLPs alone, wanda' or 'MLPs alone, wanda, refitted', or 'Model Optimizer'",
    )
    given = parser.parse_args()
    absent = [path for path in (given.weights, given.calibration_data, given.evaluate_data) if _absent(path)]
    print(json.dumps({"rows": None, "why": f"{', '.join(absent)}: not there"} if absent else compare(given), indent=2))


def _absent(path: str) -> bool:
    return path not in ("random", "pretrained") and not path.startswith("digits:") and not Path(path).exists()


if __name__ == "__main__":
    main()
