"""Images for the tests of what training loads: small files of noise, all different, in folders of classes."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vitgraph.images.image_set import ImageSet, open_images
from vitgraph.images.preprocess import Preprocessing

RGB = Preprocessing(image_size=(8, 8), resize=(8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
GRAY = Preprocessing(image_size=(8, 12), resize=(8, 12), mean=(0.5,), std=(0.25,))


def noise_files(folder: Path, count: int, plan: Preprocessing = RGB, classes: int = 2) -> ImageSet:
    """`count` images of 12x10 pixels; image n is of class n % classes, one class: unlabelled."""
    for number in range(count):
        place = folder / (str(number % classes) if classes > 1 else ".")
        place.mkdir(parents=True, exist_ok=True)
        noise = torch.randint(256, (10, 12, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(number))
        Image.frombytes("RGB", (12, 10), noise.numpy().tobytes()).save(place / f"{number:03}.png")
    return open_images(folder, plan)


def numbers(tensor: Tensor) -> tuple[float, ...]:
    """All values of a tensor, in order."""
    return tuple(float(value) for value in tensor.flatten())
