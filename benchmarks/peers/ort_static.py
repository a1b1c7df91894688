"""ONNX Runtime's static quantizer, as its documentation has it for TensorRT: Q/DQ, symmetric signed activations and weights.

Weights per channel, matrix products only: with all operators, its default, ViT-Tiny falls to chance. A setting is how ranges are
chosen, `minmax` or `percentile`; with `-inputs` the products' outputs, which it quantizes too, are left in float.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _job import Job, run
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

OPERATORS = ["MatMul", "Gemm"]
METHODS = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}
OPTIONS = {"ActivationSymmetric": True, "WeightSymmetric": True, "CalibTensorRangeSymmetric": True}


class Reader(CalibrationDataReader):
    """The calibration images one by one."""

    def __init__(self, job: Job) -> None:
        self._images: Iterator[Any] = iter(np.load(job["calibration"]))
        self._input = job["input"]

    def get_next(self) -> dict[str, Any] | None:
        """The next feed, or None."""
        image = next(self._images, None)
        return None if image is None else {self._input: image[None]}


def quantize(job: Job) -> dict[str, Any]:
    """Write the quantized file; the settings used."""
    prepared = str(Path(job["out"]).with_suffix(".prepared.onnx"))
    quant_pre_process(job["fp32"], prepared, skip_optimization=True)  # it would fuse nodes and lose their names
    method, _, inputs = job["setting"].partition("-")
    quantize_static(
        prepared, job["out"], Reader(job), quant_format=QuantFormat.QDQ, per_channel=True,
        op_types_to_quantize=OPERATORS, activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
        calibrate_method=METHODS[method],
        extra_options=OPTIONS | ({"OpTypesToExcludeOutputQuantization": OPERATORS} if inputs else {}),
    )  # fmt: skip
    return {
        "operators": OPERATORS,
        "types": "S8S8 symmetric, weights per channel",
        "ranges": method,
        "quantizes": "inputs" if inputs else "inputs and outputs",
    }


if __name__ == "__main__":
    run(quantize, ["onnxruntime", "onnx"])
