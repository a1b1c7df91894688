"""ViT-Tiny with real weights as sparse INT8, distilled without labels: the commands, and what they come to.

    python benchmarks/vit_tiny_sparse.py --out out/imagenet                          # two cores
    python benchmarks/vit_tiny_sparse.py --out out/imagenet --gpu                    # steps for a GPU; not run on one yet
    python benchmarks/vit_tiny_sparse.py --case tiny-imagenet --out out/tiny --gpu   # the model of 200 classes
    python benchmarks/vit_tiny_sparse.py --case imagenet-mlp --out out/mlp           # 2:4 on the MLPs alone
    python benchmarks/vit_tiny_sparse.py --out out/try --images 160                  # 20 steps a stage, to see that all of it runs

2:4 on all 48 linears by SparseGPT over permuted channels, refitted; then training under the masks, then INT8 with INT8 attention, trained too. `--data` has
`weights/`, `imagenet/`, `tiny_imagenet/` and `cifar10/` with their zips; extra images that are not there are left out. Accuracy is of images that nothing is
chosen by. One JSON object on standard output; the commands, and what they tell, on standard error and in `OUT/log.txt`. What was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import ZipFile

DATA = Path(os.environ.get("VITGRAPH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
MODEL = "vit_tiny_patch16_224"
PREPARED = "canonicalize,fold-constants,fuse-layer-norm,fuse-attention,fold-constants,softmax-check"
MASKS = "permute-channels{{score=wanda{only}}},nm-mask{{score=sparsegpt refit=true{only}}}"
SHARED = ("--recipe", "gpusq", "--hard", "0", "--amp", "bf16", "--held-out", "128")
LEARNT = ("--feature-sites", "blocks.*", "--soft", "4", "--feature", "20", "--crop-scale", "0.5", "1")


@dataclass(frozen=True)
class Case:
    """A model, what it learns from, and what it is judged by; files are of the data folder."""

    weights: str
    images: Mapping[str, float]
    """And the share of what is seen that each is: images like those that it is for, then others. `FILE:PREFIX` and `FILE:-PREFIX` are
    those of a file whose names begin so, and the others."""
    evaluation: str
    calibration: str
    model: tuple[str, ...] = ()
    only: str = ""


IMAGENET = Case(
    weights="weights/vit_tiny_patch16_224_in1k.safetensors",
    images={
        "imagenet/train5174.zip:-mini84_": 0.6,
        "imagenet/calibration500.zip": 0.25,
        "imagenet/train5174.zip:mini84_": 0.06,  # came at 84 pixels; few, for the images that count are sharp
        "tiny_imagenet/train20000.zip": 0.06,
        "cifar10/train50000.zip": 0.03,
    },
    evaluation="imagenet/validation500.zip",
    calibration="imagenet/calibration500.zip",
)
CASES = {
    "imagenet": IMAGENET,
    "imagenet-mlp": Case(
        IMAGENET.weights, IMAGENET.images, IMAGENET.evaluation, IMAGENET.calibration, only=" only=[fc1,fc2]"
    ),
    "tiny-imagenet": Case(
        weights="weights/vit_tiny_patch16_224_tinyimagenet200.safetensors",
        images={"tiny_imagenet/train20000.zip": 1.0},
        evaluation="tiny_imagenet/validation4000.zip",
        calibration="tiny_imagenet/train20000.zip",
        model=("--model-args", "num_classes=200", "--resize", "256"),
    ),
}
EPOCHS = {"cpu": (3, 1), "gpu": (8, 2)}
"""Of the two stages."""
STEPS = {
    "cpu": ("--batch-size", "32", "--epoch-images", "4000", "--set", "sparse.lr=1e-4", "--set", "quantized.lr=3e-5"),
    "gpu": (
        "--batch-size",
        "256",
        "--epoch-images",
        "100000",
        "--set",
        "sparse.lr=3e-4",
        "--set",
        "quantized.lr=6e-5",
        "--torchcompile",
    ),
}


@dataclass(frozen=True)
class Work:
    """The commands of a case, in a folder of its own."""

    case: Case
    data: Path
    out: Path
    images: int | None
    """So many a stage alone."""

    def run(self, *words: str) -> None:
        """One command of vitgraph, told and logged."""
        with (self.out / "log.txt").open("a") as log:
            lines = [f"$ vitgraph {shlex.join(words)}\n"]
            command = [sys.executable, "-m", "vitgraph", *words]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
                assert process.stdout is not None
                for source in (lines, process.stdout):
                    for line in source:
                        print(line, end="", file=sys.stderr, flush=True)
                        log.write(line)
                        log.flush()
        if process.returncode:
            raise SystemExit(process.returncode)

    def file(self, name: str) -> str:
        """One of the data folder."""
        return str(self.data / name)

    def judged(self) -> tuple[str, ...]:
        """What accuracy is of."""
        few = () if self.images is None else ("--evaluate-images", "50")
        return ("--evaluate-data", self.file(self.case.evaluation), *few)

    def captured(self, name: str, passes: str, *options: str) -> str:
        """The model as a program, after passes."""
        program = self.out / f"{name}.safetensors"
        if not program.is_file():
            weights = ("--weights", self.file(self.case.weights))
            words = (MODEL, *self.case.model, *weights, "--batch", "1:8:64", "--pipeline", passes, *options)
            self.run("opt", *words, "-o", str(program))
        return str(program)

    def start(self) -> str:
        """The masked program that training starts from."""
        count = "500" if self.images is None else "32"
        images = ("--calibration-data", self.file(self.case.calibration), "--calibration-images", count)
        return self.captured("start", f"{PREPARED},{MASKS.format(only=self.case.only)}", *images)

    def train(self, steps: tuple[str, ...]) -> dict[str, Any]:
        """The trained program's report."""
        out = self.out / "trained"
        if not out.is_dir():
            there = {
                name: share for name, share in self.case.images.items() if (self.data / name.split(":")[0]).is_file()
            }
            apart = {self.apart(name): share for name, share in there.items()}
            images = [word for file, share in apart.items() for word in ("--unlabelled-data", f"{file}@{share}")]
            teacher = ("--teacher", self.captured("teacher", "canonicalize"))
            self.run("train", self.start(), *teacher, *images, *self.judged(), *SHARED, *LEARNT, *steps, "-o", str(out))
        found: dict[str, Any] = json.loads((out / "train.json").read_text())
        return found

    def apart(self, name: str) -> Path:
        """A source's images without those that accuracy is reported on: `validation4000.zip` has one of `train20000.zip`."""
        file, _, prefix = name.partition(":")
        wanted, begins = not prefix.startswith("-"), prefix.removeprefix("-")
        with ZipFile(self.file(file)) as images, ZipFile(self.file(self.case.evaluation)) as judged:
            seen = {judged.read(each) for each in judged.namelist()}
            pictures = [each for each in images.namelist() if each != "labels.csv"]
            kept = {each for each in pictures if each.startswith(begins) == wanted and images.read(each) not in seen}
            if len(kept) == len(pictures):
                return self.data / file
            copy = self.out / f"apart_{prefix}_{Path(file).name}"
            with ZipFile(copy, "w") as written:
                for each in images.namelist():
                    content = images.read(each)
                    if each == "labels.csv":
                        rows = content.decode().splitlines(keepends=True)
                        content = "".join(row for row in rows if row.split(",")[0] in {"file", *kept}).encode()
                    if each in kept or each == "labels.csv":
                        written.writestr(each, content)
        return copy

    def engine(self) -> dict[str, Any] | None:
        """The report of its compilation; None where TensorRT-RTX is not installed."""
        out = self.out / "engine"
        if not out.is_dir():
            if find_spec("tensorrt_rtx_bindings") is None:
                return None
            self.run("compile", str(self.out / "trained"), "--target", "a100", *self.judged(), "-o", str(out))
        found: dict[str, Any] = json.loads((out / "report.json").read_text())
        return found


def main() -> None:
    """Mask, train, compile, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), default="imagenet")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--gpu", action="store_true", help="as many and as large steps as for a GPU")
    parser.add_argument("--workers", type=int, default=max(0, (os.cpu_count() or 1) - 2), help="that decode images")
    parser.add_argument(
        "--epoch-images", help="looks in one of the epochs: 3 and 1 on a CPU (4000 each), 8 and 2 on a GPU"
    )
    parser.add_argument("--images", type=int, help="so many images a stage: to try it")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    work, machine = Work(CASES[given.case], given.data, given.out, given.images), "gpu" if given.gpu else "cpu"
    sparse, quantized = EPOCHS[machine]
    steps = (*STEPS[machine], "--workers", str(given.workers), "--set", f"sparse.epochs={sparse}", "--set", f"quantized.epochs={quantized}")  # fmt: skip
    if given.epoch_images:
        steps = (*steps, "--epoch-images", given.epoch_images)
    if given.images:
        few = ("--batch-size", "8", "--epochs", "1", "--epoch-images", str(given.images))
        steps = (*STEPS[machine], "--workers", str(given.workers), *few)
    told, report = work.train(steps), work.engine()
    rows = [{key: stage[key] for key in ("name", "top1_before", "top1", "looks")} for stage in told["stages"]]
    answer = {
        "case": given.case,
        "teacher": told["evaluation"]["top1_teacher"],
        "stages": rows,
        "onnx": None if report is None else report["accuracy"],
        "engine": None if report is None else report["engine"],
        "why_no_engine": None if report else "TensorRT-RTX is not installed",
        "seconds": told["seconds"],
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "device": told["processes"]["device"],
        },
    }
    print(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()
