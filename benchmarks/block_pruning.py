"""Accuracy against cost of block pruning without training: tiles by score, refitted, and units that leave the model.

One JSON object on standard output, a line for each row on standard error. No labels are used but to evaluate; eager FP32. A row
is a pipeline of its own, from the dense program. Rows of units also say what is left once `remove-pruned` has run:
parameters, ONNX bytes, and the time of one batch in ONNX Runtime on one thread, dense and pruned by turns.

    python benchmarks/block_pruning.py --case vit-tiny --results benchmarks/block_pruning.json --plot benchmarks/block_pruning.svg

`--results` keeps rows as they come, and a second run goes on where the first was; `--plot` draws all rows that the file has.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from vitgraph import Context, Program, capture_model, load_model, open_images, read_pipeline
from vitgraph.backends.onnx.lowering import lower
from vitgraph.backends.ort.backend import Ort
from vitgraph.compile.accuracy import Predictions
from vitgraph.cost.counts import count
from vitgraph.images.preprocess import PreprocessingOptions
from vitgraph.ir.batch import parse_batch

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("VITGRAPH_DATA", HERE.parent.parent / "shared" / "data"))
PREPARED = "canonicalize,fold-constants,fold-batch-norm,fuse-layer-norm,fuse-attention,fold-constants"
SMALL = {
    "img_size": 32,
    "patch_size": 4,
    "embed_dim": 128,
    "depth": 4,
    "num_heads": 4,
    "mlp_ratio": 2,
    "num_classes": 10,
}
CIFAR = ("32", "0.4914,0.4822,0.4465", "0.2470,0.2435,0.2616", "32x32", "none", None)
CASES: dict[str, dict[str, Any]] = {
    "cifar": {
        "title": "ViT p4 d128 l4 h4, CIFAR-10, 5000 images",
        "model": "vit_tiny_patch16_224", "args": SMALL, "images": CIFAR,
        "weights": DATA / "weights" / "vit_cifar10_p4_d128_l4_h4.safetensors",
        "calibration": (DATA / "cifar10" / "train50000.zip", 512),
        "evaluation": (DATA / "cifar10" / "test5000.zip", None),
    },
    "vit-tiny": {
        "title": "ViT-Tiny, ImageNet, 500 images",
        "model": "vit_tiny_patch16_224", "args": {}, "images": (None,) * 6,
        "weights": DATA / "weights" / "vit_tiny_patch16_224_in1k.safetensors",
        "calibration": (DATA / "imagenet" / "calibration500.zip", 128),
        "evaluation": (DATA / "imagenet" / "validation500.zip", None),
    },
    "digits": {
        "title": "digits-vit, 100 images",
        "model": "digits-vit", "args": {}, "images": (None,) * 6, "weights": "pretrained",
        "calibration": ("digits:train", 16), "evaluation": ("digits:test", 100),
    },
}  # fmt: skip
METHODS = {
    "magnitude, uniform": "block-prune{{rows=16 cols=16 score=magnitude uniform=true budget={budget}}}",
    "magnitude, slope": "block-prune{{rows=16 cols=16 score=magnitude budget={budget}}}",
    "taylor": "block-prune{{rows=16 cols=16 score=taylor budget={budget}}}",
    "fisher": "block-prune{{rows=16 cols=16 budget={budget}}}",
    "magnitude, uniform, refitted": "block-prune{{rows=16 cols=16 score=magnitude uniform=true refit=true budget={budget}}}",
    "fisher, refitted": "block-prune{{rows=16 cols=16 refit=true budget={budget}}}",
    "fisher, refitted, two rounds": "block-prune{{rows=16 cols=16 refit=true budget={half}}},materialize,"
    "block-prune{{rows=16 cols=16 refit=true budget={budget}}}",
    "units, refitted": "block-prune{{granularity=units refit=true budget={budget}}},remove-pruned",
    "units, refitted, two rounds": "block-prune{{granularity=units refit=true budget={root}}},remove-pruned,"
    "block-prune{{granularity=units refit=true budget={root}}},remove-pruned",
}
BUDGETS = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
TURNS = 15


def measure(case: str, methods: list[str], budgets: list[float], results: Path | None) -> dict[str, Any]:
    """Every row of a case that `results` does not have yet."""
    known: dict[str, Any] = json.loads(results.read_text()) if results and results.exists() else {}
    found = known.setdefault(case, {"title": CASES[case]["title"], "rows": []})
    rows = [
        (m, b) for m in methods for b in budgets if not any((r["method"], r["budget"]) == (m, b) for r in found["rows"])
    ]
    if rows:
        bench = Bench(case)
        found |= bench.setting()
    for method, budget in rows:
        found["rows"].append(bench.row(method, budget))
        print(show(found["rows"][-1]), file=sys.stderr, flush=True)
        if results:
            results.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return known


def steps_of(method: str, budget: float) -> str:
    """The pipeline of a row; the first of two rounds goes half of the way."""
    return METHODS[method].format(budget=budget, half=round((1 + budget) / 2, 4), root=round(budget**0.5, 4))


class Bench:
    """A dense model with its images."""

    def __init__(self, name: str) -> None:
        case = CASES[name]
        options = PreprocessingOptions.parse(*case["images"])
        model = load_model(case["model"], weights=case["weights"], model_args=case["args"], preprocessing=options)
        self.calibration = open_images(str(case["calibration"][0]), model.preprocessing, limit=case["calibration"][1])
        evaluation = open_images(str(case["evaluation"][0]), model.preprocessing, limit=case["evaluation"][1])
        self.dense = read_pipeline(PREPARED).run(capture_model(model, parse_batch("1:8:64")))
        self.images = [pixels for pixels, _ in evaluation.batches(50)]
        self.labels = torch.tensor(list(evaluation.labels or ()))
        self.reference, self.wanted = self.predict(self.dense)
        self.cost = count(self.dense)

    def setting(self) -> dict[str, Any]:
        """What all rows share."""
        return {
            "dense_top1": round(self.reference.top1 or 0.0, 2),
            "macs": self.cost.macs,
            "calibration_images": len(self.calibration),
            "evaluation_images": len(self.labels),
            "threads": torch.get_num_threads(),
        }

    def predict(self, program: Program) -> tuple[Predictions, torch.Tensor]:
        """Classes and logits of every image."""
        logits = torch.cat([program.run(pixels) for pixels in self.images])
        return Predictions(logits.argmax(-1), self.labels), logits

    def row(self, method: str, budget: float) -> dict[str, Any]:
        """One line of the table."""
        steps, start = steps_of(method, budget), time.perf_counter()
        pruned = read_pipeline(steps).run(self.dense, Context(calibration=self.calibration))
        seconds = time.perf_counter() - start
        found, logits = self.predict(pruned)
        p = self.wanted.double().log_softmax(-1)
        divergence = float((p.exp() * (p - logits.double().log_softmax(-1))).sum(-1).mean())
        row = {
            "method": method,
            "budget": budget,
            "left": round(count(pruned).nonzero_macs / self.cost.macs, 4),
            "top1": round(found.top1 or 0.0, 2),
            "agreement": round(self.reference.agreement(found), 2),
            "divergence": round(divergence, 4),
            "seconds": round(seconds, 1),
            "pipeline": steps,
        }
        return row | (self.smaller(pruned) if "remove-pruned" in steps else {})

    def smaller(self, pruned: Program) -> dict[str, Any]:
        """What is left of the model, as ratios to the dense one; times by turns."""
        with tempfile.TemporaryDirectory() as folder:
            sizes = [onnx_bytes(each, Path(folder) / str(at)) for at, each in enumerate((self.dense, pruned))]
        batch, times = self.images[0][:8], ([], [])
        with Ort().load(self.dense, threads=1) as dense, Ort().load(pruned, threads=1) as small:
            for _ in range(TURNS + 3):
                for runner, kept in zip((dense, small), times, strict=True):
                    start = time.perf_counter()
                    runner.run(batch)
                    kept.append(1e3 * (time.perf_counter() - start))
        ms = [statistics.median(kept[3:]) for kept in times]
        return {
            "parameters": round(count(pruned).parameters / self.cost.parameters, 4),
            "macs": round(count(pruned).macs / self.cost.macs, 4),
            "onnx_bytes": round(sizes[1] / sizes[0], 4),
            "cpu_ms": [round(each, 2) for each in ms],
            "cpu_time": round(ms[1] / ms[0], 4),
        }


def block_sparse() -> list[dict[str, Any]]:
    """The only kernel at hand that skips tiles, torch's product with a `sparse_bsr` weight on a CPU: dense time over its time."""
    generator, found = torch.Generator().manual_seed(0), list[dict[str, Any]]()
    x, weight = torch.randn(788, 192, generator=generator), torch.randn(768, 192, generator=generator)
    for side in (16, 32, 64):
        for kept in (0.75, 0.5, 0.2, 0.1):
            tiles = torch.rand(768 // side, 192 // side, generator=generator) < kept
            masked = weight * tiles.repeat_interleave(side, 0).repeat_interleave(side, 1)
            blocks, times = masked.to_sparse_bsr((side, side)), ([], [])
            for _ in range(TURNS):
                for operand, taken in zip((masked, blocks), times, strict=True):
                    start = time.perf_counter()
                    torch.nn.functional.linear(x, operand)
                    taken.append(time.perf_counter() - start)
            dense, sparse = map(statistics.median, times)
            found.append({"side": side, "kept": kept, "gain": round(dense / sparse, 3)})
    return found


def onnx_bytes(program: Program, folder: Path) -> int:
    """Of the ONNX file, with its data where that is apart."""
    lower(program, folder / "model.onnx")
    return sum(file.stat().st_size for file in folder.iterdir())


def show(row: dict[str, Any]) -> str:
    """One line."""
    text = f"{row['method']:<28}{row['left']:6.3f}  top-1 {row['top1']:5.1f}  agreement {row['agreement']:5.1f}  KL {row['divergence']:6.3f}"
    if "cpu_ms" in row:
        text += f"  parameters {row['parameters']:.3f}  ONNX {row['onnx_bytes']:.3f}  CPU time {row['cpu_time']:.3f}"
    return f"{text}  {row['seconds']:6.1f} s"


def plot(known: dict[str, Any], path: Path) -> None:
    """Top-1 over what is left, a panel for each case; the same bytes from the same rows."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "vitgraph", "svg.fonttype": "none"}
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(known), figsize=(5.5 * len(known), 5.0), squeeze=False)
    for axes, case in zip(panels[0], known.values(), strict=True):
        axes.axhline(case["dense_top1"], color="0.6", linewidth=0.8, linestyle=":")
        for color, method in enumerate(METHODS):
            rows = sorted((row for row in case["rows"] if row["method"] == method), key=lambda row: row["left"])
            if rows:
                style = "--" if method.startswith("magnitude") else "-"
                points = [100 * row["left"] for row in rows], [row["top1"] for row in rows]
                axes.plot(*points, style, marker="o", markersize=3, linewidth=1.2, color=f"C{color}", label=method)
        axes.set(
            title=case["title"],
            xlabel="multiply-accumulates left, %",
            ylabel="top-1, %",
            xlim=(100, 45),
            ylim=(0, None),
        )
        axes.grid(alpha=0.25)
    lines = {line.get_label(): line for axes in panels[0] for line in axes.get_lines()[1:]}
    figure.legend(lines.values(), lines.keys(), loc="lower center", ncols=3, fontsize=8)
    figure.tight_layout(rect=(0, 0.14, 1, 1))
    figure.savefig(path, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))


def main() -> None:
    """Measure, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default="vit-tiny")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--budgets", nargs="*", type=float, default=list(BUDGETS))
    parser.add_argument("--results", type=Path, help="a JSON file that rows are kept in")
    parser.add_argument("--plot", type=Path, help="an SVG file; takes matplotlib")
    parser.add_argument("--block-sparse", action="store_true", help="time a kernel that skips tiles, and nothing else")
    given = parser.parse_args()
    if given.block_sparse:
        print(json.dumps({"threads": torch.get_num_threads(), "gain of sparse_bsr": block_sparse()}, indent=1))
        return
    absent = [
        str(each) for each in (CASES[given.case]["weights"], CASES[given.case]["calibration"][0]) if _absent(str(each))
    ]
    if absent:
        print(json.dumps({"rows": None, "why": f"{', '.join(absent)}: not there"}))
        return
    known = measure(given.case, given.methods, given.budgets, given.results)
    if given.plot:
        plot(known, given.plot)
    print(json.dumps(known, indent=1))


def _absent(path: str) -> bool:
    return path != "pretrained" and not path.startswith("digits:") and not Path(path).exists()


if __name__ == "__main__":
    main()
