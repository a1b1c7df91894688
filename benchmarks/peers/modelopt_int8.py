"""NVIDIA Model Optimizer from ONNX to ONNX in INT8.

The setting is its calibration method, `entropy` (its default) or `max`; with `-matmul` only matrix products are quantized, and not
the additions of the residual stream, which it quantizes too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _job import Job, run
from modelopt.onnx.quantization import quantize as modelopt_quantize


def quantize(job: Job) -> dict[str, Any]:
    """Write the quantized file; the settings used."""
    method, _, products = job["setting"].partition("-")
    modelopt_quantize(
        job["fp32"],
        quantize_mode="int8",
        calibration_data={job["input"]: np.load(job["calibration"])},
        calibration_method=method,
        op_types_to_quantize=["MatMul"] if products else None,
        calibration_eps=["cpu"],
        output_path=job["out"],
    )
    return {
        "calibration_method": method,
        "operators": ["MatMul"] if products else "its default",
        "high_precision_dtype": "fp16, its default",
    }


if __name__ == "__main__":
    run(quantize, ["nvidia-modelopt", "onnx", "onnxruntime-gpu", "torch"])
