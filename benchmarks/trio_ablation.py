"""Trio-ViT's three fixes, alone and together, on one softmax-free model: accuracy after INT8 quantization.

One JSON object on standard output, the table on standard error. `plain` is W8A8 everywhere, the inside of attention and its
divisors on uniform grids; `migrate` is channel-wise migration of depthwise inputs, `shift` filter-wise shifting of second
pointwise inputs, `log2` divisors that are powers of two. Computed in eager FP32 with simulated quantizers. With `--spread 8` the
channels of every depthwise input are spread over 2^8 first, the same function to rounding: what migration is there for.

    python benchmarks/trio_ablation.py --model efficientvit_b1 --weights W --calibration-data C --evaluate-data E

Without arguments it measures the EfficientViT trained on CIFAR-10 that the tests use, where its data is at hand.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from vitgraph import Context, Program, capture_model, find_sites, load_model, open_images, read_pipeline
from vitgraph.ir.batch import parse_batch
from vitgraph.pass_manager.numerics import measure

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("VITGRAPH_DATA", ROOT.parent / "shared" / "data"))
FIXES = ("migrate", "shift", "log2")
PREPARED = "canonicalize,fold-constants,fold-batch-norm,fuse-layer-norm,softmax-check{require=softmax-free}"


def rows() -> dict[str, str]:
    """The pipeline of each row; every subset of the fixes is one."""
    found = dict[str, str]()
    for count in range(len(FIXES) + 1):
        for chosen in combinations(FIXES, count):
            found[" + ".join(chosen) or "plain"] = pipeline(chosen)
    found["all, attention in float"] = "channel-migrate,filter-shift,quantize{weights=mse only=[*]}"
    return found


def pipeline(chosen: tuple[str, ...]) -> str:
    """The quantizing half of recipe `trio` with these fixes."""
    steps = [step for fix, step in (("migrate", "channel-migrate"), ("shift", "filter-shift")) if fix in chosen]
    divisor = "log2" if "log2" in chosen else "uniform"
    return ",".join([*steps, "quantize{weights=mse only=[*]}", f"quantize-linear-attention{{divisor={divisor}}}"])


def spread(program: Program, bits: float) -> Program:
    """The same function, depthwise inputs' channels spread over 2^bits: a product there, divided out of the filters."""
    program = program.copy()
    generator = torch.Generator().manual_seed(0)
    for site in find_sites(program).linears:
        if site.role != "depthwise":
            continue
        weight: Any = site.node.args[1]
        values = program.tensor(str(weight.target)).detach()
        factor = torch.exp2((torch.rand(len(values), 1, 1, generator=generator) - 0.5) * bits)
        constant = program.constant_node(site.node, f"{weight.target}_spread", factor)
        site.node.update_arg(0, program.insert(site.node, torch.ops.aten.mul.Tensor, site.node.args[0], constant))
        unspread = program.constant_node(site.node, f"{weight.target}_unspread", values / factor.unsqueeze(1), True)
        site.node.update_arg(1, unspread)
    program.clean()
    return program


def logits(program: Program, images: Any) -> torch.Tensor:
    """The model's outputs for every image, `[images, classes]`."""
    return torch.cat([program.run(pixels) for pixels, _ in images.batches(32)])


def compare(wanted: torch.Tensor, found: torch.Tensor, labels: list[int] | None) -> dict[str, float | None]:
    """Top-1 and agreement in percent, relative L2 distance of the logits; NaN is None."""
    finite = bool(found.isfinite().all())
    right = None if labels is None else 100 * float((found.argmax(1) == torch.tensor(labels)).double().mean())
    return {
        "top1": None if right is None else round(right, 2),
        "agreement": round(100 * float((found.argmax(1) == wanted.argmax(1)).double().mean()), 2),
        "relative_l2": round(measure(wanted, found).relative_l2, 4) if finite else None,
    }


def ablate(given: argparse.Namespace) -> dict[str, Any]:
    """Every row of the table."""
    loaded = load_model(given.model, weights=given.weights)
    calibration = open_images(given.calibration_data, loaded.preprocessing, limit=given.calibration_images)
    evaluation = open_images(given.evaluate_data, loaded.preprocessing, limit=given.evaluate_images)
    program = read_pipeline(PREPARED).run(capture_model(loaded, parse_batch("1:8:64")))
    labels = None if evaluation.labels is None else list(evaluation.labels)
    wanted = logits(program, evaluation)
    if given.spread:
        program = spread(program, given.spread)
    table = {"fp32": compare(wanted, wanted, labels)}
    for name, steps in rows().items():
        start = time.perf_counter()
        quantized = read_pipeline(steps).run(program, Context(calibration=calibration))
        seconds = round(time.perf_counter() - start, 2)
        table[name] = {**compare(wanted, logits(quantized, evaluation), labels), "quantization_seconds": seconds}
        print(f"{name:<28}{show(table[name])}", file=sys.stderr, flush=True)
    return {
        "model": given.model,
        "spread_bits": given.spread,
        "calibration_images": len(calibration),
        "evaluation_images": len(evaluation),
        "rows": table,
    }


def show(row: dict[str, Any]) -> str:
    """One line of the table."""
    cells = [("top-1", row["top1"]), ("agreement", row["agreement"]), ("relative L2", row["relative_l2"])]
    return "".join(f"{name} {'NaN' if value is None else value!s:<10}" for name, value in cells)


def main() -> None:
    """Measure, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tests.assets.train_efficientvit:efficientvit_cifar10")
    parser.add_argument("--weights", default=str(ROOT / "tests" / "assets" / "efficientvit_cifar10.safetensors"))
    parser.add_argument("--calibration-data", default=str(DATA / "cifar10" / "train50000.zip"))
    parser.add_argument("--calibration-images", type=int, default=64)
    parser.add_argument("--evaluate-data", default=str(DATA / "cifar10" / "test5000.zip"))
    parser.add_argument("--evaluate-images", type=int, default=1000)
    parser.add_argument("--spread", type=float, default=0.0, help="powers of two to spread depthwise channels over")
    given = parser.parse_args()
    absent = [path for path in (given.weights, given.calibration_data, given.evaluate_data) if _absent(path)]
    print(json.dumps({"rows": None, "why": f"{', '.join(absent)}: not there"} if absent else ablate(given), indent=2))


def _absent(path: str) -> bool:
    return path not in ("random", "pretrained") and not Path(path).exists()


if __name__ == "__main__":
    main()
