"""GPUSQ-ViT on a small ViT of CIFAR-10: what each part of it is worth, as one table.

    python benchmarks/gpusq.py                 # all rows
    python benchmarks/gpusq.py --only whole    # the recipe `gpusq` alone, with its engine

One JSON object on standard output. Every row is a command of its own, which is told; what is finished in `--out` is not trained again.
The model, its FP32 weights (which teach it) and the 50,000 training images are real; accuracy is of the 5,000 test images, which nothing
is chosen by.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("VITGRAPH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
MODEL = "timm.models.vision_transformer:VisionTransformer"
SETTINGS = (
    "--weights", str(DATA / "weights" / "vit_cifar10_p4_d128_l4_h4.safetensors"),
    "--model-args", "img_size=32 patch_size=4 embed_dim=128 depth=4 num_heads=4 mlp_ratio=2 num_classes=10",
    "--image-size", "32", "--resize", "32", "--mean", ".4914,.4822,.4465", "--std", ".2470,.2435,.2616",
)  # fmt: skip
IMAGES = ("--train-data", str(DATA / "cifar10" / "train50000.zip"))
TEST = ("--evaluate-data", str(DATA / "cifar10" / "test5000.zip"))
STEPS = ("--amp", "bf16", "--batch-size", "32")
LENGTH = (
    "--set", "sparse.epochs=2", "--set", "quantized.epochs=1",
    "--set", "sparse.lr=2e-3", "--set", "quantized.lr=3e-4",
)  # fmt: skip


@dataclass(frozen=True)
class Runs:
    """Where finished commands are, and how one is run."""

    folder: Path

    def do(self, name: str, *words: str) -> dict[str, Any]:
        """The report of a command, which is run unless it has been."""
        out = self.folder / name
        report = next((out / each for each in ("train.json", "report.json") if (out / each).is_file()), None)
        if report is None:
            command = [sys.executable, "-m", "vitgraph", *words, "-o", str(out)]
            print(shlex.join(command[1:]), file=sys.stderr, flush=True)
            subprocess.run(command, check=True, stdout=sys.stderr)
            report = out / ("train.json" if words[0] == "train" else "report.json")
        found: dict[str, Any] = json.loads(report.read_text())
        return found

    def captured(self, name: str, pipeline: str, *options: str) -> str:
        """The model as a program, after passes: its file."""
        file = self.folder / f"{name}.safetensors"
        if not file.is_file():
            words = ("opt", MODEL, *SETTINGS, "--batch", "1:8:64", "--pipeline", pipeline, *options, "-o", str(file))
            subprocess.run([sys.executable, "-m", "vitgraph", *words], check=True, stdout=sys.stderr)
        return str(file)

    def whole(self) -> dict[str, Any]:
        """The recipe itself: other rows start from its first stage."""
        return self.do("whole", "train", MODEL, *SETTINGS, *IMAGES, *TEST, *STEPS, *LENGTH)


def fp32(runs: Runs) -> float:
    """The teacher."""
    return float(runs.whole()["evaluation"]["top1_teacher"])


def one_shot(runs: Runs) -> float:
    """2:4 by magnitude and INT8, nothing trained."""
    images = ("--calibration-data", IMAGES[1])
    report = runs.do(
        "one-shot", "compile", MODEL, *SETTINGS, "--recipe", "sparse-int8", "--target", "a100", *images, *TEST
    )
    return float(report["accuracy"]["top1"])


def stage_one(runs: Runs) -> float:
    """2:4 trained, and INT8 put on it untrained."""
    return float(runs.whole()["stages"][1]["top1_before"])


def equal_weights(runs: Runs) -> float:
    """Both stages, all features alike in the second."""
    runs.whole()
    start = str(runs.folder / "whole" / "stages" / "sparse.safetensors")
    teacher = runs.captured("teacher", "canonicalize")
    length = ("--epochs", "1", "--lr", "3e-4", "--feature-weights", "equal")
    report = runs.do("equal", "train", start, "--teacher", teacher, "--recipe", "qat", *IMAGES, *TEST, *STEPS, *length)
    return float(report["stages"][0]["top1"])


def whole(runs: Runs) -> float:
    """The recipe `gpusq`."""
    return float(runs.whole()["stages"][1]["top1"])


def engine(runs: Runs) -> float:
    """The same as `model.onnx` in ONNX Runtime, with its engine checked for sm_80."""
    runs.whole()
    report = runs.do("engine", "compile", str(runs.folder / "whole"), "--target", "a100", *TEST)
    return float(report["accuracy"]["top1"])


def unlabelled(runs: Runs) -> float:
    """The same without labels."""
    report = runs.do("unlabelled", "train", MODEL, *SETTINGS, *IMAGES, *TEST, *STEPS, *LENGTH, "--hard", "0")
    return float(report["stages"][1]["top1"])


def unlabelled_longer(runs: Runs) -> float:
    """The same without labels, with four passes in the first stage and two in the second."""
    length = (*LENGTH, "--set", "sparse.epochs=4", "--set", "quantized.epochs=2")
    report = runs.do("unlabelled_longer", "train", MODEL, *SETTINGS, *IMAGES, *TEST, *STEPS, *length, "--hard", "0")
    return float(report["stages"][1]["top1"])


def int4(runs: Runs) -> float:
    """INT4 weights under pairwise 4:8 masks."""
    words = ("--recipe", "gpusq-int4", *IMAGES, *TEST, *STEPS, *LENGTH)
    return float(runs.do("int4", "train", MODEL, *SETTINGS, *words)["stages"][1]["top1"])


ROWS: Mapping[str, Callable[[Runs], float]] = {
    "fp32": fp32,
    "one-shot": one_shot,
    "stage one": stage_one,
    "equal weights": equal_weights,
    "whole": whole,
    "engine": engine,
    "unlabelled": unlabelled,
    "unlabelled, longer": unlabelled_longer,
    "int4": int4,
}


def main() -> None:
    """The rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/gpusq"), help="where the runs are kept")
    parser.add_argument("--only", nargs="*", choices=list(ROWS), default=list(ROWS))
    given = parser.parse_args()
    runs = Runs(given.out)
    given.out.mkdir(parents=True, exist_ok=True)
    rows = {name: {"what": ROWS[name].__doc__, "top1": ROWS[name](runs)} for name in given.only}
    seconds = {
        out.parent.name: json.loads(out.read_text())["seconds"] for out in sorted(given.out.glob("*/train.json"))
    }
    machine = {"system": f"{platform.system()} {platform.machine()}", "cpus": os.cpu_count()}
    print(json.dumps({"images": 5000, "rows": rows, "seconds": seconds, "machine": machine}, indent=2))


if __name__ == "__main__":
    main()
