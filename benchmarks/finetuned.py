"""Accuracy that fine-tuning recovers: the small ViT of CIFAR-10 at half of its multiply-accumulates by LPViT, or under N:M levels that ELSA chose.

    python benchmarks/finetuned.py --out out/finetuned
    python benchmarks/finetuned.py --out out/finetuned --only "tiles, fisher"

Each row prunes by a pipeline (tiles and units as in `block_pruning.py`; levels by magnitude), then trains the program as it is (`vitgraph train
--recipe finetune`) with the 50,000 training images and the dense model as its teacher. Accuracy is of the 5,000 test images, which nothing is chosen by. One JSON object on standard output; what is
finished in `--out` is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

from block_pruning import PREPARED, steps_of
from gpusq import IMAGES, STEPS, TEST, Runs

LAYERS = [f"blocks.{block}.{layer}" for block in range(4) for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]


def levels(kept: str) -> str:
    """Masks of `kept` of every 4 weights, a digit a layer."""
    by_level = {n: [path for path, digit in zip(LAYERS, kept, strict=True) if digit == n] for n in ("1", "2")}
    return ",".join(f"nm-mask{{n={n} m=4 only=[{','.join(paths)}]}}" for n, paths in by_level.items() if paths)


BUDGET = 0.5
ROWS = {
    "tiles, fisher": steps_of("fisher, refitted, two rounds", BUDGET),
    "units": steps_of("units, refitted, two rounds", BUDGET),
    "ELSA": levels("2222221121111222"),
    "ERK": levels("1222" * 4),
    "uniform 1:4": levels("1" * 16),
}
"""What each row prunes by. ELSA is the choice of seed 0 in `benchmarks/README.md`; its FLOPs are ERK's, uniform 1:4 has 29 % fewer."""
LENGTH = ("--epochs", "2", "--lr", "2e-3", "--feature-sites", "blocks.*", "--soft", "4", "--feature", "20")


def row(runs: Runs, name: str) -> dict[str, Any]:
    """One start, pruned and trained."""
    steps = ROWS[name]
    calibration = ("--calibration-data", IMAGES[1], "--calibration-images", "512")
    start = runs.captured(name, f"{PREPARED},{steps}", *calibration)
    teacher = runs.captured("teacher", "canonicalize")
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
    print(json.dumps({"images": 5000, "rows": rows, "machine": machine}, indent=2))


if __name__ == "__main__":
    main()
