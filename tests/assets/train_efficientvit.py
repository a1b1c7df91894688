"""Train a small EfficientViT on CIFAR-10: a softmax-free model with real weights to quantize.

    python -m tests.assets.train_efficientvit --train train50000.zip --test test5000.zip --output FILE.safetensors

MIT's EfficientViT (Cai et al., "EfficientViT: Multi-Scale Linear Attention for High-Resolution Dense Prediction", ICCV
2023) as timm builds it, narrowed to CIFAR-10: the stem and the first attention stage keep their input's size, so
attention sees 8x8 = 64 tokens, then 4x4 = 16. Its batch norms stay: folding them is a pass's work. The test images take
no part in training or in any choice made by it: the last epoch's weights are the ones kept, and each epoch writes the
file anew, so that a stop keeps the latest.

    vitgraph compile tests.assets.train_efficientvit:efficientvit_cifar10 --weights FILE.safetensors ...
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitgraph.images.image_set import open_images
from vitgraph.images.preprocess import Preprocessing

SEED = 0
BATCH = 64
LEARNING_RATE = 3e-3
PADDING = 4
ARCHITECTURE: dict[str, Any] = {
    "widths": (8, 16, 32, 64, 96),
    "depths": (1, 1, 2, 1, 2),
    "head_dim": 16,
    "head_widths": (256, 256),
    "num_classes": 10,
}
STRIDES = (1, 2, 2, 1, 2)
"""Of the stem and the four stages; timm's are all 2, which would leave one token of a 32x32 image."""
PREPROCESSING = Preprocessing(
    image_size=(32, 32),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.247, 0.2435, 0.2616),
    resize=(32, 32),
    fit="exact",
    crop="none",
)
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Images:
    """A decoded set: uint8 pixels [N, 3, 32, 32] and class indices [N]."""

    pixels: Tensor
    labels: Tensor


def main() -> None:
    """Read, train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="labelled images to train with (.zip or folder)")
    parser.add_argument("--test", type=Path, required=True, help="labelled images to measure on (.zip or folder)")
    parser.add_argument("--output", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1, help="another count sums in another order: other last bits")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    images = read_images(given.train)
    said = f"{given.epochs} epochs of {len(images.labels)} CIFAR-10 images, seed {SEED}"
    model = efficientvit_cifar10()
    for epoch, loss in enumerate(train(model, images, given.epochs), start=1):
        print(f"epoch {epoch:2d} of {given.epochs}: loss {loss:.4f}", flush=True)
        write(model, given.output, {"training": f"{said}; stopped after epoch {epoch}", "top1": "not measured"})
    test = read_images(given.test)
    top1 = f"{accuracy(model, test):.2%} of {len(test.labels)} test images, float32"
    write(model, given.output, {"training": said, "top1": top1})
    print(f"top-1: {top1}")


def efficientvit_cifar10() -> nn.Module:
    """Make the untrained network: images [B, 3, 32, 32] to logits [B, 10]."""
    from timm.models.efficientvit_mit import EfficientVit

    model: Any = EfficientVit(**ARCHITECTURE)
    model.stem.in_conv.conv.stride = (STRIDES[0], STRIDES[0])
    for stride, stage in zip(STRIDES[1:], model.stages, strict=True):
        stage.blocks[0].main.depth_conv.conv.stride = (stride, stride)
    model.preprocessing, model.class_names = PREPROCESSING, CLASS_NAMES
    made: nn.Module = model
    return made


def read_images(source: Path) -> Images:
    """Decode a labelled set once, by the path every vitgraph command takes; raise InputError without labels."""
    plain = PREPROCESSING.model_copy(update={"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)})
    found = open_images(source, plain)
    found.check_labels(len(CLASS_NAMES))
    pixels = torch.cat([(batch * 255).round().to(torch.uint8) for batch, _ in found.batches(1000)])
    return Images(pixels, torch.tensor(found.labels))


def train(model: nn.Module, images: Images, epochs: int) -> Iterator[float]:
    """Train with AdamW on one cycle of the learning rate, yielding each epoch's mean loss; leaves eval mode on."""
    import_module("torch.random").manual_seed(SEED)
    model.to(memory_format=torch.channels_last)  # half again as fast on a CPU
    model.load_state_dict(efficientvit_cifar10().state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05, fused=True)
    steps = epochs * math.ceil(len(images.labels) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.2)
    for _ in range(epochs):
        model.train()
        losses = [take_step(model, optimizer, schedule, *batch) for batch in shuffle(images)]
        model.eval()
        yield sum(losses) / len(losses)


def take_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    pixels: Tensor,
    labels: Tensor,
) -> float:
    """Take one optimizer step on uint8 pixels [B, 3, 32, 32]; return its loss."""
    loss = functional.cross_entropy(model(augment(preprocess(pixels))), labels, label_smoothing=0.05)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    return loss.item()


def shuffle(images: Images) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the training set once in random order, in batches."""
    order = torch.randperm(len(images.labels))
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        yield images.pixels[rows], images.labels[rows]


def preprocess(pixels: Tensor) -> Tensor:
    """Bring uint8 pixels to network inputs."""
    return PREPROCESSING.normalize(pixels.float() / 255)


def augment(images: Tensor) -> Tensor:
    """Mirror half of the images [B, 3, 32, 32] and shift each by up to four pixels, with mirrored borders."""
    count, _, height, width = images.shape
    images = torch.where(torch.rand(count, 1, 1, 1) < 0.5, images, images.flip(3))
    padded = functional.pad(images, (PADDING,) * 4, mode="reflect")
    corners = [(int(top), int(left)) for top, left in torch.randint(2 * PADDING + 1, (count, 2))]
    cut = [
        image[:, top : top + height, left : left + width] for image, (top, left) in zip(padded, corners, strict=True)
    ]
    return torch.stack(cut).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def accuracy(model: nn.Module, images: Images) -> float:
    """Top-1 of `model`, between 0 and 1."""
    hits = 0
    for start in range(0, len(images.labels), 500):
        rows = slice(start, start + 500)
        hits += int((model(preprocess(images.pixels[rows])).argmax(dim=1) == images.labels[rows]).sum())
    return hits / len(images.labels)


def write(model: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write the weights in float32, the architecture and pre-processing beside them; whole or not at all."""
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    made_of = json.dumps(ARCHITECTURE | {"strides": STRIDES})
    part = path.with_name(path.name + ".part")
    save_file = import_module("safetensors.torch").save_file
    save_file(weights, part, {"architecture": made_of, "preprocessing": PREPROCESSING.to_json()} | metadata)
    part.replace(path)


if __name__ == "__main__":
    main()
