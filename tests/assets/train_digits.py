"""Train the embedded `digits-vit` on scikit-learn's digits and write its two files.

    python -m tests.assets.train_digits --output vitgraph/digits

Writes `images.safetensors` (the fixed split, uint8) and `digits.safetensors` (weights, float16). The held-out digits
take no part in training or in any choice made by it: the last epoch's weights are the ones kept. The last third of the
epochs decays the two smallest weights of each four along K of the block linears, the regularizer of SR-STE (Zhou et
al., "Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch", ICLR 2021, eq. 9) on a model that
stays dense: it makes a 2:4 mask cheap here, as it would not be on a model trained without sparsity in mind.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from vitgraph.digits import build_digits_vit
from vitgraph.frontend.from_digits import PREPROCESSING

SEED = 0
HELD_OUT = 500
EPOCHS = 80
BATCH = 64
THREADS = 2
LEARNING_RATE = 2e-3
PRUNED_DECAY = 6e-3


def main() -> None:
    """Split, train, report, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("vitgraph/digits"), help="folder to write both files into")
    output: Path = parser.parse_args().output
    images = split_digits()
    model = train(preprocess(images["train.images"]), images["train.labels"].long())
    weights = {name: tensor.to(torch.float16).contiguous() for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    held_out, labels = preprocess(images["test.images"]), images["test.labels"].long()
    print(f"held-out top-1, dense: {accuracy(model, held_out, labels):.2%} of {len(labels)}")
    save_file = import_module("safetensors.torch").save_file
    save_file(images, output / "images.safetensors")
    save_file(weights, output / "digits.safetensors")
    for linear in block_linears(model):
        linear.weight.data *= keep_two_of_four(linear.weight.data)
    print(f"held-out top-1, 2:4 by magnitude: {accuracy(model, held_out, labels):.2%}")


def split_digits() -> dict[str, Tensor]:
    """Split scikit-learn's digits, classes evenly: uint8 images [N, 8, 8] and labels [N] of train and test."""
    digits = import_module("sklearn.datasets").load_digits()
    pixels = (torch.tensor(digits.images) * (255 / 16)).round().to(torch.uint8)
    labels = torch.tensor(digits.target).to(torch.uint8)
    train, test = import_module("sklearn.model_selection").train_test_split(
        range(len(labels)), test_size=HELD_OUT, random_state=SEED, stratify=digits.target
    )
    parts = {"train": torch.tensor(train), "test": torch.tensor(test)}
    return {f"{part}.images": pixels[rows] for part, rows in parts.items()} | {
        f"{part}.labels": labels[rows] for part, rows in parts.items()
    }


def preprocess(images: Tensor) -> Tensor:
    """Bring uint8 images [N, 8, 8] to network inputs [N, 1, 24, 24], by the path every vitgraph command takes."""
    return torch.stack([PREPROCESSING.apply(Image.fromarray(image.numpy())) for image in images])


def train(images: Tensor, labels: Tensor) -> nn.Module:
    """Train from scratch with AdamW on a cosine schedule; the same machine gives the same weights."""
    import_module("torch.random").manual_seed(SEED)
    torch.set_num_threads(THREADS)  # sums are split over threads: another count rounds otherwise
    model = build_digits_vit()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    steps = EPOCHS * math.ceil(len(images) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.15)
    for epoch in range(EPOCHS):
        losses = [
            take_step(model, optimizer, schedule, augment(batch), target, decay_pruned=epoch >= EPOCHS * 2 // 3)
            for batch, target in shuffle(images, labels)
        ]
        print(f"epoch {epoch + 1:2d} of {EPOCHS}: loss {sum(losses) / len(losses):.4f}", flush=True)
    return model.eval()


def take_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    images: Tensor,
    labels: Tensor,
    decay_pruned: bool,
) -> float:
    """Take one optimizer step; with `decay_pruned`, then shrink what a 2:4 magnitude mask would remove."""
    loss = functional.cross_entropy(model(images), labels, label_smoothing=0.05)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    if decay_pruned:
        for linear in block_linears(model):
            kept = keep_two_of_four(linear.weight.data)
            linear.weight.data *= 1 - PRUNED_DECAY * ~kept
    return loss.item()


def shuffle(images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the training set once in random order, in batches."""
    order = torch.randperm(len(images))
    for start in range(0, len(images), BATCH):
        rows = order[start : start + BATCH]
        yield images[rows], labels[rows]


def augment(images: Tensor) -> Tensor:
    """Turn, scale and shift each image [B, 1, 24, 24] a little (up to 12 degrees, 10 %, 2 pixels)."""
    count = len(images)
    angle, scale = (torch.rand(count) - 0.5) * 0.42, 1 + (torch.rand(count) - 0.5) * 0.2
    shift = (torch.rand(count, 2) - 0.5) * 0.375
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = torch.stack([cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]], dim=1)
    grid = functional.affine_grid(rows.reshape(count, 2, 3), list(images.shape), align_corners=False)
    background = PREPROCESSING.normalize(torch.zeros(1, 1, 1))
    return functional.grid_sample(images - background, grid, align_corners=False) + background


def block_linears(model: nn.Module) -> list[nn.Linear]:
    """List the linear layers inside the transformer's blocks: qkv, proj, fc1 and fc2 of each."""
    return [module for module in model.get_submodule("blocks").modules() if isinstance(module, nn.Linear)]


def keep_two_of_four(weight: Tensor) -> Tensor:
    """Mark the two largest magnitudes in each four along K of a weight [out, K]."""
    groups = weight.abs().reshape(len(weight), -1, 4)
    kept = torch.zeros_like(groups, dtype=torch.bool).scatter_(2, groups.topk(2, dim=2).indices, True)
    return kept.reshape(weight.shape)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Top-1 of `model` on images [N, 1, 24, 24], between 0 and 1."""
    hits: Tensor = model(images).argmax(dim=1) == labels
    return hits.float().mean().item()


if __name__ == "__main__":
    main()
