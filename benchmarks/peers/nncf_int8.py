"""NNCF from ONNX to ONNX, as its documentation has it for transformers: `model_type=TRANSFORMER`, bias correction as it comes.

The setting is its preset: `mixed`, which that model type brings, has asymmetric activations, which TensorRT does not take;
`performance` has symmetric ones.
"""

from __future__ import annotations

from typing import Any

import nncf
import numpy as np
import onnx
from _job import Job, run


def quantize(job: Job) -> dict[str, Any]:
    """Write the quantized file; the settings used."""
    images = np.load(job["calibration"])
    quantized = nncf.quantize(
        onnx.load(job["fp32"]),
        nncf.Dataset(list(images), lambda image: {job["input"]: image[None]}),
        subset_size=len(images),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset(job["setting"]),
    )
    onnx.save(quantized, job["out"])
    return {"model_type": "TRANSFORMER", "preset": job["setting"], "fast_bias_correction": True}


if __name__ == "__main__":
    run(quantize, ["nncf", "onnx", "onnxruntime"])
