"""Why an engine can't run here, in one line for each reason."""

from __future__ import annotations

from collections.abc import Iterable

REASONS = {
    "VERSION_MISMATCH": "another version of TensorRT-RTX built it; compile again with the one that is installed",
    "UNSUPPORTED_CC": "it was not built for this GPU's compute capability; compile for a target of that capability",
    "OLD_CUDA_DRIVER": "the GPU's driver is too old for it; install a newer one",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old for it; install a newer one",
    "INSUFFICIENT_GPU_MEMORY": "the GPU's memory does not hold it; free memory, or compile for smaller batches",
    "MALFORMED_ENGINE": "it is no whole engine of TensorRT-RTX; compile again",
    "CUDA_ERROR": "CUDA's driver or runtime is not installed as it should be; `nvidia-smi` shows whether the driver answers",
}
"""By the names of `EngineInvalidityDiagnostics`."""
OUT_OF_MEMORY = ("out of memory", "outofmemory", "memoryallocation", "insufficient memory", "bad_alloc")
"""How TensorRT, CUDA and torch say it, in small letters."""


def told(diagnostics: Iterable[str], made_for: tuple[str, ...] | None, here: str) -> list[str]:
    """A line for each reason. `made_for` are the plan's capabilities where it says them, `here` the GPU's."""
    lines = list[str]()
    for name in diagnostics:
        if name == "UNSUPPORTED_CC" and made_for:
            lines.append(
                f"it was built for compute capability {', '.join(made_for)}, and this GPU has {here}; compile for a target of that capability"
            )
        else:
            lines.append(REASONS.get(name, f"TensorRT says {name}"))
    return lines


def ran_out_of_memory(messages: Iterable[str]) -> bool:
    """Whether one of the messages says so."""
    return any(sign in message.lower() for message in messages for sign in OUT_OF_MEMORY)
