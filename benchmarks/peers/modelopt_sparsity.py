"""NVIDIA Model Optimizer, SparseGPT 2:4 on a timm model: weights in, weights out.

A job names `model` (timm), `weights`, `calibration` (`.npy` of images) and `out`, the safetensors file to write. Only the
linears of the transformer's blocks are taken over; it masks the head as well.
"""

from __future__ import annotations

from typing import Any

import modelopt.torch.sparsity as mts
import numpy as np
import timm
import torch
from _job import Job, run
from safetensors.torch import load_file, save_file

BATCH = 10


def sparsify(job: Job) -> dict[str, Any]:
    """Write the weights; the settings used, and how many kept weights it moved."""
    model = timm.create_model(job["model"], pretrained=False).eval()
    dense = load_file(job["weights"])
    model.load_state_dict(dense)
    images = torch.from_numpy(np.load(job["calibration"]))
    loader = [images[at : at + BATCH] for at in range(0, len(images), BATCH)]
    with torch.no_grad():
        model = mts.sparsify(model, job["setting"], config={"data_loader": loader, "collect_func": lambda batch: batch})
        found = mts.export(model).state_dict()
    inside = [name for name in dense if name.startswith("blocks.") and dense[name].dim() == 2]
    moved = sum(int(((found[name] != 0) & (found[name] != dense[name])).sum()) for name in inside)
    save_file({**dense, **{name: found[name].contiguous() for name in inside}}, job["out"])
    return {"mode": job["setting"], "batch": BATCH, "linears": len(inside), "kept_weights_moved": moved}


if __name__ == "__main__":
    run(sparsify, ["nvidia-modelopt", "torch", "timm"])
