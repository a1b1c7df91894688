"""A session of ONNX Runtime on the CPU, with the settings that make it compute what a file says."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, cast

from vitgraph.errors import InputError

PROVIDER = "CPUExecutionProvider"
_BROKEN = ["MatMulScaleFusion", "FastGeluFusion"]
"""Optimizers of ONNX Runtime 1.32 that are left out. Of a factor of a factor the first takes the inner away from a second product
that reads it, as where q is v too, and the session is refused: its own graph is invalid then. The second makes a kernel of a GELU that
is written out which takes no value without dimensions; the ONNX operator Gelu is not its business."""
_LACKING = ("bfloat16", "not_implemented")
_CONTRADICTION = "bound to different types"
"""What is said of a file whose types do not fit each other, and no kernel would help."""
_NO_ROOM = ("bad_alloc", "bad allocation", "allocate memory")


class NoKernelError(InputError):
    """ONNX Runtime has no kernel for it on this machine, or not the memory: nothing is said against the file."""


def open_session(model: str | bytes, name: str, threads: int = 0, constants_in: Path | None = None) -> Any:
    """A session of a file, or of a model's bytes, made to run where it is told to; `InputError` where it can't be had, see `refused`.

    Bytes that point to constants in a file beside the model need its folder, `constants_in`.
    """
    runtime = cast(Any, import_module("onnxruntime"))  # it has no type stubs
    runtime.disable_telemetry_events()  # what a machine compiles is nobody else's business
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised, and told once
    # ONNX Runtime's own INT8 kernels add pairs of products in 16 bits on processors without VNNI: attention computed
    # with them was off by 2 to 60 %. Without them Q/DQ runs as the model says, as exact as eager, and was faster too.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    # Idle threads would otherwise spin for tens of milliseconds, on the cores of whatever runs next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if constants_in is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(constants_in))
    try:
        session = runtime.InferenceSession(model, options, providers=[PROVIDER], disabled_optimizers=_BROKEN)
    except Exception as error:  # ONNX Runtime has an exception for each of its status codes, with no common base
        raise refused(name, f"{runtime.__version__} refuses it", error) from error
    if session.get_providers() != [PROVIDER]:
        raise InputError(f"{name}: ONNX Runtime runs it on {session.get_providers()}, not on {PROVIDER}")
    return session


def refused(name: str, what: str, error: Exception) -> InputError:
    """What to raise of an error of ONNX Runtime: a `NoKernelError` where the file is not at fault."""
    text = str(error).lower()
    lacks = _lacks_kernel(text) or any(sign in text for sign in _NO_ROOM)
    return (NoKernelError if lacks else InputError)(f"{name}: ONNX Runtime {what}: {reason(error)}")


def _lacks_kernel(text: str) -> bool:
    return _CONTRADICTION not in text and any(sign in text.replace(" ", "_") for sign in _LACKING)


def reason(error: Exception) -> str:
    """Its first line, and what to do where that is known."""
    text = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:400]
    lowered = text.lower()
    if _lacks_kernel(lowered):
        return f"{text}; its CPU kernels lack this (bfloat16 among them): measure the FP16 or FP32 form instead"
    if "protobuf" in lowered or "unsupported model ir" in lowered:
        return f"{text}; is it a whole ONNX file?"
    return text
