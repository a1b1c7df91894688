"""NNCF from ONNX to OpenVINO's own format, as its documentation has it for transformers; what OpenVINO then runs is its own INT8 model.

The setting is its preset: `mixed`, which that model type brings, has asymmetric activations; `performance` has symmetric ones.
"""

from __future__ import annotations

from typing import Any

import nncf
import numpy as np
import openvino
from _job import Job, run


def quantize(job: Job) -> dict[str, Any]:
    """Write the quantized file, an `.xml` with its `.bin`; the settings used."""
    images = np.load(job["calibration"])
    quantized = nncf.quantize(
        openvino.Core().read_model(job["fp32"]),
        nncf.Dataset([image[None] for image in images]),
        subset_size=len(images),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset(job["setting"]),
    )
    openvino.save_model(quantized, job["out"], compress_to_fp16=False)
    return {"model_type": "TRANSFORMER", "preset": job["setting"], "fast_bias_correction": True}


if __name__ == "__main__":
    run(quantize, ["nncf", "openvino"])
