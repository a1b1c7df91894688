"""What fine-tuning regains of models that LPViT has pruned: the small ViT of CIFAR-10 at half of its multiply-accumulates, as one table.

    python benchmarks/finetuned.py --out out/finetuned
    python benchmarks/finetuned.py --out out/finetuned --only "tiles, fisher"

Each row prunes by a pipeline of `benchmarks/block_pruning.py`, then trains the program as it is (`vitgraph train --recipe finetune`) with the 50,000 training
images and the dense model as its teacher. Accuracy is of the 5,000 test images, which nothing is chosen by. One JSON object on standard output; what is
finished in `--out` is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from block_pruning import PREPARED, steps_of
from gpusq import IMAGES, MODEL, SETTINGS, STEPS, TEST, Runs

ROWS = {"tiles, fisher": "fisher, refitted, two rounds", "units": "units, refitted, two rounds"}
"""The rows' methods in `block_pruning.py`."""
BUDGET = 0.5
LENGTH = ("--epochs", "8", "--lr", "1e-3", "--feature-sites", "blocks.*", "--soft", "4", "--feature", "20")


def captured(file: Path, pipeline: str, *options: str) -> str:
    """The model as a program, after passes."""
    if not file.is_file():
        words = ("opt", MODEL, *SETTINGS, "--batch", "1:8:64", "--pipeline", pipeline, *options, "-o", str(file))
        subprocess.run([sys.executable, "-m", "vitgraph", *words], check=True, stdout=sys.stderr)
    return str(file)


def row(runs: Runs, name: str) -> dict[str, Any]:
    """One start, pruned and trained."""
    steps = steps_of(ROWS[name], BUDGET)
    calibration = ("--calibration-data", IMAGES[1], "--calibration-images", "512")
    start = captured(runs.folder / f"{name}.safetensors", f"{PREPARED},{steps}", *calibration)
    teacher = captured(runs.folder / "teacher.safetensors", "canonicalize")
    words = ("--teacher", teacher, "--recipe", "finetune", *IMAGES, *TEST, *STEPS, *LENGTH)
    report = runs.do(name, "train", start, *words)
    (stage,) = report["stages"]
    return {
        "pipeline": steps,
        "top1_dense": report["evaluation"]["top1_teacher"],
        "top1_pruned": stage["top1_before"],
        "top1": stage["top1"],
        "seconds": report["seconds"],
    }


def main() -> None:
    """The rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/finetuned"), help="where the runs are kept")
    parser.add_argument("--only", nargs="*", choices=list(ROWS), default=list(ROWS))
    given = parser.parse_args()
    runs = Runs(given.out)
    given.out.mkdir(parents=True, exist_ok=True)
    rows = {name: row(runs, name) for name in given.only}
    machine = {"system": f"{platform.system()} {platform.machine()}", "cpus": os.cpu_count()}
    print(json.dumps({"images": 5000, "left": BUDGET, "rows": rows, "machine": machine}, indent=2))


if __name__ == "__main__":
    main()
