"""A step of `vitgraph train` beside a plain torch loop of the same model, batch and loss; and how fast images are loaded.

    python benchmarks/training.py                    # the CIFAR-10 ViT of the data folder, sparse and INT8
    python benchmarks/training.py --batch-size 64 --steps 60 --workers 2

One JSON object on standard output. The plain loop runs the same trainable graph and the same teacher on the same images, which lie in memory as
tensors, with torch's AdamW and nothing else; both take turns of five steps in one process. The limit is 1.25 times its time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import nn

from vitgraph.api import quantize, sparsify
from vitgraph.finetuning.request import DataSource
from vitgraph.finetuning.runner import train
from vitgraph.images.data_sources import open_data
from vitgraph.images.preprocess import Preprocessing, PreprocessingOptions
from vitgraph.progress import NOTE
from vitgraph.training.division import Division
from vitgraph.training.feature_sites import choose_sites, matching_sites
from vitgraph.training.loader import Loader
from vitgraph.training.mixture import Mixture, Source
from vitgraph.training.objective import Objective
from vitgraph.training.settings import Augmentation, Compression, Distillation, Optimization
from vitgraph.training.student import Student
from vitgraph.training.teacher import Teacher

DATA = Path(os.environ.get("VITGRAPH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
LOADING = Preprocessing(image_size=(32, 32), resize=(32, 32), mean=MEAN, std=STD)
TURN = 5
"""Steps of one side before the other has its turn."""


def model() -> nn.Module:
    """The small ViT, with its weights."""
    made: nn.Module = timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=4, embed_dim=128, depth=4, num_heads=4, mlp_ratio=2, num_classes=10
    )
    made.load_state_dict(load_file(DATA / "weights" / "vit_cifar10_p4_d128_l4_h4.safetensors"))
    return made.eval()


class PlainLoop:
    """What anyone would write."""

    def __init__(self, size: int) -> None:
        images = open_data(DATA / "cifar10" / "train50000.zip", LOADING, 20 * size)
        self.batches = [
            (pixels, torch.eye(10)[labels]) for pixels, labels in images.batches(size) if labels is not None
        ]
        dense = sparsify(model(), example=torch.zeros(1, 3, 32, 32))
        passes = "balance-attention,smooth-quant,equalize-outputs,quantize{outputs=true}"
        program = quantize(dense, self.batches[0][0], passes, target=None, images=64)
        sites = choose_sites(program)
        self.teacher = Teacher(dense, [site.node for site in matching_sites(sites, dense)])
        self.student = Student(program, Compression(), [site.node for site in sites])
        self.objective = Objective(Distillation(), tuple(site.path for site in sites), (1.0,) * len(sites))
        self.optimizer: Any = torch.optim.AdamW(self.student.parameter_groups(Optimization()), lr=1e-4)
        self.taken = 0

    def step(self) -> None:
        """Forward, backward, step."""
        pixels, targets = self.batches[self.taken % len(self.batches)]
        self.taken += 1
        loss = self.objective.loss(*self.student(pixels), self.teacher(pixels), targets)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss.total)
        self.optimizer.step()


def measure(size: int, steps: int, workers: int) -> dict[str, Any]:
    """Seconds of a step, of either side."""
    plain, ours, theirs = PlainLoop(size), list[float](), list[float]()
    last = time.perf_counter()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal last
        if not what.startswith(f"stage quantized{NOTE}"):
            return
        ours.append(time.perf_counter() - last)
        if done % TURN == 0:
            for _ in range(TURN):
                start = time.perf_counter()
                plain.step()
                theirs.append(time.perf_counter() - start)
        last = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        train(
            model(),
            [DataSource(DATA / "cifar10" / "train50000.zip")],
            out=Path(folder) / "out",
            recipe="gpusq",
            settings={"batch_size": size, "epochs": 1, "epoch_images": steps * size},
            stage_settings={"sparse": {"epoch_images": size}},
            preprocessing=PreprocessingOptions(image_size=(32, 32), resize=(32, 32), mean=MEAN, std=STD),
            workers=workers,
            progress=tell,
        )
    a, b = (statistics.median(each[TURN:]) for each in (ours, theirs))
    return {
        "train": round(a, 4),
        "plain_loop": round(b, 4),
        "times_plain": round(a / b, 3),
        "images_per_second": round(size / a),
    }


def loading(size: int, workers: int) -> float:
    """Images a second that are decoded and varied, nothing else done."""
    images = open_data(DATA / "cifar10" / "train50000.zip", LOADING, 40 * size).in_memory()
    loader = Loader(Mixture([Source(images, True)], 0), Augmentation(), Division(size), 0, classes=10, workers=workers)
    start = time.perf_counter()
    for _ in loader.batches(0, 30):
        pass
    return round(30 * size / (time.perf_counter() - start))


def main() -> None:
    """Both, and the machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--workers", type=int, default=0)
    given = parser.parse_args()
    found = measure(given.batch_size, given.steps, given.workers)
    loaded = loading(given.batch_size, given.workers)
    machine = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "torch": torch.__version__,
    }
    print(json.dumps({"seconds_a_step": found, "images_loaded_per_second": loaded, "batch_size": given.batch_size, "limit": 1.25, "machine": machine}, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
