"""How far the answers of a program move when the last bit of its input changes: as far as two right runtimes may differ.

    python benchmarks/last_bit.py out/teacher.safetensors out/trained --data imagenet/validation500.zip

Each value of the preprocessed images becomes its neighbour in FP32, above or below at random. What a float network gives hardly moves. A quantizer rounds some values to the
other side, by a whole step, and every layer after it passes that on. One JSON object on standard output: relative L2 of the logits, and the share of images
whose class stays. Programs and folders of `vitgraph opt`, `quantize` and `train` are taken.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitgraph.frontend.model_request import ModelRequest
from vitgraph.frontend.open_model import open_model, program_of
from vitgraph.images.data_sources import open_data
from vitgraph.ir.batch import ANY_BATCH


def moved(images: Tensor, random: torch.Generator) -> Tensor:
    """Each value's neighbour."""
    up = torch.rand(images.shape, generator=random) < 0.5
    return torch.nextafter(images, torch.where(up, torch.inf, -torch.inf))


def measure(name: str, data: Path, count: int) -> dict[str, Any]:
    """Of one program."""
    model = open_model(ModelRequest(name))
    program, random = program_of(model, ANY_BATCH), torch.Generator().manual_seed(0)
    same, distances = 0, list[float]()
    with torch.inference_mode():
        for images, _ in open_data(data, model.preprocessing, count).batches(20):
            first, second = program.run(images), program.run(moved(images, random))
            same += int((first.argmax(1) == second.argmax(1)).sum())
            distances.append(float((first - second).norm() / first.norm()))
    return {"relative_l2": sum(distances) / len(distances), "same_class_percent": 100 * same / count}


def main() -> None:
    """Every program that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="+", metavar="PROGRAM")
    parser.add_argument("--data", type=Path, required=True, help="images")
    parser.add_argument("--images", type=int, default=200)
    given = parser.parse_args()
    rows = {Path(each).name: measure(each, given.data, given.images) for each in given.programs}
    print(json.dumps({"images": given.images, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
