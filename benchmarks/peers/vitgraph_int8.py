"""vitgraph itself, measured as its peers are: a recipe, from a model in memory to the quantized ONNX file, capture included."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _job import Job, run

from vitgraph import Context, capture_model, get_target, load_model
from vitgraph.backends.onnx.lowering import lower
from vitgraph.compile.recipe import load_recipe
from vitgraph.passes import find_pass


class Stored:
    """The calibration images of the job."""

    def __init__(self, path: str) -> None:
        self._pixels = torch.from_numpy(np.load(path))

    def __len__(self) -> int:
        return len(self._pixels)

    def batches(self, size: int) -> Iterator[tuple[torch.Tensor, None]]:
        """Batches of at most `size`."""
        yield from ((pixels, None) for pixels in self._pixels.split(size))


def main() -> None:
    """Load the model, which the peers have as an ONNX file, before the clock starts."""
    import sys

    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    model = load_model(given["model"], weights=given["weights"])
    recipe = load_recipe(given["setting"], find_pass)

    def quantize(job: Job) -> dict[str, Any]:
        context = Context(get_target("a100"), calibration=Stored(job["calibration"]))
        lower(recipe.pipeline.run(capture_model(model), context), Path(job["out"]))
        return {"recipe": recipe.name, "pipeline": str(recipe.pipeline)}

    run(quantize, ["torch", "onnx-ir"])


if __name__ == "__main__":
    main()
