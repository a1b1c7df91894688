"""ViT-Tiny with ImageNet weights as sparse INT8, distilled without labels: the command, and what it comes to.

    python benchmarks/vit_tiny_sparse.py --out out/vit_tiny_sparse              # as many steps as for two cores
    python benchmarks/vit_tiny_sparse.py --out out/vit_tiny_sparse --long       # as many as for a GPU
    python benchmarks/vit_tiny_sparse.py --out out/try --images 640             # 20 steps, to see that all of it runs

2:4 on all 48 linears by SparseGPT over permuted channels, refitted; then training under the masks, then INT8 with INT8 attention. `--mlp` masks the MLPs
alone. One JSON object on standard output; the commands, and what they tell, on standard error. `--data` has `weights/` and `imagenet/`, `tiny_imagenet/`,
`cifar10/` with their zips; accuracy is of `imagenet/validation500.zip`, which nothing is chosen by. What was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("VITGRAPH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
MODEL = "vit_tiny_patch16_224"
PREPARED = "canonicalize,fold-constants,fuse-layer-norm,fuse-attention,fold-constants,softmax-check"
MASKS = "permute-channels{{score=wanda{only}}},nm-mask{{score=sparsegpt refit=true{only}}}"


def run(*words: str) -> None:
    """One command of vitgraph, told."""
    print(f"$ vitgraph {shlex.join(words)}", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "vitgraph", *words], check=True, stdout=sys.stderr)


def start(out: Path, data: Path, weights: str, only: str) -> Path:
    """The masked program that training starts from."""
    program = out / "start.safetensors"
    if not program.is_file():
        images = ("--calibration-data", str(data / "imagenet" / "calibration500.zip"), "--calibration-images", "500")
        passes = f"{PREPARED},{MASKS.format(only=only)}"
        run("opt", MODEL, "--weights", weights, "--batch", "1:8:64", "--pipeline", passes, *images, "-o", str(program))
    return program


def sources(data: Path) -> list[str]:
    """ImageNet's own images most of the time; others, at other sizes, between."""
    shares = {"imagenet/train5174.zip": 0.7, "imagenet/calibration500.zip": 0.1, "tiny_imagenet/train20000.zip": 0.15, "cifar10/train50000.zip": 0.05}  # fmt: skip
    return [word for name, share in shares.items() for word in ("--unlabelled-data", f"{data / name}@{share}")]


def main() -> None:
    """Mask, train, compile, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path("out/vit_tiny_sparse"))
    parser.add_argument("--mlp", action="store_true", help="2:4 on the MLPs alone")
    parser.add_argument("--long", action="store_true", help="as many steps as a GPU makes in some minutes")
    parser.add_argument("--images", type=int, help="so many images a stage: to try it")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    weights = str(given.data / "weights" / f"{MODEL}_in1k.safetensors")
    program = start(given.out, given.data, weights, " only=[fc1,fc2]" if given.mlp else "")
    batch, epochs = ("256", (100, 30)) if given.long else ("32", (15, 4))
    epochs, images = (epochs, 5000) if given.images is None else ((1, 1), given.images)
    settings = ["--batch-size", batch, "--epoch-images", str(images)]
    settings += ["--set", f"sparse.epochs={epochs[0]}", "--set", f"quantized.epochs={epochs[1]}"]
    trained, engine = given.out / "trained", given.out / "engine"
    validation = ("--evaluate-data", str(given.data / "imagenet" / "validation500.zip"))
    if not trained.is_dir():
        run(
            "train", str(program), "--teacher", MODEL, "--teacher-weights", weights, "--recipe", "gpusq", *sources(given.data),
            *settings, "--hard", "0", "--amp", "bf16", *validation, "-o", str(trained),
        )  # fmt: skip
    if not engine.is_dir():
        run("compile", str(trained), "--target", "a100", *validation, "-o", str(engine))
    told: dict[str, Any] = json.loads((trained / "train.json").read_text())
    report = json.loads((engine / "report.json").read_text())
    machine = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "device": told["processes"]["device"],
    }
    rows = [{key: stage[key] for key in ("name", "top1_before", "top1", "looks")} for stage in told["stages"]]
    answer = {
        "teacher": told["evaluation"]["top1_teacher"],
        "stages": rows,
        "onnx": report["accuracy"],
        "engine": report["engine"],
    }
    print(json.dumps({**answer, "seconds": told["seconds"], "machine": machine}, indent=2))


if __name__ == "__main__":
    main()
